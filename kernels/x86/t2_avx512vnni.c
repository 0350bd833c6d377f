/* Ternary matrices on 512 bits. The codes 0..2 are the unsigned operand of vpdpbusd as they are;
 * the missing "-1" is one subtraction of the activation sum.
 *
 * One token (gemv): the weights come from memory once, so the aim is few instructions per byte.
 * Codes are masked but not shifted down: the codes of step k then count 4^k fold, each k has its
 * own accumulator, and the accumulators are shifted once at the end. Nothing is lost, they are
 * multiples of 4^k.
 *
 * Several tokens (gemm): codes are unpacked as they come, for two tiles and up to eight tokens in
 * registers; with scales for groups of columns once, for all tokens of a chunk.
 */
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/total_sum.h"
#include "kernels/x86/x86.h"

enum {
        /* Groups whose 64 fold sums still fit 32 bits: 4096 * 16 * 64 * 3 * 127 < 2^31 */
        SPAN_GROUPS = 4096,
        /* How far gemm fetches the codes ahead into the L2 cache; past the end is harmless. A gemv
         * is one stream, which the processor follows better by itself. */
        AHEAD_BYTES = 4096,
};

INLINE void unpack(__m512i u[STEPS], const uint8_t *plane) {
        const __m512i mask = _mm512_set1_epi8(3);

        UNROLL for (unsigned b = 0; b < 4; b++) {
                __m512i v = _mm512_loadu_si512(plane + BLOCK_BYTES * b);

                _mm_prefetch(plane + BLOCK_BYTES * b + AHEAD_BYTES, _MM_HINT_T1);
                u[4 * b] = _mm512_and_si512(v, mask);
                u[4 * b + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 2), mask);
                u[4 * b + 2] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
                u[4 * b + 3] = _mm512_and_si512(_mm512_srli_epi16(v, 6), mask);
        }
}

/* One tile after the other, so that the weights are one stream that the processor can fetch ahead;
 * even and odd blocks have accumulators of their own, so that no vpdpbusd waits for the one
 * before. */
static void row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t tile, int32_t correction) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const int8_t *q = x->q;
        __m512i total = _mm512_set1_epi32(-correction);

        for (uint32_t begin = 0; begin < groups; begin += SPAN_GROUPS) {
                uint32_t span = groups - begin < SPAN_GROUPS ? groups - begin : SPAN_GROUPS;
                __m512i a[2][4];

                UNROLL for (unsigned k = 0; k < 4; k++)
                        a[0][k] = a[1][k] = _mm512_setzero_si512();
                for (uint32_t g = 0; g < span; g++, plane += T2_PLANE_BYTES, q += GROUP_COLS) {
                        UNROLL for (unsigned b = 0; b < 4; b++) {
                                __m512i v = _mm512_loadu_si512(plane + BLOCK_BYTES * b);

                                UNROLL for (unsigned k = 0; k < 4; k++)
                                        a[b % 2][k] = _mm512_dpbusd_epi32(
                                                a[b % 2][k], _mm512_and_si512(v, code_mask(k)),
                                                broadcast_q(q + 16 * b + 4 * k));
                        }
                }
                total = _mm512_add_epi32(total, _mm512_add_epi32(fold(a[0]), fold(a[1])));
        }
        store_row(y + (size_t)tile * TILE_ROWS, total, x->inverse[0],
                  w->scales + (size_t)tile * TILE_ROWS);
}

/* A product for several tokens. */
struct product {
        const struct weight_matrix *w;
        const struct activations *x;
        float *y;
        size_t y_stride;
};

/* Two tiles (or twice the same) and m of at most eight tokens from t on stay in registers: a load
 * of activations serves two products, and codes are unpacked as they come. */
INLINE void row_pair(const struct product *p, const int32_t corrections[8],
                     const uint32_t tiles[2], uint32_t t, unsigned m) {
        const size_t tile_bytes = (size_t)groups_of(p->w->cols) * T2_PLANE_BYTES;
        const uint8_t *p0 = (const uint8_t *)p->w->codes + tiles[0] * tile_bytes;
        const uint8_t *p1 = (const uint8_t *)p->w->codes + tiles[1] * tile_bytes;
        const int8_t *q = p->x->q + t * p->x->stride;
        const size_t stride = p->x->stride, ahead = t == 0 ? 2 * tile_bytes : 0;
        const __m512i mask = _mm512_set1_epi8(3);
        struct sums a = no_sums(), b = a;

        for (size_t at = 0; at < tile_bytes; at += BLOCK_BYTES, q += 16) {
                __m512i v0 = _mm512_loadu_si512(p0 + at), v1 = _mm512_loadu_si512(p1 + at);

                OPAQUE_VECTOR(v0);
                OPAQUE_VECTOR(v1);
                _mm_prefetch(p0 + at + ahead, _MM_HINT_T1);
                _mm_prefetch(p1 + at + ahead, _MM_HINT_T1);
                UNROLL for (unsigned k = 0; k < 4; k++) {
                        dot_pairs(&a, &b, _mm512_and_si512(v0, mask), _mm512_and_si512(v1, mask),
                                  q + 4 * k, stride, m);
                        v0 = _mm512_srli_epi16(v0, 2);
                        v1 = _mm512_srli_epi16(v1, 2);
                }
        }
        const __m512i all[2][8] = { { a.t0, a.t1, a.t2, a.t3, a.t4, a.t5, a.t6, a.t7 },
                                    { b.t0, b.t1, b.t2, b.t3, b.t4, b.t5, b.t6, b.t7 } };

        UNROLL for (unsigned f = 0; f < 2; f++) {
                UNROLL for (unsigned i = 0; i < m; i++)
                        store_row(p->y + (t + i) * p->y_stride + (size_t)tiles[f] * TILE_ROWS,
                                  _mm512_sub_epi32(all[f][i], _mm512_set1_epi32(corrections[i])),
                                  p->x->inverse[t + i],
                                  p->w->scales + (size_t)tiles[f] * TILE_ROWS);
        }
}

