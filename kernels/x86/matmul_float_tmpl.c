/* Float weights times float vectors, written once for every vector width. One lane is one row and
 * every row is one chain of additions in column order; tiles (one token) or tokens (several) side
 * by side keep the adders busy meanwhile. */
#include "kernels/ref/ref.h"

enum { TILE_VECTORS = TILE_ROWS / LANES, CHAINS = 8 / TILE_VECTORS };

typedef vf load_fn(const void *codes, size_t index);

INLINE vf load_f16(const void *codes, size_t index) {
        return vf_load_f16((const uint16_t *)codes + index);
}

INLINE vf load_bf16(const void *codes, size_t index) {
        return vf_load_bf16((const uint16_t *)codes + index);
}

INLINE vf load_f32(const void *codes, size_t index) {
        return vf_load((const float *)codes + index);
}

/* `tiles` tiles of one token. */
INLINE void float_gemv(float *y, const struct weight_matrix *w, const float *x, uint32_t tile,
                       load_fn *load, size_t tiles) {
        size_t tile_values = (size_t)w->cols * TILE_ROWS, first = tile * tile_values;
        vf a[CHAINS][TILE_VECTORS];

        UNROLL for (size_t i = 0; i < tiles; i++) {
                UNROLL for (size_t h = 0; h < TILE_VECTORS; h++)
                        a[i][h] = vf_set1(0);
        }
        for (uint32_t c = 0; c < w->cols; c++, first += TILE_ROWS) {
                vf v = vf_set1(x[c]);

                UNROLL for (size_t i = 0; i < tiles; i++) {
                        UNROLL for (size_t h = 0; h < TILE_VECTORS; h++) {
                                vf wc = load(w->codes, first + i * tile_values + h * LANES);

                                a[i][h] = vf_add(a[i][h], vf_mul(wc, v));
                        }
                }
        }
        UNROLL for (size_t i = 0; i < tiles; i++) {
                UNROLL for (size_t h = 0; h < TILE_VECTORS; h++)
                        vf_store(y + (tile + i) * TILE_ROWS + h * LANES, a[i][h]);
        }
}

/* `tokens` tokens of one tile. */
INLINE void float_gemm(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                       size_t x_stride, uint32_t tile, load_fn *load, size_t tokens) {
        size_t first = (size_t)tile * w->cols * TILE_ROWS;
        vf a[CHAINS][TILE_VECTORS];

        UNROLL for (size_t i = 0; i < tokens; i++) {
                UNROLL for (size_t h = 0; h < TILE_VECTORS; h++)
                        a[i][h] = vf_set1(0);
        }
        for (uint32_t c = 0; c < w->cols; c++, first += TILE_ROWS) {
                UNROLL for (size_t h = 0; h < TILE_VECTORS; h++) {
                        vf wc = load(w->codes, first + h * LANES);

                        UNROLL for (size_t i = 0; i < tokens; i++)
                                a[i][h] = vf_add(a[i][h], vf_mul(wc, vf_set1(x[i * x_stride + c])));
                }
        }
        UNROLL for (size_t i = 0; i < tokens; i++) {
                UNROLL for (size_t h = 0; h < TILE_VECTORS; h++)
                        vf_store(y + i * y_stride + (size_t)tile * TILE_ROWS + h * LANES, a[i][h]);
        }
}

INLINE void float_matmul(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                         size_t x_stride, uint32_t n, uint32_t tile, uint32_t tile_end,
                         load_fn *load) {
        if (n == 1) {
                for (; tile + CHAINS <= tile_end; tile += CHAINS)
                        float_gemv(y, w, x, tile, load, CHAINS);
                for (; tile < tile_end; tile++)
                        float_gemv(y, w, x, tile, load, 1);
                return;
        }
        for (; tile < tile_end; tile++) {
                uint32_t t = 0;

                for (; t + CHAINS <= n; t += CHAINS)
                        float_gemm(y + t * y_stride, y_stride, w, x + t * x_stride, x_stride, tile,
                                   load, CHAINS);
                for (; t < n; t++)
                        float_gemm(y + t * y_stride, y_stride, w, x + t * x_stride, x_stride, tile,
                                   load, 1);
        }
}

void KERNEL(matmul_f16)(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                        size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        float_matmul(y, y_stride, w, x, x_stride, n, tile_begin, tile_end, load_f16);
}

void KERNEL(matmul_bf16)(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                         size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        float_matmul(y, y_stride, w, x, x_stride, n, tile_begin, tile_end, load_bf16);
}

void KERNEL(matmul_f32)(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                        size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        float_matmul(y, y_stride, w, x, x_stride, n, tile_begin, tile_end, load_f32);
}
