/* 8-bit matrices with row scales on 512 bits. The bytes are the unsigned operand of vpdpbusd as
 * they are; the missing "-128" is one subtraction of 128 times the activation sum. */
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/x86.h"

/* How far the codes are fetched ahead into the L2 cache while a block of tokens keeps the core
 * busy; a prefetch past the end is harmless. Measured: 4 to 16 KiB do, less does not. */
enum { AHEAD_BYTES = 12 * 1024 };

INLINE void load_codes(__m512i u[STEPS], const uint8_t *codes) {
        UNROLL for (unsigned s = 0; s < STEPS; s++) {
                u[s] = _mm512_loadu_si512(codes + BLOCK_BYTES * s);
                _mm_prefetch(codes + BLOCK_BYTES * s + AHEAD_BYTES, _MM_HINT_T1);
        }
}

INLINE __m512 add_row(__m512 a, __m512i sum, float xs) {
        return _mm512_add_ps(a, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(xs)));
}

/* One tile after the other, so that the weights are one stream; four chains per tile. */
static void row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        const int8_t *q = x->q;
        __m512 a = _mm512_setzero_ps();

        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES, q += GROUP_COLS) {
                __m512i d[4] = { _mm512_set1_epi32(-128 * x->sum[g]), _mm512_setzero_si512(),
                                 _mm512_setzero_si512(), _mm512_setzero_si512() };

                UNROLL for (unsigned s = 0; s < STEPS; s++)
                        d[s % 4] = _mm512_dpbusd_epi32(
                                d[s % 4], _mm512_loadu_si512(codes + BLOCK_BYTES * s),
                                broadcast_q(q + 4 * s));
                d[0] = _mm512_add_epi32(d[0], d[1]);
                d[2] = _mm512_add_epi32(d[2], d[3]);
                a = add_row(a, _mm512_add_epi32(d[0], d[2]), x->scale[g]);
        }
        _mm512_storeu_ps(y + (size_t)tile * TILE_ROWS, _mm512_mul_ps(a, _mm512_loadu_ps(scales)));
}

INLINE void row_block(const struct block *b, uint32_t t, unsigned m) {
        const __m512i minus_128 = _mm512_set1_epi32(0xff80);
        __m512i d[8];

        start_sums(d, minus_128, b, t, m);
        dot_tokens(d, b, t, m);
        UNROLL for (unsigned i = 0; i < m; i++)
                b->a[t + i] = add_row(b->a[t + i], d[i], b->scale[(t + i) * b->groups]);
}

static void row_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        size_t first = (size_t)t0 * groups;
        __m512i u[STEPS];
        __m512 a[TOKENS_MAX];

        for (uint32_t t = 0; t < n; t++)
                a[t] = _mm512_setzero_ps();
        for (uint32_t g = 0; g < groups; g++, codes += S8_GROUP_BYTES) {
                struct block b = {
                        .u = u,
                        .q = x->q + (size_t)t0 * x->stride + (size_t)g * GROUP_COLS,
                        .stride = x->stride,
                        .a = a,
                        .sum = x->sum + first + g,
                        .scale = x->scale + first + g,
                        .groups = groups,
                };

                load_codes(u, codes);
                each_block(row_block, &b, n);
        }
        for (uint32_t t = 0; t < n; t++)
                _mm512_storeu_ps(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                 _mm512_mul_ps(a[t], _mm512_loadu_ps(scales)));
}

void matmul_s8_row_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1) {
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_gemv(y, w, x, tile);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, tile);
        }
}