/* m tokens and the tiles [tile, tile_end): the tokens stay in the L1 cache. */
INLINE void row_tokens(const struct product *p, uint32_t tile, uint32_t tile_end, uint32_t t,
                       unsigned m) {
        int32_t corrections[8];

        for (unsigned i = 0; i < m; i++)
                corrections[i] = total_sum(p->x, t + i);
        for (; tile < tile_end; tile += 2)
                row_pair(p, corrections,
                         (const uint32_t[]){ tile, tile + 1 < tile_end ? tile + 1 : tile }, t, m);
}

/* All tokens and the tiles [tile, tile_end), whose codes stay in the L2 cache. */
static void row_gemm(const struct product *p, uint32_t tile, uint32_t tile_end) {
        uint32_t n = p->x->n, t = 0;

        for (; t + 8 <= n; t += 8)
                row_tokens(p, tile, tile_end, t, 8);
        if (n & 4) {
                row_tokens(p, tile, tile_end, t, 4);
                t += 4;
        }
        if (n & 2) {
                row_tokens(p, tile, tile_end, t, 2);
                t += 2;
        }
        if (n & 1)
                row_tokens(p, tile, tile_end, t, 1);
}

void matmul_t2_row_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        const struct product p = { .w = w, .x = x, .y = y, .y_stride = y_stride };
        uint32_t block = blocked_tiles((size_t)groups_of(w->cols) * T2_PLANE_BYTES);

        if (x->n == 1) {
                int32_t sum = total_sum(x, 0);

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_gemv(y, w, x, tile, sum);
                return;
        }
        for (uint32_t tile = tile_begin; tile < tile_end; tile += block)
                row_gemm(&p, tile, tile_end - tile > block ? tile + block : tile_end);
}

INLINE __m512i load_mantissa(const uint8_t *mantissa) {
        return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)mantissa));
}

/* Sum over one plane and 64 columns of (code - 1) * q, one token. */
INLINE __m512i plane_gemv(const uint8_t *plane, const __m512i q[STEPS], __m512i minus_sum) {
        __m512i a[4] = { minus_sum, _mm512_setzero_si512(), _mm512_setzero_si512(),
                         _mm512_setzero_si512() };

        UNROLL for (unsigned b = 0; b < 4; b++) {
                __m512i v = _mm512_loadu_si512(plane + BLOCK_BYTES * b);

                UNROLL for (unsigned k = 0; k < 4; k++)
                        a[k] = _mm512_dpbusd_epi32(a[k], _mm512_and_si512(v, code_mask(k)),
                                                   q[4 * b + k]);
        }
        return fold(a);
}

INLINE void load_q(__m512i q[STEPS], const int8_t *p) {
        UNROLL for (unsigned s = 0; s < STEPS; s++)
                q[s] = broadcast_q(p + 4 * s);
}

static void mantissa_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                          uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        size_t first = (size_t)tile * groups * w->planes;
        const uint8_t *plane = (const uint8_t *)w->codes + first * T2_PLANE_BYTES;
        const uint8_t *mantissa = w->mantissa + first * TILE_ROWS;
        __m512 a = _mm512_setzero_ps();
        __m512i q[STEPS];

        for (uint32_t g = 0; g < groups; g++) {
                __m512i minus_sum = _mm512_set1_epi32(-x->sum[g]), j = _mm512_setzero_si512();

                load_q(q, x->q + (size_t)g * GROUP_COLS);
                for (uint32_t p = 0; p < w->planes; p++) {
                        j = _mm512_dpwssd_epi32(j, plane_gemv(plane, q, minus_sum),
                                                load_mantissa(mantissa));
                        plane += T2_PLANE_BYTES;
                        mantissa += TILE_ROWS;
                }
                a = _mm512_add_ps(a, _mm512_mul_ps(_mm512_cvtepi32_ps(j),
                                                   _mm512_set1_ps(x->scale[g])));
        }
        a = _mm512_mul_ps(a, _mm512_loadu_ps(w->scales + (size_t)tile * TILE_ROWS));
        _mm512_storeu_ps(y + (size_t)tile * TILE_ROWS, a);
}

