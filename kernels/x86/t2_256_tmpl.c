/* Ternary matrices on 256 bits, written once for every dot-product instruction. The including
 * file defines KERNEL(name) and two primitives:
 *   dot_step(acc, codes, q)  acc + products of unsigned codes and activations, in lanes that may
 *                            be narrower than 32 bits but hold the sum of one group of 64 columns
 *   dot_finish(acc)          those lanes added up to one 32-bit lane per row
 *
 * One token (gemv): codes are masked in place, two of the four positions after one shift by 4, so
 * half of the sums count four fold and are shifted back at the end of the group.
 * Several tokens (gemm): the codes of a tile and 64 columns are unpacked into 1 KiB of L1 cache
 * and meet the tokens of a chunk four at a time.
 */
#include "kernels/x86/total_sum.h"
#include "kernels/x86/vec256.h"

struct unpacked {
        __m256i u[STEPS][HALVES];
};

INLINE void unpack(struct unpacked *ret, const uint8_t *plane) {
        const __m256i mask = _mm256_set1_epi8(3);

        UNROLL for (unsigned b = 0; b < 4; b++) {
                UNROLL for (unsigned h = 0; h < HALVES; h++) {
                        __m256i v = load_codes(plane + BLOCK_BYTES * b + 32 * h);

                        ret->u[4 * b][h] = _mm256_and_si256(v, mask);
                        ret->u[4 * b + 1][h] = _mm256_and_si256(_mm256_srli_epi16(v, 2), mask);
                        ret->u[4 * b + 2][h] = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
                        ret->u[4 * b + 3][h] = _mm256_and_si256(_mm256_srli_epi16(v, 6), mask);
                }
        }
}

/* ret[i][h] = sum of code * q over one plane and 64 columns, m tokens. */
INLINE void dot_tokens(__m256i ret[][HALVES], const struct unpacked *codes, const int8_t *q,
                       size_t stride, unsigned m) {
        __m256i a[4][HALVES];

        UNROLL for (unsigned i = 0; i < m; i++)
                a[i][0] = a[i][1] = _mm256_setzero_si256();
        UNROLL for (unsigned s = 0; s < STEPS; s++) {
                UNROLL for (unsigned i = 0; i < m; i++) {
                        __m256i v = broadcast_q(q + i * stride + 4 * s);

                        a[i][0] = dot_step(a[i][0], codes->u[s][0], v);
                        a[i][1] = dot_step(a[i][1], codes->u[s][1], v);
                }
        }
        UNROLL for (unsigned i = 0; i < m; i++) {
                ret[i][0] = dot_finish(a[i][0]);
                ret[i][1] = dot_finish(a[i][1]);
        }
}

/* sums[t] += factor * dot product of token t, for m tokens. Both fit 16 bits, so the 16-bit
 * multiply-add is exact; factor 1 costs no more than an addition would. */
INLINE void add_tokens(__m256i sums[][HALVES], const struct unpacked *codes, const int8_t *q,
                       size_t stride, const __m256i factor[HALVES], unsigned m) {
        __m256i dots[4][HALVES];

        dot_tokens(dots, codes, q, stride, m);
        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        sums[i][h] = _mm256_add_epi32(sums[i][h],
                                                      _mm256_madd_epi16(dots[i][h], factor[h]));
        }
}

INLINE void add_all_tokens(__m256i sums[][HALVES], const struct unpacked *codes, const int8_t *q,
                           size_t stride, const __m256i factor[HALVES], uint32_t n) {
        uint32_t t = 0;

        for (; t + 4 <= n; t += 4)
                add_tokens(sums + t, codes, q + t * stride, stride, factor, 4);
        if (n & 2) {
                add_tokens(sums + t, codes, q + t * stride, stride, factor, 2);
                t += 2;
        }
        if (n & 1)
                add_tokens(sums + t, codes, q + t * stride, stride, factor, 1);
}

/* ret[h] = sum of code * q over one plane and 64 columns, one token. */
INLINE void plane_gemv(__m256i ret[HALVES], const uint8_t *plane, const int8_t *q) {
        const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);
        __m256i a[HALVES][2];

        UNROLL for (unsigned h = 0; h < HALVES; h++)
                a[h][0] = a[h][1] = _mm256_setzero_si256();
        UNROLL for (unsigned b = 0; b < 4; b++) {
                UNROLL for (unsigned h = 0; h < HALVES; h++) {
                        __m256i v = load_codes(plane + BLOCK_BYTES * b + 32 * h);
                        __m256i v4 = _mm256_srli_epi16(v, 4);
                        const int8_t *p = q + 16 * b;

                        a[h][0] = dot_step(a[h][0], _mm256_and_si256(v, low), broadcast_q(p));
                        a[h][1] = dot_step(a[h][1], _mm256_and_si256(v, high), broadcast_q(p + 4));
                        a[h][0] = dot_step(a[h][0], _mm256_and_si256(v4, low), broadcast_q(p + 8));
                        a[h][1] = dot_step(a[h][1], _mm256_and_si256(v4, high),
                                           broadcast_q(p + 12));
                }
        }
        UNROLL for (unsigned h = 0; h < HALVES; h++)
                ret[h] = _mm256_add_epi32(dot_finish(a[h][0]),
                                          _mm256_srai_epi32(dot_finish(a[h][1]), 2));
}

