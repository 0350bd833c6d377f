/* Ternary matrices that lie by row or by column, the definition. They exist so that a product for
 * one token can leave out what does not matter: rows whose result nobody wants, columns whose
 * activation is zero. Sums are exact integers, so leaving out zeros changes nothing, and neither
 * does the order of the rest. Owns nothing. */
#include "kernels/ref/base3.h"
#include "kernels/ref/ref.h"

/* -1, 0 or 1 at a place of a matrix (2 where the code is 3). */
typedef int32_t trit_fn(const struct weight_matrix *w, uint32_t row, uint32_t col);

static int32_t t2_row_trit(const struct weight_matrix *w, uint32_t row, uint32_t col) {
        const uint8_t *block = (const uint8_t *)w->codes + row * t2_row_bytes(w->cols) +
                               (size_t)(col / ROW_BLOCK_COLS) * BLOCK_BYTES;

        return (block[col % BLOCK_BYTES] >> 2 * (col % ROW_BLOCK_COLS / BLOCK_BYTES) & 3) - 1;
}

static int32_t t5_row_trit(const struct weight_matrix *w, uint32_t row, uint32_t col) {
        const uint8_t *block = (const uint8_t *)w->codes + row * t5_row_bytes(w->cols) +
                               (size_t)(col / T5_ROW_BLOCK_COLS) * BLOCK_BYTES;

        return base3_code(block[col % BLOCK_BYTES], col % T5_ROW_BLOCK_COLS / BLOCK_BYTES) - 1;
}

static int32_t t2_col_trit(const struct weight_matrix *w, uint32_t row, uint32_t col) {
        const uint8_t *column = (const uint8_t *)w->codes +
                                row / PANEL_ROWS * t2_panel_bytes(w->cols) +
                                (size_t)col * BLOCK_BYTES;
        uint32_t tile = row % PANEL_ROWS / TILE_ROWS, lane = row % TILE_ROWS;
        uint32_t j = tile / 4, k = tile % 4;

        return (column[16 * (lane / 4) + 4 * j + lane % 4] >> 2 * k & 3) - 1;
}

static int32_t t5_col_trit(const struct weight_matrix *w, uint32_t row, uint32_t col) {
        const uint8_t *column = (const uint8_t *)w->codes +
                                row / T5_PANEL_ROWS * t5_panel_bytes(w->cols) +
                                (size_t)col * BLOCK_BYTES;
        uint32_t tile = row % T5_PANEL_ROWS / TILE_ROWS, lane = row % TILE_ROWS;
        uint32_t j = tile / T5_TILES, k = tile % T5_TILES;

        return base3_code(column[16 * (lane / 4) + 4 * j + lane % 4], k) - 1;
}

/* Columns past the end have an activation of zero. */
static float result(trit_fn *trit, const struct weight_matrix *w, const struct activations *x,
                    uint32_t t, uint32_t row) {
        const int8_t *q = x->q + (size_t)t * x->stride;
        int32_t total = 0;

        for (uint32_t col = 0; col < w->cols; col++)
                if (q[col] != 0)
                        total += trit(w, row, col) * q[col];
        return ((float)total / x->inverse[t]) * w->scales[row];
}

static void multiply(trit_fn *trit, float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t row = tile_begin * TILE_ROWS; row < tile_end * TILE_ROWS; row++)
                        y[t * y_stride + row] = result(trit, w, x, t, row);
}

static void multiply_where(trit_fn *trit, float *y, const struct weight_matrix *w,
                           const struct activations *x, const float *gate, uint32_t tile_begin,
                           uint32_t tile_end) {
        for (uint32_t row = tile_begin * TILE_ROWS; row < tile_end * TILE_ROWS; row++)
                if (gate[row] > 0)
                        y[row] = result(trit, w, x, 0, row);
}

void matmul_t2_by_row_c(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        multiply(t2_row_trit, y, y_stride, w, x, tile_begin, tile_end);
}

void matmul_t2_by_row_where_c(float *y, const struct weight_matrix *w, const struct activations *x,
                              const float *gate, uint32_t tile_begin, uint32_t tile_end) {
        multiply_where(t2_row_trit, y, w, x, gate, tile_begin, tile_end);
}

void matmul_t2_by_col_c(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        multiply(t2_col_trit, y, y_stride, w, x, tile_begin, tile_end);
}

void matmul_t5_by_row_c(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        multiply(t5_row_trit, y, y_stride, w, x, tile_begin, tile_end);
}

void matmul_t5_by_row_where_c(float *y, const struct weight_matrix *w, const struct activations *x,
                              const float *gate, uint32_t tile_begin, uint32_t tile_end) {
        multiply_where(t5_row_trit, y, w, x, gate, tile_begin, tile_end);
}

void matmul_t5_by_col_c(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        multiply(t5_col_trit, y, y_stride, w, x, tile_begin, tile_end);
}
