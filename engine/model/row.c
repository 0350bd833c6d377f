/* matrix_row(): one row of a packed matrix as floats, for embeddings. The inverse of tile.c, read
 * straight from the mapping; knows the layouts of kernels/layout.h and nothing else. */

#include <string.h>

#include "engine/model/bytes.h"
#include "engine/model/model.h"
#include "engine/model/shape.h"
#include "kernels/ref/base3.h"

/* -1, 0 or +1 at a column of lane r; tile points to the codes of the tile. */
static int trit_at(const uint8_t *tile, uint32_t planes, uint32_t plane, unsigned r, uint32_t col) {
        size_t block = ((size_t)(col / GROUP_COLS) * planes + plane) * 4 + col % GROUP_COLS / 16;
        unsigned in = col % 16;
        unsigned byte = tile[block * BLOCK_BYTES + 4 * r + in % 4];

        return (int)(byte >> 2 * (in / 4) & 3U) - 1;
}

static void t2_row(const struct weight_matrix *m, const uint8_t *codes, const uint8_t *mantissa,
                   const float *scales, unsigned r, float *out) {
        for (uint32_t c = 0; c < m->cols; c++) {
                int v = 0;

                if (m->scale != SCALE_MANTISSA) {
                        uint32_t b = m->scale == SCALE_GROUP ? c / m->group : 0;

                        v = trit_at(codes, 1, 0, r, c);
                        out[c] = (float)v * scales[(size_t)b * TILE_ROWS + r];
                        continue;
                }
                for (uint32_t k = 0; k < m->planes; k++) {
                        size_t at = (size_t)(c / GROUP_COLS) * m->planes + k;

                        v += mantissa[at * TILE_ROWS + r] * trit_at(codes, m->planes, k, r, c);
                }
                out[c] = (float)v * scales[r];
        }
}

/* slab: the codes of a slab, r: the row in it. */
static void t5_row(const struct weight_matrix *m, const uint8_t *slab, float scale, unsigned r,
                   float *out) {
        for (uint32_t c = 0; c < m->cols; c++) {
                uint8_t byte = slab[(size_t)(c / 4) * BLOCK_BYTES + 4 * (r % TILE_ROWS) + c % 4];

                out[c] = (float)(base3_code(byte, r / TILE_ROWS) - 1) * scale;
        }
}

static int by_row_trit(const struct weight_matrix *m, uint32_t row, uint32_t col) {
        const uint8_t *codes = (const uint8_t *)m->codes + row * t2_row_bytes(m->cols);

        return (codes[col / ROW_BLOCK_COLS * BLOCK_BYTES + col % BLOCK_BYTES] >>
                        2 * (col % ROW_BLOCK_COLS / BLOCK_BYTES) & 3) - 1;
}

static int by_col_trit(const struct weight_matrix *m, uint32_t row, uint32_t col) {
        const uint8_t *panel = (const uint8_t *)m->codes +
                               row / PANEL_ROWS * t2_panel_bytes(m->cols);
        const unsigned tile = row % PANEL_ROWS / TILE_ROWS, lane = row % TILE_ROWS;

        return (panel[(size_t)col * BLOCK_BYTES + 16 * (lane / 4) + 4 * (tile / 4) + lane % 4] >>
                        2 * (tile % 4) & 3) - 1;
}

static int t5_by_row_trit(const struct weight_matrix *m, uint32_t row, uint32_t col) {
        const uint8_t *codes = (const uint8_t *)m->codes + row * t5_row_bytes(m->cols);

        return base3_code(codes[col / T5_ROW_BLOCK_COLS * BLOCK_BYTES + col % BLOCK_BYTES],
                          col % T5_ROW_BLOCK_COLS / BLOCK_BYTES) - 1;
}

static int t5_by_col_trit(const struct weight_matrix *m, uint32_t row, uint32_t col) {
        const uint8_t *panel = (const uint8_t *)m->codes +
                               row / T5_PANEL_ROWS * t5_panel_bytes(m->cols);
        const unsigned tile = row % T5_PANEL_ROWS / TILE_ROWS, lane = row % TILE_ROWS;

        return base3_code(panel[(size_t)col * BLOCK_BYTES + 16 * (lane / 4) +
                                4 * (tile / T5_TILES) + lane % 4], tile % T5_TILES) - 1;
}

static bool lies_in_lines(const struct weight_matrix *m) {
        return m->form == WEIGHT_T2_BY_ROW || m->form == WEIGHT_T2_BY_COL ||
               m->form == WEIGHT_T5_BY_ROW || m->form == WEIGHT_T5_BY_COL;
}

static int line_trit(const struct weight_matrix *m, uint32_t row, uint32_t col) {
        if (m->form == WEIGHT_T2_BY_ROW || m->form == WEIGHT_T2_BY_COL)
                return m->form == WEIGHT_T2_BY_ROW ? by_row_trit(m, row, col)
                                                   : by_col_trit(m, row, col);
        return m->form == WEIGHT_T5_BY_ROW ? t5_by_row_trit(m, row, col)
                                           : t5_by_col_trit(m, row, col);
}

