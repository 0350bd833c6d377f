/* From rows to tiles and back. Problem: the kernels want 16 rows interleaved, files hold one row
 * after the other. Invariant: a tile is cleared before its rows are put, so that padding rows are
 * rows of zeros and the packed bytes depend on nothing but the weights. A tile owns its parts. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/tile.h"

static uint8_t zero_code(const struct weight_matrix *m) {
        switch (m->form) {
        case WEIGHT_T2:
        case WEIGHT_T5:
        case WEIGHT_T2_BY_ROW:
        case WEIGHT_T2_BY_COL:
        case WEIGHT_T5_BY_ROW:
        case WEIGHT_T5_BY_COL:
                return 1;
        case WEIGHT_S8:
                return 128;
        case WEIGHT_S6:
        case WEIGHT_S4:
        case WEIGHT_F16:
        case WEIGHT_BF16:
        case WEIGHT_F32:
        case _WEIGHT_FORM_MAX:
                break;
        }
        return 0;
}

static size_t padded_cols(const struct weight_matrix *m) {
        return (size_t)groups_of(m->cols) * GROUP_COLS;
}

int tile_init(struct tile *t, const struct weight_matrix *m, bool mins) {
        *t = (struct tile){.m = m, .mins = mins};
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                uint64_t n = matrix_tile_bytes(m, mins, (enum matrix_part)i);

                if (n == 0)
                        continue;
                t->part[i] = malloc(n);
                if (!t->part[i])
                        return -ENOMEM;
        }
        return 0;
}

void tile_done(struct tile *t) {
        for (unsigned i = 0; i < MATRIX_PARTS; i++)
                free(t->part[i]);
}

int row_buffer_init(struct row_buffer *r, const struct weight_matrix *m, bool mins) {
        size_t codes = padded_cols(m) * MAX(m->planes, 1U);
        size_t scales = MAX(matrix_scale_groups(m), 1U);
        size_t mantissas = MAX(matrix_tile_bytes(m, mins, PART_MANTISSA) / TILE_ROWS, 1U);

        if (m->form == WEIGHT_F16 || m->form == WEIGHT_BF16)
                codes *= 2;
        else if (m->form == WEIGHT_F32)
                codes *= 4;
        *r = (struct row_buffer){
                .codes = malloc(codes),
                .mantissa = calloc(mantissas, 1),
                .scales = calloc(scales, sizeof(*r->scales)),
                .halves = calloc(scales, sizeof(*r->halves)),
                .mins = mins ? calloc(scales, sizeof(*r->mins)) : NULL,
        };
        if (!r->codes || !r->mantissa || !r->scales || !r->halves || (mins && !r->mins))
                return -ENOMEM;
        memset(r->codes, zero_code(m), codes);
        return 0;
}

void row_buffer_done(struct row_buffer *r) {
        free(r->codes);
        free(r->mantissa);
        free(r->scales);
        free(r->halves);
        free(r->mins);
}

void tile_clear(struct tile *t) {
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                if (!t->part[i])
                        continue;
                memset(t->part[i], 0, matrix_tile_bytes(t->m, t->mins, (enum matrix_part)i));
        }
        if (matrix_is_base_3(t->m)) /* five codes of value 1 */
                memset(t->part[PART_CODES], 125, matrix_tile_bytes(t->m, t->mins, PART_CODES));
        else if (matrix_is_ternary(t->m)) /* four codes of value 1 */
                memset(t->part[PART_CODES], 0x55, matrix_tile_bytes(t->m, t->mins, PART_CODES));
        else if (t->m->form == WEIGHT_S8)
                memset(t->part[PART_CODES], 128, matrix_tile_bytes(t->m, t->mins, PART_CODES));
}

/* Byte c of the four holds columns c, 4 + c, 8 + c, 12 + c: four loads of four codes, each moved up
 * by its two bits, make all four bytes at once. */