INLINE void store_row(float *y, const __m256i sum[HALVES], float inverse, const float *scales) {
        UNROLL for (unsigned h = 0; h < HALVES; h++) {
                __m256 v = _mm256_div_ps(_mm256_cvtepi32_ps(sum[h]), _mm256_set1_ps(inverse));

                _mm256_storeu_ps(y + 8 * h, _mm256_mul_ps(v, _mm256_loadu_ps(scales + 8 * h)));
        }
}

static void t2_row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                        uint32_t tile, int32_t correction) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        __m256i sum[HALVES], dot[HALVES];

        sum[0] = sum[1] = _mm256_set1_epi32(-correction);
        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES) {
                plane_gemv(dot, plane, x->q + (size_t)g * GROUP_COLS);
                sum[0] = _mm256_add_epi32(sum[0], dot[0]);
                sum[1] = _mm256_add_epi32(sum[1], dot[1]);
        }
        store_row(y + (size_t)tile * TILE_ROWS, sum, x->inverse[0],
                  w->scales + (size_t)tile * TILE_ROWS);
}

static void t2_row_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t t0, uint32_t n,
                        const int32_t *correction, uint32_t tile) {
        const __m256i one[HALVES] = { _mm256_set1_epi32(1), _mm256_set1_epi32(1) };
        uint32_t groups = groups_of(w->cols);
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const int8_t *q = x->q + (size_t)t0 * x->stride;
        __m256i sums[TOKENS_MAX][HALVES];
        struct unpacked codes;

        for (uint32_t t = 0; t < n; t++)
                sums[t][0] = sums[t][1] = _mm256_set1_epi32(-correction[t]);
        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES, q += GROUP_COLS) {
                unpack(&codes, plane);
                add_all_tokens(sums, &codes, q, x->stride, one, n);
        }
        for (uint32_t t = 0; t < n; t++)
                store_row(y + t * y_stride + (size_t)tile * TILE_ROWS, sums[t], x->inverse[t0 + t],
                          w->scales + (size_t)tile * TILE_ROWS);
}

void KERNEL(matmul_t2_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        int32_t correction[TOKENS_MAX];

        if (x->n == 1) {
                correction[0] = total_sum(x, 0);
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_row_gemv(y, w, x, tile, correction[0]);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t t = 0; t < n; t++)
                        correction[t] = total_sum(x, t0 + t);
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_row_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, correction, tile);
        }
}

INLINE void load_mantissa(__m256i ret[HALVES], const uint8_t *mantissa) {
        UNROLL for (unsigned h = 0; h < HALVES; h++)
                ret[h] = _mm256_cvtepu8_epi32(
                        _mm_loadl_epi64((const __m128i *)(mantissa + 8 * h)));
}

static void t2_mantissa_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                             uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        size_t first = (size_t)tile * groups * w->planes;
        const uint8_t *plane = (const uint8_t *)w->codes + first * T2_PLANE_BYTES;
        const uint8_t *mantissa = w->mantissa + first * TILE_ROWS;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        __m256 a[HALVES] = { _mm256_setzero_ps(), _mm256_setzero_ps() };

        for (uint32_t g = 0; g < groups; g++) {
                __m256i sum = _mm256_set1_epi32(x->sum[g]);
                __m256i j[HALVES] = { _mm256_setzero_si256(), _mm256_setzero_si256() };

                for (uint32_t p = 0; p < w->planes; p++) {
                        __m256i dot[HALVES], m[HALVES];

                        plane_gemv(dot, plane, x->q + (size_t)g * GROUP_COLS);
                        load_mantissa(m, mantissa);
                        UNROLL for (unsigned h = 0; h < HALVES; h++)
                                j[h] = _mm256_add_epi32(
                                        j[h],
                                        _mm256_madd_epi16(_mm256_sub_epi32(dot[h], sum), m[h]));
                        plane += T2_PLANE_BYTES;
                        mantissa += TILE_ROWS;
                }
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        a[h] = add_scaled(a[h], j[h], x->scale[g]);
        }
        UNROLL for (unsigned h = 0; h < HALVES; h++)
                _mm256_storeu_ps(y + (size_t)tile * TILE_ROWS + 8 * h,
                                 _mm256_mul_ps(a[h], _mm256_loadu_ps(scales + 8 * h)));
}