/* A matrix by row or by column. */
static void line_row(const struct weight_matrix *m, uint32_t row, float *out) {
        for (uint32_t c = 0; c < m->cols; c++)
                out[c] = (float)line_trit(m, row, c) * m->scales[row];
}

/* What the code at a column of lane r stands for; tile points to the codes of the tile. */
static int s8_at(const uint8_t *tile, unsigned r, uint32_t col) {
        return tile[(size_t)(col / 4) * BLOCK_BYTES + 4 * r + col % 4] - 128;
}

static int low_4_at(const uint8_t *group, unsigned r, unsigned in) {
        return group[in / 8 * BLOCK_BYTES + 4 * r + in % 4] >> in % 8 / 4 * 4 & 15;
}

static int s4_at(const uint8_t *tile, unsigned r, uint32_t col, bool mins) {
        const uint8_t *group = tile + (size_t)(col / GROUP_COLS) * S4_GROUP_BYTES;

        return low_4_at(group, r, col % GROUP_COLS) - (mins ? 0 : 8);
}

static int s6_at(const uint8_t *tile, unsigned r, uint32_t col) {
        const uint8_t *group = tile + (size_t)(col / GROUP_COLS) * S6_GROUP_BYTES;
        int high = trit_at(group + S4_GROUP_BYTES, 1, 0, r, col % GROUP_COLS) + 1;

        return (low_4_at(group, r, col % GROUP_COLS) | high << 4) - 32;
}

static void s8_row(const struct weight_matrix *m, const uint8_t *codes, const float *scales,
                   unsigned r, float *out) {
        for (uint32_t c = 0; c < m->cols; c++)
                out[c] = (float)s8_at(codes, r, c) * scales[r];
}

/* SCALE_HALF and SCALE_SUPER. */
static void group_row(const struct weight_matrix *m, const uint8_t *codes, uint32_t tile,
                      unsigned r, float *out) {
        const uint16_t *halves = m->halves + (size_t)tile * matrix_scale_groups(m) * TILE_ROWS;
        const uint32_t groups = (m->cols - 1) / m->group + 1;

        for (uint32_t c = 0; c < m->cols; c++) {
                size_t at = ((size_t)tile * groups + c / m->group) * TILE_ROWS + r;
                float d, v;

                if (m->form == WEIGHT_S6) {
                        d = f16_to_f32(halves[(size_t)(c / 256) * TILE_ROWS + r]) *
                            (float)(int8_t)m->mantissa[at];
                        v = (float)s6_at(codes, r, c) * d;
                } else {
                        d = f16_to_f32(m->halves[at]);
                        v = (float)(m->form == WEIGHT_S8 ? s8_at(codes, r, c)
                                                         : s4_at(codes, r, c, m->mins)) * d;
                }
                if (m->mins)
                        v += f16_to_f32(m->mins[at]);
                out[c] = v * m->factor;
        }
}

static void float_row(const struct weight_matrix *m, const uint8_t *codes, unsigned r,
                      float *out) {
        for (uint32_t c = 0; c < m->cols; c++) {
                size_t at = (size_t)c * TILE_ROWS + r;

                if (m->form == WEIGHT_F32)
                        out[c] = load_f32(codes + at * 4);
                else if (m->form == WEIGHT_F16)
                        out[c] = f16_to_f32(load_u16(codes + at * 2));
                else
                        out[c] = bf16_to_f32(load_u16(codes + at * 2));
        }
}

void matrix_row(const struct weight_matrix *m, uint32_t row, float *out) {
        const uint32_t tile = row / TILE_ROWS;
        const unsigned r = row % TILE_ROWS;
        const uint8_t *codes =
                (const uint8_t *)m->codes + tile * matrix_tile_bytes(m, false, PART_CODES);
        const size_t scales = (size_t)tile * matrix_scale_groups(m) * TILE_ROWS;
        const uint8_t *mantissa = m->mantissa;

        if (lies_in_lines(m)) {
                line_row(m, row, out);
                return;
        }
        if (m->scale == SCALE_NONE) {
                float_row(m, codes, r, out);
                return;
        }
        if (m->form == WEIGHT_T5) {
                const uint32_t rows = matrix_tile_rows(m);

                codes = (const uint8_t *)m->codes +
                        row / rows * matrix_tile_bytes(m, false, PART_CODES);
                t5_row(m, codes, m->scales[row], row % rows, out);
                return;
        }
        if (matrix_scales_are_halves(m)) {
                group_row(m, codes, tile, r, out);
                return;
        }
        if (mantissa)
                mantissa += tile * matrix_tile_bytes(m, false, PART_MANTISSA);
        if (m->form == WEIGHT_T2)
                t2_row(m, codes, mantissa, m->scales + scales, r, out);
        else
                s8_row(m, codes, m->scales + scales, r, out);
}
