/* Ternary matrices in base 3 (t5x80) times 8-bit activations, the definition: the five codes of a
 * byte are its digits, everything else is as in t2_row. Owns nothing. */
#include "kernels/ref/base3.h"
#include "kernels/ref/ref.h"

/* Sum of (code - 1) * q over all columns of one row. */
static int32_t row_dot(const uint8_t *slab, uint32_t cols, unsigned row, const int8_t *q) {
        int32_t dot = 0;

        for (uint32_t col = 0; col < cols; col++) {
                size_t at = (size_t)(col / 4) * BLOCK_BYTES + 4 * (row % TILE_ROWS) + col % 4;

                dot += (base3_code(slab[at], row / TILE_ROWS) - 1) * q[col];
        }
        return dot;
}

static void row_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t t, uint32_t tile) {
        const size_t slab_bytes = (size_t)groups_of(w->cols) * T5_GROUP_BYTES;
        const uint8_t *slab = (const uint8_t *)w->codes + tile / T5_TILES * slab_bytes;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;

        for (unsigned r = 0; r < TILE_ROWS; r++) {
                int32_t dot = row_dot(slab, w->cols, tile % T5_TILES * TILE_ROWS + r,
                                      x->q + (size_t)t * x->stride);

                y[r] = ((float)dot / x->inverse[t]) * scales[r];
        }
}

void matmul_t5_row_c(float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}