/* sums[t] = the "-1" of all planes at once: minus the activation sum times all mantissas. */
INLINE void start_mantissa(__m256i sums[][HALVES], const uint8_t *mantissa, uint32_t planes,
                           const int32_t *sum, size_t groups, uint32_t n) {
        __m256i total[HALVES] = { _mm256_setzero_si256(), _mm256_setzero_si256() }, m[HALVES];

        for (uint32_t p = 0; p < planes; p++) {
                load_mantissa(m, mantissa + (size_t)p * TILE_ROWS);
                total[0] = _mm256_add_epi32(total[0], m[0]);
                total[1] = _mm256_add_epi32(total[1], m[1]);
        }
        for (uint32_t t = 0; t < n; t++) {
                __m256i s = _mm256_set1_epi32(-sum[t * groups]);

                sums[t][0] = _mm256_madd_epi16(total[0], s);
                sums[t][1] = _mm256_madd_epi16(total[1], s);
        }
}

static void t2_mantissa_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        size_t first = (size_t)tile * groups * w->planes;
        const uint8_t *plane = (const uint8_t *)w->codes + first * T2_PLANE_BYTES;
        const uint8_t *mantissa = w->mantissa + first * TILE_ROWS;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        const int8_t *q = x->q + (size_t)t0 * x->stride;
        __m256i sums[TOKENS_MAX][HALVES], m[HALVES];
        __m256 a[TOKENS_MAX][HALVES];
        struct unpacked codes;

        for (uint32_t t = 0; t < n; t++)
                a[t][0] = a[t][1] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, q += GROUP_COLS) {
                start_mantissa(sums, mantissa, w->planes, x->sum + (size_t)t0 * groups + g, groups,
                               n);
                for (uint32_t p = 0; p < w->planes; p++) {
                        unpack(&codes, plane);
                        load_mantissa(m, mantissa);
                        add_all_tokens(sums, &codes, q, x->stride, m, n);
                        plane += T2_PLANE_BYTES;
                        mantissa += TILE_ROWS;
                }
                for (uint32_t t = 0; t < n; t++)
                        for (unsigned h = 0; h < HALVES; h++)
                                a[t][h] = add_scaled(a[t][h], sums[t][h],
                                                     x->scale[(size_t)(t0 + t) * groups + g]);
        }
        for (uint32_t t = 0; t < n; t++)
                for (unsigned h = 0; h < HALVES; h++)
                        _mm256_storeu_ps(
                                y + t * y_stride + (size_t)tile * TILE_ROWS + 8 * h,
                                _mm256_mul_ps(a[t][h], _mm256_loadu_ps(scales + 8 * h)));
}

void KERNEL(matmul_t2_mantissa)(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_mantissa_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_mantissa_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}

/* a + ((float)sum * xs) * scales */
INLINE void add_group(__m256 a[HALVES], const __m256i sum[HALVES], float xs, const float *scales) {
        UNROLL for (unsigned h = 0; h < HALVES; h++) {
                __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h]), _mm256_set1_ps(xs));

                a[h] = _mm256_add_ps(a[h], _mm256_mul_ps(v, _mm256_loadu_ps(scales + 8 * h)));
        }
}

static void t2_group_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                          uint32_t tile) {
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const float *scales = w->scales + (size_t)tile * scale_groups * TILE_ROWS;
        __m256 a[HALVES] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
        __m256i dot[HALVES];

        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES) {
                __m256i sum = _mm256_set1_epi32(x->sum[g]);

                plane_gemv(dot, plane, x->q + (size_t)g * GROUP_COLS);
                dot[0] = _mm256_sub_epi32(dot[0], sum);
                dot[1] = _mm256_sub_epi32(dot[1], sum);
                add_group(a, dot, x->scale[g],
                          scales + (size_t)(GROUP_COLS * g / w->group) * TILE_ROWS);
        }
        _mm256_storeu_ps(y + (size_t)tile * TILE_ROWS, a[0]);
        _mm256_storeu_ps(y + (size_t)tile * TILE_ROWS + 8, a[1]);
}

static void t2_group_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                          const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        const __m256i one[HALVES] = { _mm256_set1_epi32(1), _mm256_set1_epi32(1) };
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const float *scales = w->scales + (size_t)tile * scale_groups * TILE_ROWS;
        const int8_t *q = x->q + (size_t)t0 * x->stride;
        __m256i sums[TOKENS_MAX][HALVES];
        __m256 a[TOKENS_MAX][HALVES];
        struct unpacked codes;

        for (uint32_t t = 0; t < n; t++)
                a[t][0] = a[t][1] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES, q += GROUP_COLS) {
                const float *s = scales + (size_t)(GROUP_COLS * g / w->group) * TILE_ROWS;

                for (uint32_t t = 0; t < n; t++)
                        sums[t][0] = sums[t][1] =
                                _mm256_set1_epi32(-x->sum[(size_t)(t0 + t) * groups + g]);
                unpack(&codes, plane);
                add_all_tokens(sums, &codes, q, x->stride, one, n);
                for (uint32_t t = 0; t < n; t++)
                        add_group(a[t], sums[t], x->scale[(size_t)(t0 + t) * groups + g], s);
        }
        for (uint32_t t = 0; t < n; t++) {
                _mm256_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS, a[t][0]);
                _mm256_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS + 8, a[t][1]);
        }
}

void KERNEL(matmul_t2_group)(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_group_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        t2_group_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}
