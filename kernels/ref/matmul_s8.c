/* 8-bit matrices (s8x16) with row scales times 8-bit activations, the definition. Integer sums over
 * 64 columns are exact. Owns nothing. */
#include "kernels/ref/ref.h"

/* ret_dot[row] = sum over `cols` columns (a multiple of 4) of (byte - 128) * q. */
static void block_dot(const uint8_t *codes, const int8_t *q, uint32_t cols,
                      int32_t ret_dot[TILE_ROWS]) {
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
                int32_t dot = 0;

                for (uint32_t col = 0; col < cols; col++) {
                        uint32_t block = col / 4, c = col % 4;

                        dot += (codes[BLOCK_BYTES * block + 4 * row + c] - 128) * q[col];
                }
                ret_dot[row] = dot;
        }
}

static void row_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t t, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * S8_GROUP_BYTES;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        const int8_t *q = x->q + (size_t)t * x->stride;
        float a[TILE_ROWS] = { 0 };
        int32_t dot[TILE_ROWS];

        for (uint32_t g = 0; g < groups; g++) {
                float xs = x->scale[(size_t)t * groups + g];

                block_dot(codes + (size_t)g * S8_GROUP_BYTES, q + (size_t)g * GROUP_COLS,
                          GROUP_COLS, dot);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        a[r] = a[r] + (float)dot[r] * xs;
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r] * scales[r];
}

void matmul_s8_row_c(float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}