static void put_t2(struct tile *t, unsigned r, const uint8_t *codes) {
        const uint32_t groups = groups_of(t->m->cols), planes = t->m->planes;
        const size_t padded = padded_cols(t->m);

        for (uint32_t g = 0; g < groups; g++)
                for (uint32_t k = 0; k < planes; k++)
                        for (unsigned b = 0; b < 4; b++) {
                                const uint8_t *c = codes + k * padded + g * GROUP_COLS + 16 * b;
                                uint32_t v = load_u32(c) | load_u32(c + 4) << 2 |
                                             load_u32(c + 8) << 4 | load_u32(c + 12) << 6;
                                size_t block = ((size_t)g * planes + k) * 4 + b;

                                memcpy(t->part[PART_CODES] + block * BLOCK_BYTES + 4 * r, &v, 4);
                        }
}

/* Digit k, which was 1 until now. */
static void put_digit(uint8_t *byte, unsigned k, uint8_t code) {
        static const uint8_t worths[T5_TILES] = {1, 3, 9, 28, 84};

        *byte = (uint8_t)(*byte + worths[k] * (code - 1U));
}

/* The codes of a row are one digit of its bytes. */
static void put_t5(struct tile *t, unsigned r, const uint8_t *codes) {
        const size_t blocks = padded_cols(t->m) / 4;
        uint8_t *p = t->part[PART_CODES] + (size_t)4 * (r % TILE_ROWS);

        for (size_t b = 0; b < blocks; b++, codes += 4, p += BLOCK_BYTES)
                for (unsigned c = 0; c < 4; c++)
                        put_digit(p + c, r / TILE_ROWS, codes[c]);
}

static void put_code(uint8_t *byte, unsigned k, uint8_t code) {
        *byte = (uint8_t)((*byte & ~(3U << 2 * k)) | (unsigned)code << 2 * k);
}

static void put_by_row(struct tile *t, unsigned r, const uint8_t *codes) {
        uint8_t *row = t->part[PART_CODES] + r * t2_row_bytes(t->m->cols);

        for (uint32_t c = 0; c < t->m->cols; c++)
                put_code(row + c / ROW_BLOCK_COLS * BLOCK_BYTES + c % BLOCK_BYTES,
                         c % ROW_BLOCK_COLS / BLOCK_BYTES, codes[c]);
}

/* Row r of a panel. */
static void put_by_col(struct tile *t, unsigned r, const uint8_t *codes) {
        const unsigned tile = r / TILE_ROWS, lane = r % TILE_ROWS;
        uint8_t *p = t->part[PART_CODES] + 16 * (lane / 4) + 4 * (tile / 4) + lane % 4;

        for (uint32_t c = 0; c < t->m->cols; c++, p += BLOCK_BYTES)
                put_code(p, tile % 4, codes[c]);
}

static void put_t5_by_row(struct tile *t, unsigned r, const uint8_t *codes) {
        uint8_t *row = t->part[PART_CODES] + r * t5_row_bytes(t->m->cols);

        for (uint32_t c = 0; c < t->m->cols; c++)
                put_digit(row + c / T5_ROW_BLOCK_COLS * BLOCK_BYTES + c % BLOCK_BYTES,
                          c % T5_ROW_BLOCK_COLS / BLOCK_BYTES, codes[c]);
}

static void put_t5_by_col(struct tile *t, unsigned r, const uint8_t *codes) {
        const unsigned tile = r / TILE_ROWS, lane = r % TILE_ROWS;
        uint8_t *p = t->part[PART_CODES] + 16 * (lane / 4) + 4 * (tile / T5_TILES) + lane % 4;

        for (uint32_t c = 0; c < t->m->cols; c++, p += BLOCK_BYTES)
                put_digit(p, tile % T5_TILES, codes[c]);
}

static void put_s8(struct tile *t, unsigned r, const uint8_t *codes) {
        const size_t blocks = (size_t)groups_of(t->m->cols) * 16;

        for (size_t b = 0; b < blocks; b++)
                memcpy(t->part[PART_CODES] + b * BLOCK_BYTES + 4 * r, codes + 4 * b, 4);
}

/* A block is 8 columns: the first four in the low halves of its bytes. */
static void put_low_4(uint8_t *block, unsigned r, const uint8_t *codes) {
        for (unsigned c = 0; c < 4; c++)
                block[4 * r + c] = (uint8_t)((codes[c] & 15) | codes[4 + c] << 4);
}

