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

/* Where the numbers of 16 rows and one scale begin; a scale serves `cols` columns. */
static size_t scales_at(const struct weight_matrix *w, uint32_t tile, uint32_t scale,
                        uint32_t cols) {
        return ((size_t)tile * ((w->cols - 1) / cols + 1) + scale) * TILE_ROWS;
}

static void add_group(float a[TILE_ROWS], const struct weight_matrix *w, uint32_t tile, uint32_t b,
                      const uint8_t *bytes, int bias, const int8_t *q, float xs) {
        const size_t at = scales_at(w, tile, b, w->group);
        int32_t dot[TILE_ROWS], sum = 0;

        block_dot(bytes, bias, q, w->group, dot);
        for (uint32_t c = 0; c < w->group; c++)
                sum += q[c];
        for (uint32_t r = 0; r < TILE_ROWS; r++) {
                float d = f16_to_f32(w->halves[at + r]);

                if (w->mins)
                        a[r] = a[r] + ((float)dot[r] * d +
                                       (float)sum * f16_to_f32(w->mins[at + r])) * xs;
                else
                        a[r] = a[r] + ((float)dot[r] * xs) * d;
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

/* c[row] += sum over 64 columns, scaled by mantissas, times the scale of the activations. */
static void add_mantissas(float c[TILE_ROWS], const struct weight_matrix *w,
                          const struct activations *x, uint32_t t, uint32_t tile, uint32_t g) {
        const uint32_t groups = groups_of(w->cols), per = GROUP_COLS / 16;
        const int8_t *q = x->q + (size_t)t * x->stride + (size_t)g * GROUP_COLS;
        int32_t dot[TILE_ROWS], sum[TILE_ROWS] = { 0 };
        uint8_t bytes[S8_GROUP_BYTES];

        spread_s6(bytes, (const uint8_t *)w->codes + ((size_t)tile * groups + g) * S6_GROUP_BYTES);
        for (uint32_t b = 0; b < per && 16 * (g * per + b) < w->cols; b++) {
                const int8_t *m = (const int8_t *)w->mantissa + scales_at(w, tile, g * per + b, 16);

                block_dot(bytes + (size_t)16 * TILE_ROWS * b, 32, q + (size_t)16 * b, 16, dot);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        sum[r] += m[r] * dot[r];
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                c[r] = c[r] + (float)sum[r] * x->scale[(size_t)t * groups + g];
}

static void one_tile_s6(float *y, const struct weight_matrix *w, const struct activations *x,
                        uint32_t t, uint32_t tile) {
        const uint32_t groups = groups_of(w->cols), per = 256 / GROUP_COLS;
        float a[TILE_ROWS] = { 0 };

        for (uint32_t g = 0; g < groups; g += per) {
                const uint16_t *d = w->halves + scales_at(w, tile, g / per, 256);
                float c[TILE_ROWS] = { 0 };

                for (uint32_t i = g; i < g + per && i < groups; i++)
                        add_mantissas(c, w, x, t, tile, i);
                for (uint32_t r = 0; r < TILE_ROWS; r++)
                        a[r] = a[r] + c[r] * f16_to_f32(d[r]);
        }
        for (uint32_t r = 0; r < TILE_ROWS; r++)
                y[r] = a[r] * w->factor;
}

void matmul_s6_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t t = 0; t < x->n; t++)
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        one_tile_s6(y + t * y_stride + (size_t)tile * TILE_ROWS, w, x, t, tile);
}

void matmul_s4_group_c(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        all_tiles(y, y_stride, w, x, tile_begin, tile_end, spread_4, S4_GROUP_BYTES,
                  w->mins ? 0 : 8);
}
