/* 8-bit matrices with row scales on 256 bits, written once for every dot-product instruction. The
 * including file defines KERNEL(name) and:
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
