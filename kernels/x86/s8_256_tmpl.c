/* 8-bit matrices on 256 bits, written once for every dot-product instruction. The including file
 * defines KERNEL(name) and:
 *   struct s8_codes, s8_load(p)  32 bytes of weights in the form the dot product wants
 *   s8_step(acc, codes, q)       acc + products of 4 columns, 32-bit lanes
 *   S8_BIAS                      what s8_step adds to every weight: 128, or 0
 *
 * Weights are read where they are; four tokens share each load.
 */
#include "kernels/x86/vec256.h"

/* ret[i][h] = bias-free sum over 64 columns, m tokens; sum[i * groups] is the activation sum. */
INLINE void s8_dot(__m256i ret[][HALVES], const uint8_t *codes, const int8_t *q, size_t stride,
                   const int32_t *sum, size_t groups, unsigned m) {
        UNROLL for (unsigned i = 0; i < m; i++)
                ret[i][0] = ret[i][1] = _mm256_set1_epi32(-S8_BIAS * sum[i * groups]);
        UNROLL for (unsigned s = 0; s < STEPS; s++) {
                struct s8_codes c0 = s8_load(codes + BLOCK_BYTES * s);
                struct s8_codes c1 = s8_load(codes + BLOCK_BYTES * s + 32);

                UNROLL for (unsigned i = 0; i < m; i++) {
                        __m256i v = broadcast_q(q + i * stride + 4 * s);

                        ret[i][0] = s8_step(ret[i][0], c0, v);
                        ret[i][1] = s8_step(ret[i][1], c1, v);
                }
        }
}

/* a[i] += (float)I * xs for m tokens and one group of 64 columns. */
INLINE void s8_row_tokens(__m256 a[][HALVES], const uint8_t *codes, const struct activations *x,
                          uint32_t t, uint32_t g, unsigned m) {
        size_t groups = groups_of(x->cols), first = t * groups + g;
        __m256i dots[4][HALVES];

        s8_dot(dots, codes, x->q + (size_t)t * x->stride + (size_t)g * GROUP_COLS, x->stride,
               x->sum + first, groups, m);
        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned h = 0; h < HALVES; h++)
                        a[i][h] = add_scaled(a[i][h], dots[i][h], x->scale[first + i * groups]);
        }
}

INLINE void s8_row_tile(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        __m256 a[TOKENS_MAX][HALVES];

        for (uint32_t t = 0; t < n; t++)
                a[t][0] = a[t][1] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES) {
                uint32_t t = 0;

                for (; t + 4 <= n; t += 4)
                        s8_row_tokens(a + t, codes, x, t0 + t, g, 4);
                for (; t < n; t++)
                        s8_row_tokens(a + t, codes, x, t0 + t, g, 1);
        }
        for (uint32_t t = 0; t < n; t++)
                for (unsigned h = 0; h < HALVES; h++)
                        _mm256_storeu_ps(
                                y + t * y_stride + (size_t)tile * TILE_ROWS + 8 * h,
                                _mm256_mul_ps(a[t][h], _mm256_loadu_ps(scales + 8 * h)));
}

void KERNEL(matmul_s8_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        s8_row_tile(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}

/* Exact sums of the activations of each 16 columns: element 4 * i is that of columns 16 * i on. */
INLINE void sums_of_16(int32_t ret[16], const int8_t *q) {
        for (unsigned i = 0; i < 2; i++) {
                __m256i v = _mm256_maddubs_epi16(_mm256_set1_epi8(1),
                                                 _mm256_loadu_si256((const __m256i *)q + i));

                v = _mm256_madd_epi16(v, _mm256_set1_epi16(1));
                v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xb1));
                v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4e));
                _mm256_storeu_si256((__m256i *)ret + i, v);
        }
}

/* One weight group of `steps` * 4 columns: dot holds I, sum the activation sum. */
INLINE __m256 s8_add_group(__m256 a, __m256i dot, int32_t sum, float xs, const float *scales,
                           const float *mins) {
        __m256 v = _mm256_cvtepi32_ps(dot), s = _mm256_loadu_ps(scales), vxs = _mm256_set1_ps(xs);

        if (!mins)
                return _mm256_add_ps(a, _mm256_mul_ps(_mm256_mul_ps(v, vxs), s));
        v = _mm256_add_ps(_mm256_mul_ps(v, s),
                          _mm256_mul_ps(_mm256_set1_ps((float)sum), _mm256_loadu_ps(mins)));
        return _mm256_add_ps(a, _mm256_mul_ps(v, vxs));
}

/* One token and one group of 64 columns: `used` weight groups of it exist. */
INLINE void s8_group_token(__m256 a[HALVES], const uint8_t *codes, const int8_t *q, float xs,
                           const float *scales, const float *mins, uint32_t group, uint32_t used) {
        const uint32_t steps = group / 4;
        int32_t sums[16];

        sums_of_16(sums, q);
        for (uint32_t b = 0; b < used; b++) {
                int32_t sum = group == 16 ? sums[4 * b] : sums[8 * b] + sums[8 * b + 4];
                __m256i d0 = _mm256_set1_epi32(-S8_BIAS * sum), d1 = d0;

                UNROLL for (uint32_t s = 0; s < steps; s++) {
                        const uint8_t *p = codes + (size_t)BLOCK_BYTES * (b * steps + s);
                        __m256i v = broadcast_q(q + 4 * (b * steps + s));

                        d0 = s8_step(d0, s8_load(p), v);
                        d1 = s8_step(d1, s8_load(p + 32), v);
                }
                a[0] = s8_add_group(a[0], d0, sum, xs, scales, mins);
                a[1] = s8_add_group(a[1], d1, sum, xs, scales + 8, mins ? mins + 8 : NULL);
                scales += TILE_ROWS;
                mins = mins ? mins + TILE_ROWS : NULL;
        }
}

INLINE void s8_group_tile(float *y, size_t y_stride, const struct weight_matrix *w,
                          const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                          uint32_t group) {
        const uint32_t per = GROUP_COLS / group;
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / group + 1;
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        size_t first = (size_t)tile * scale_groups;
        __m256 a[TOKENS_MAX][HALVES];

        for (uint32_t t = 0; t < n; t++)
                a[t][0] = a[t][1] = _mm256_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES) {
                uint32_t left = scale_groups - g * per, used = left < per ? left : per;
                size_t s = (first + g * per) * TILE_ROWS;

                for (uint32_t t = 0; t < n; t++)
                        s8_group_token(a[t], codes,
                                       x->q + (size_t)(t0 + t) * x->stride + (size_t)g * GROUP_COLS,
                                       x->scale[(size_t)(t0 + t) * groups + g], w->scales + s,
                                       w->mins ? w->mins + s : NULL, group, used);
        }
        for (uint32_t t = 0; t < n; t++) {
                _mm256_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS, a[t][0]);
                _mm256_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS + 8, a[t][1]);
        }
}

void KERNEL(matmul_s8_group)(float *y, size_t y_stride, const struct weight_matrix *w,
                             const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;
                float *out = y + t0 * y_stride;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
                        if (w->group == 16)
                                s8_group_tile(out, y_stride, w, x, t0, n, tile, 16);
                        else
                                s8_group_tile(out, y_stride, w, x, t0, n, tile, 32);
                }
        }
}
