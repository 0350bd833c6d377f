/* Matrices of 8, 6 and 4 bits with group scales times 8-bit activations, the definition. Whatever
 * the form, 64 columns of a tile are first spread to one byte a weight in the order of s8x16, so
 * that the forms differ in nothing but that step, the bias of a code and where a scale comes from.
 * Integer sums over one weight group are exact. Owns nothing. */
#include "kernels/ref/fp16.h"
#include "kernels/ref/ref.h"

enum { STEPS = GROUP_COLS / 4 };

/* bytes[64 * (col / 4) + 4 * row + col % 4] = the code of (row, col) */
static void spread_4(uint8_t bytes[S8_GROUP_BYTES], const uint8_t *codes) {
        for (unsigned b = 0; b < STEPS / 2; b++)
                for (unsigned i = 0; i < BLOCK_BYTES; i++) {
                        bytes[BLOCK_BYTES * 2 * b + i] = codes[BLOCK_BYTES * b + i] & 15;
                        bytes[BLOCK_BYTES * (2 * b + 1) + i] = codes[BLOCK_BYTES * b + i] >> 4;
                }
}

static void add_high_2(uint8_t bytes[S8_GROUP_BYTES], const uint8_t *plane) {
        for (unsigned s = 0; s < STEPS; s++)
                for (unsigned i = 0; i < BLOCK_BYTES; i++) {
                        unsigned high = plane[BLOCK_BYTES * (s / 4) + i] >> 2 * (s % 4) & 3U;

                        bytes[BLOCK_BYTES * s + i] |= (uint8_t)(high << 4);
                }
}

/* ret_dot[row] = sum over `cols` columns (a multiple of 4) of (byte - bias) * q. */
static void block_dot(const uint8_t *bytes, int bias, const int8_t *q, uint32_t cols,
                      int32_t ret_dot[TILE_ROWS]) {
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
                int32_t dot = 0;

                for (uint32_t col = 0; col < cols; col++)
                        dot += (bytes[BLOCK_BYTES * (col / 4) + 4 * row + col % 4] - bias) * q[col];
                ret_dot[row] = dot;
        }
}

/* The scales of weight group b, and its minimums where there are any. */
static void group_scales(const struct weight_matrix *w, uint32_t tile, uint32_t b,
                         float ret_d[TILE_ROWS], float ret_min[TILE_ROWS]) {
        const uint32_t groups = (w->cols - 1) / w->group + 1, supers = (w->cols - 1) / 256 + 1;
        const size_t at = ((size_t)tile * groups + b) * TILE_ROWS;

        for (uint32_t r = 0; r < TILE_ROWS; r++) {
                if (w->scale == SCALE_SUPER) {
                        size_t super = ((size_t)tile * supers + b / 16) * TILE_ROWS + r;

                        ret_d[r] = f16_to_f32(w->halves[super]) *
                                   (float)(int8_t)w->mantissa[at + r];
                } else {
                        ret_d[r] = f16_to_f32(w->halves[at + r]);
                }
                ret_min[r] = w->mins ? f16_to_f32(w->mins[at + r]) : 0;
        }
}

static void add_group(float a[TILE_ROWS], const struct weight_matrix *w, uint32_t tile, uint32_t b,
                      const uint8_t *bytes, int bias, const int8_t *q, float xs) {
        float d[TILE_ROWS], min[TILE_ROWS];
        int32_t dot[TILE_ROWS], sum = 0;

        group_scales(w, tile, b, d, min);
        block_dot(bytes, bias, q, w->group, dot);
        for (uint32_t c = 0; c < w->group; c++)
                sum += q[c];
        for (uint32_t r = 0; r < TILE_ROWS; r++) {
                if (w->mins)
                        a[r] = a[r] + ((float)dot[r] * d[r] + (float)sum * min[r]) * xs;
                else
                        a[r] = a[r] + ((float)dot[r] * xs) * d[r];
        }
}

typedef void spread_fn(uint8_t bytes[S8_GROUP_BYTES], const uint8_t *codes);

static void one_tile(float *y, const struct weight_matrix *w, const struct activations *x,
                     uint32_t t, uint32_t tile, spread_fn *spread, size_t group_bytes, int bias) {
        uint32_t groups = groups_of(w->cols), scale_groups = (w->cols - 1) / w->group + 1;
        uint32_t per = GROUP_COLS / w->group;
        const uint8_t *codes = (const uint8_t *)w->codes + (size_t)tile * groups * group_bytes;
        uint8_t bytes[S8_GROUP_BYTES];
        float a[TILE_ROWS] = { 0 };

        for (uint32_t b = 0; b < scale_groups; b++) {
                const int8_t *q = x->q + (size_t)t * x->stride + (size_t)b * w->group;

                if (b % per == 0)
                        spread(bytes, codes + b / per * group_bytes);
                add_group(a, w, tile, b, bytes + (size_t)(b % per) * w->group * TILE_ROWS, bias, q,
                          x->scale[(size_t)t * groups + b / per]);
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r] * w->factor;
}

static void all_tiles(float *y, size_t y_stride, const struct weight_matrix *w,
                      const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                      spread_fn *spread, size_t group_bytes, int bias) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        one_tile(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile,
                                 spread, group_bytes, bias);
}

static void spread_s8(uint8_t bytes[S8_GROUP_BYTES], const uint8_t *codes) {
        for (unsigned i = 0; i < S8_GROUP_BYTES; i++)
                bytes[i] = codes[i];
}

static void spread_s6(uint8_t bytes[S8_GROUP_BYTES], const uint8_t *codes) {
        spread_4(bytes, codes);
        add_high_2(bytes, codes + S4_GROUP_BYTES);
}

void matmul_s8_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        all_tiles(y, y_stride, w, x, tile_begin, tile_end, spread_s8, S8_GROUP_BYTES, 128);
}

void matmul_s6_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        all_tiles(y, y_stride, w, x, tile_begin, tile_end, spread_s6, S6_GROUP_BYTES, 32);
}

void matmul_s4_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        all_tiles(y, y_stride, w, x, tile_begin, tile_end, spread_4, S4_GROUP_BYTES,
                  w->mins ? 0 : 8);
}