/* The "-1" of all planes at once: minus the sum of the mantissas, for one vpdpwssd per token. */
INLINE __m512i minus_mantissas(const uint8_t *mantissa, uint32_t planes) {
        __m512i m = _mm512_setzero_si512();

        for (uint32_t p = 0; p < planes; p++)
                m = _mm512_sub_epi32(m, load_mantissa(mantissa + (size_t)p * TILE_ROWS));
        return _mm512_and_si512(m, _mm512_set1_epi32(0xffff));
}

static void mantissa_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                          const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        size_t first = (size_t)tile * groups * w->planes;
        const uint8_t *plane = (const uint8_t *)w->codes + first * T2_PLANE_BYTES;
        const uint8_t *mantissa = w->mantissa + first * TILE_ROWS;
        const int8_t *q = x->q + (size_t)t0 * x->stride;
        __m512i sums[TOKENS_MAX], u[STEPS];
        __m512 a[TOKENS_MAX];

        for (uint32_t t = 0; t < n; t++)
                a[t] = _mm512_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, q += GROUP_COLS) {
                const int32_t *sum = x->sum + (size_t)t0 * groups + g;
                const float *scale = x->scale + (size_t)t0 * groups + g;
                __m512i minus = minus_mantissas(mantissa, w->planes);

                for (uint32_t t = 0; t < n; t++)
                        sums[t] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), minus,
                                                      _mm512_set1_epi32(sum[(size_t)t * groups]));
                for (uint32_t p = 0; p < w->planes; p++) {
                        unpack(u, plane);
                        each_block(add_scaled_sums,
                                   &(struct block){ .u = u, .q = q, .stride = x->stride,
                                                    .sums = sums,
                                                    .factor = load_mantissa(mantissa) }, n);
                        plane += T2_PLANE_BYTES;
                        mantissa += TILE_ROWS;
                }
                for (uint32_t t = 0; t < n; t++)
                        a[t] = _mm512_add_ps(
                                a[t], _mm512_mul_ps(_mm512_cvtepi32_ps(sums[t]),
                                                    _mm512_set1_ps(scale[(size_t)t * groups])));
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                 _mm512_mul_ps(a[t], _mm512_loadu_ps(w->scales +
                                                                     (size_t)tile * TILE_ROWS)));
}

void matmul_t2_mantissa_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                   const struct activations *x, uint32_t tile_begin,
                                   uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        mantissa_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        mantissa_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}

/* a + ((float)sum * xs) * scales */
INLINE __m512 add_group(__m512 a, __m512i sum, float xs, const float *scales) {
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(xs));

        return _mm512_add_ps(a, _mm512_mul_ps(v, _mm512_loadu_ps(scales)));
}

static void group_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                       uint32_t tile) {
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const float *scales = w->scales + (size_t)tile * scale_groups * TILE_ROWS;
        __m512 a = _mm512_setzero_ps();
        __m512i q[STEPS];

        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES) {
                load_q(q, x->q + (size_t)g * GROUP_COLS);
                a = add_group(a, plane_gemv(plane, q, _mm512_set1_epi32(-x->sum[g])), x->scale[g],
                              scales + (size_t)(GROUP_COLS * g / w->group) * TILE_ROWS);
        }
        _mm512_storeu_ps(y + (size_t)tile * TILE_ROWS, a);
}

INLINE void group_block(const struct block *b, uint32_t t, unsigned m) {
        const __m512i minus_one = _mm512_set1_epi32(0xffff);
        __m512i d[8];

        start_sums(d, minus_one, b, t, m);
        dot_tokens(d, b, t, m);
        UNROLL for (unsigned i = 0; i < m; i++)
                b->a[t + i] = add_group(b->a[t + i], d[i], b->scale[(t + i) * b->groups],
                                        b->row_scales);
}

static void group_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        const uint8_t *plane = (const uint8_t *)w->codes + (size_t)tile * groups * T2_PLANE_BYTES;
        const float *scales = w->scales + (size_t)tile * scale_groups * TILE_ROWS;
        size_t first = (size_t)t0 * groups;
        __m512i u[STEPS];
        __m512 a[TOKENS_MAX];

        for (uint32_t t = 0; t < n; t++)
                a[t] = _mm512_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, plane += T2_PLANE_BYTES) {
                struct block b = {
                        .u = u,
                        .q = x->q + (size_t)t0 * x->stride + (size_t)g * GROUP_COLS,
                        .stride = x->stride,
                        .a = a,
                        .sum = x->sum + first + g,
                        .scale = x->scale + first + g,
                        .groups = groups,
                        .row_scales = scales + (size_t)(GROUP_COLS * g / w->group) * TILE_ROWS,
                };

                unpack(u, plane);
                each_block(group_block, &b, n);
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS, a[t]);
}

void matmul_t2_group_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                const struct activations *x, uint32_t tile_begin,
                                uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}