/* A block is 16 columns, as in put_t2. */
static void put_high_2(uint8_t *block, unsigned r, const uint8_t *codes) {
        uint32_t v = 0;

        for (unsigned k = 0; k < 4; k++)
                v |= (load_u32(codes + 4 * k) >> 4 & 0x03030303U) << 2 * k;
        memcpy(block + 4 * r, &v, 4);
}

static void put_s4(struct tile *t, unsigned r, const uint8_t *codes) {
        const bool six = t->m->form == WEIGHT_S6;
        uint8_t *group = t->part[PART_CODES];

        for (uint32_t g = 0; g < groups_of(t->m->cols); g++, codes += GROUP_COLS) {
                for (unsigned b = 0; b < 8; b++)
                        put_low_4(group + (size_t)b * BLOCK_BYTES, r, codes + 8 * b);
                group += S4_GROUP_BYTES;
                for (unsigned b = 0; six && b < 4; b++)
                        put_high_2(group + (size_t)b * BLOCK_BYTES, r, codes + 16 * b);
                group += six ? T2_PLANE_BYTES : 0;
        }
}

static void put_floats(struct tile *t, unsigned r, const uint8_t *values, size_t width) {
        uint8_t *p = t->part[PART_CODES] + r * width;

        for (uint32_t c = 0; c < t->m->cols; c++)
                memcpy(p + c * TILE_ROWS * width, values + c * width, width);
}

/* Values of `width` bytes, one for each group of columns. */
static void put_values(uint8_t *part, unsigned r, const void *values, uint32_t n, size_t width) {
        for (uint32_t b = 0; b < n; b++)
                memcpy(part + ((size_t)b * TILE_ROWS + r) * width,
                       (const uint8_t *)values + b * width, width);
}

static void put_mantissas(struct tile *t, unsigned r, const uint8_t *mantissa) {
        const uint32_t groups = groups_of(t->m->cols), planes = t->m->planes;

        for (uint32_t g = 0; g < groups; g++)
                for (uint32_t k = 0; k < planes; k++)
                        t->part[PART_MANTISSA][((size_t)g * planes + k) * TILE_ROWS + r] =
                                mantissa[(size_t)k * groups + g];
}

void tile_put_row(struct tile *t, unsigned r, const struct row_buffer *row) {
        const uint32_t n = matrix_scale_groups(t->m);

        if (t->m->form == WEIGHT_T2)
                put_t2(t, r, row->codes);
        else if (t->m->form == WEIGHT_T5)
                put_t5(t, r, row->codes);
        else if (t->m->form == WEIGHT_T2_BY_ROW)
                put_by_row(t, r, row->codes);
        else if (t->m->form == WEIGHT_T2_BY_COL)
                put_by_col(t, r, row->codes);
        else if (t->m->form == WEIGHT_T5_BY_ROW)
                put_t5_by_row(t, r, row->codes);
        else if (t->m->form == WEIGHT_T5_BY_COL)
                put_t5_by_col(t, r, row->codes);
        else if (t->m->form == WEIGHT_S8)
                put_s8(t, r, row->codes);
        else if (t->m->form == WEIGHT_S4 || t->m->form == WEIGHT_S6)
                put_s4(t, r, row->codes);
        else if (t->m->form == WEIGHT_F32)
                put_floats(t, r, row->codes, 4);
        else
                put_floats(t, r, row->codes, 2);

        if (matrix_scales_are_halves(t->m))
                put_values(t->part[PART_SCALES], r, row->halves, n, sizeof(uint16_t));
        else if (t->part[PART_SCALES])
                put_values(t->part[PART_SCALES], r, row->scales, n, sizeof(float));
        if (t->part[PART_MINS])
                put_values(t->part[PART_MINS], r, row->mins, n, sizeof(uint16_t));
        if (t->m->scale == SCALE_SUPER)
                put_values(t->part[PART_MANTISSA], r, row->mantissa, t->m->cols / t->m->group, 1);
        else if (t->part[PART_MANTISSA])
                put_mantissas(t, r, row->mantissa);
}
