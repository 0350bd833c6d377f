/* Float matrices (f16x16, bf16x16, f32x16) times float vectors, the definition: one running sum
 * per row, in column order. Owns nothing. */
#include "kernels/ref/fp16.h"
#include "kernels/ref/ref.h"

static void f16_column(const void *codes, size_t column, float ret_w[TILE_ROWS]) {
        const uint16_t *p = (const uint16_t *)codes + column * TILE_ROWS;

        for (uint32_t r = 0; r < TILE_ROWS; r++)
                ret_w[r] = f16_to_f32(p[r]);
}

static void bf16_column(const void *codes, size_t column, float ret_w[TILE_ROWS]) {
        const uint16_t *p = (const uint16_t *)codes + column * TILE_ROWS;

        for (uint32_t r = 0; r < TILE_ROWS; r++)
                ret_w[r] = bf16_to_f32(p[r]);
}

static void f32_column(const void *codes, size_t column, float ret_w[TILE_ROWS]) {
        const float *p = (const float *)codes + column * TILE_ROWS;

        for (uint32_t r = 0; r < TILE_ROWS; r++)
                ret_w[r] = p[r];
}

typedef void column_fn(const void *codes, size_t column, float ret_w[TILE_ROWS]);

static void float_tile(float *y, const struct weight_matrix *w, const float *x, uint32_t tile,
                       column_fn *column) {
        float a[TILE_ROWS] = { 0 }, wc[TILE_ROWS];

        for (uint32_t c = 0; c < w->cols; c++) {
                column(w->codes, (size_t)tile * w->cols + c, wc);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        a[r] = a[r] + wc[r] * x[c];
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r];
}

void matmul_f16_c(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                  size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        float_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x + t * x_stride,
                                   tile, f16_column);
}

void matmul_bf16_c(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                   size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        float_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x + t * x_stride,
                                   tile, bf16_column);
}

void matmul_f32_c(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                  size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        float_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x + t * x_stride,
                                   tile, f32_column);
}
