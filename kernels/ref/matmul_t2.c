/* Ternary matrices (t2x16) times 8-bit activations, the definition. The sums of one group of 64
 * columns are exact integers; what happens to them is the float formula of kernels.h, written once
 * per scale form. Owns nothing. */
#include "kernels/ref/ref.h"

/* ret_dot[row] = sum over the group's 64 columns of (code - 1) * q. */
static void group_dot(const uint8_t *plane, const int8_t *q, int32_t ret_dot[TILE_ROWS]) {
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
                int32_t dot = 0;

                for (uint32_t col = 0; col < GROUP_COLS; col++) {
                        uint32_t block = col / 16, k = col % 16 / 4, c = col % 4;
                        int32_t code = plane[BLOCK_BYTES * block + 4 * row + c] >> 2 * k & 3;

                        dot += (code - 1) * q[col];
                }
                ret_dot[row] = dot;
        }
}

static const uint8_t *group_codes(const struct weight_matrix *w, uint32_t tile, uint32_t g) {
        size_t index = (size_t)tile * groups_of(w->cols) + g;

        return (const uint8_t *)w->codes + index * w->planes * T2_PLANE_BYTES;
}

static const int8_t *group_q(const struct activations *x, uint32_t t, uint32_t g) {
        return x->q + (size_t)t * x->stride + (size_t)g * GROUP_COLS;
}

static void row_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t t, uint32_t tile) {
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        int32_t total[TILE_ROWS] = { 0 }, dot[TILE_ROWS];

        for (uint32_t g = 0; g < groups_of(w->cols); g++) {
                group_dot(group_codes(w, tile, g), group_q(x, t, g), dot);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        total[r] += dot[r];
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = ((float)total[r] / x->inverse[t]) * scales[r];
}

static void mantissa_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                          uint32_t t, uint32_t tile) {
        uint32_t groups = groups_of(w->cols);
        const uint8_t *mantissa = w->mantissa + (size_t)tile * groups * w->planes * TILE_ROWS;
        const float *scales = w->scales + (size_t)tile * TILE_ROWS;
        float a[TILE_ROWS] = { 0 };
        int32_t dot[TILE_ROWS];

        for (uint32_t g = 0; g < groups; g++) {
                float xs = x->scale[(size_t)t * groups + g];
                int32_t j[TILE_ROWS] = { 0 };

                for (uint32_t p = 0; p < w->planes; p++, mantissa += TILE_ROWS) {
                        group_dot(group_codes(w, tile, g) + (size_t)p * T2_PLANE_BYTES,
                                  group_q(x, t, g), dot);
                        for (uint32_t r = 0; r < TILE_ROWS; r++)
                                j[r] += mantissa[r] * dot[r];
                }
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        a[r] = a[r] + (float)j[r] * xs;
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r] * scales[r];
}

static void group_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                       uint32_t t, uint32_t tile) {
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        const float *scales = w->scales + (size_t)tile * scale_groups * TILE_ROWS;
        float a[TILE_ROWS] = { 0 };
        int32_t dot[TILE_ROWS];

        for (uint32_t g = 0; g < groups; g++) {
                const float *s = scales + (size_t)(GROUP_COLS * g / w->group) * TILE_ROWS;
                float xs = x->scale[(size_t)t * groups + g];

                group_dot(group_codes(w, tile, g), group_q(x, t, g), dot);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        a[r] = a[r] + ((float)dot[r] * xs) * s[r];
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r];
}

void matmul_t2_row_c(float *y, size_t y_stride, const struct weight_matrix *w,
                     const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        row_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}

void matmul_t2_mantissa_c(float *y, size_t y_stride, const struct weight_matrix *w,
                          const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        mantissa_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}

void matmul_t2_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        group_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}
