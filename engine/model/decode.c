/* Row decoders. Problem: ten storage types, three of them ternary in different bit orders, have to
 * end up as the same bytes; and the contents may be hostile. Invariant: sizes were checked against
 * the shape before, so a decoder that stays inside its row stays inside the file; what remains to
 * be checked here are values (a code that is no trit, a scale that is no number). Owns nothing. */

#include <math.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/decode.h"
#include "engine/model/shape.h"

void matrix_source_form(const struct matrix_source *s, struct weight_matrix *ret, bool *ret_mins) {
        struct weight_matrix m = {.rows = s->rows, .cols = s->cols};

        *ret_mins = s->type == TYPE_Q4_1;
        switch (s->type) {
        case TYPE_I2_S:
                m.form = WEIGHT_T2, m.scale = SCALE_ROW, m.planes = 1;
                break;
        case TYPE_I8:
                m.form = WEIGHT_T2, m.scale = SCALE_MANTISSA, m.planes = s->planes;
                break;
        case TYPE_TQ1_0:
        case TYPE_TQ2_0:
                m.form = WEIGHT_T2, m.scale = SCALE_GROUP, m.planes = 1, m.group = 256;
                break;
        case TYPE_Q8_0:
                m.form = WEIGHT_S8, m.scale = SCALE_HALF, m.group = 32;
                break;
        case TYPE_Q4_0:
        case TYPE_Q4_1:
                m.form = WEIGHT_S4, m.scale = SCALE_HALF, m.group = 32;
                break;
        case TYPE_Q6_K:
                m.form = WEIGHT_S6, m.scale = SCALE_SUPER, m.group = 16;
                break;
        default: /* F32, F16, BF16 */
                m.form = s->type == TYPE_F32   ? WEIGHT_F32
                         : s->type == TYPE_F16 ? WEIGHT_F16
                                               : WEIGHT_BF16;
                m.scale = SCALE_NONE;
                if (s->to_s8)
                        m.form = WEIGHT_S8, m.scale = SCALE_ROW;
        }
        m.factor = matrix_scales_are_halves(&m) ? s->factor : 1.0f;
        *ret = m;
}

/* I2_S, one block of 128 weights in 32 bytes: the first 32 weights are bits 7-6. */
static unsigned i2s_block_128(const uint8_t *p, uint8_t *codes) {
        unsigned bad = 0;

        for (unsigned i = 0; i < 32; i++) {
                unsigned b = p[i];

                codes[i] = (uint8_t)(b >> 6);
                codes[32 + i] = (uint8_t)(b >> 4 & 3);
                codes[64 + i] = (uint8_t)(b >> 2 & 3);
                codes[96 + i] = (uint8_t)(b & 3);
                bad |= b & b >> 1 & 0x55; /* both bits of a code set: 3 */
        }
        return bad;
}

static unsigned i2s_flat(const struct matrix_source *s, uint64_t index, unsigned block) {
        uint64_t base = index / block * (block / 4);
        unsigned j = (unsigned)(index % block), quarter = block / 4;

        return s->data[base + j % quarter] >> (6 - 2 * (j / quarter)) & 3U;
}

static unsigned i2s_1x4(const struct matrix_source *s, uint32_t row, uint32_t col) {
        return s->data[(uint64_t)(row / 4) * s->cols + col] >> (6 - 2 * (row % 4)) & 3U;
}

static enum model_error_code decode_i2s(const struct matrix_source *s, uint32_t row,
                                        struct row_buffer *out) {
        const uint64_t start = (uint64_t)row * s->cols, n = (uint64_t)s->rows * s->cols;
        unsigned bad = 0;

        out->scales[0] = load_f32(s->data + n / 4) * s->factor;
        if (s->i2s == I2S_128_32 && s->cols % 128 == 0) {
                for (uint32_t c = 0; c < s->cols; c += 128)
                        bad |= i2s_block_128(s->data + (start + c) / 4, out->codes + c);
                return bad ? MODEL_E_TRIT : MODEL_OK;
        }
        for (uint32_t c = 0; c < s->cols; c++) {
                unsigned code = s->i2s == I2S_1X4
                                        ? i2s_1x4(s, row, c)
                                        : i2s_flat(s, start + c, s->i2s == I2S_128_32 ? 128 : 64);

                out->codes[c] = (uint8_t)code;
                bad |= code == 3;
        }
        return bad ? MODEL_E_TRIT : MODEL_OK;
}

static enum model_error_code decode_tq2(const uint8_t *p, uint32_t cols, float factor,
                                        struct row_buffer *out) {
        unsigned bad = 0;

        for (uint32_t b = 0; b < cols / 256; b++, p += 66) {
                uint8_t *codes = out->codes + (size_t)b * 256;

                for (unsigned g = 0; g < 2; g++)
                        for (unsigned l = 0; l < 4; l++)
                                for (unsigned m = 0; m < 32; m++)
                                        codes[128 * g + 32 * l + m] =
                                                p[32 * g + m] >> 2 * l & 3;
                for (unsigned i = 0; i < 64; i++)
                        bad |= p[i] & (unsigned)p[i] >> 1 & 0x55;
                out->scales[b] = f16_to_f32(load_u16(p + 64)) * factor;
        }
        return bad ? MODEL_E_TRIT : MODEL_OK;
}

/* Digit n of a TQ1_0 byte: the byte is a fraction of 256 in base 3, first digit first. */
static uint8_t tq1_digit(uint8_t byte, unsigned n) {
        static const uint8_t powers[] = {1, 3, 9, 27, 81};

        return (uint8_t)((uint8_t)(byte * powers[n]) * 3U >> 8);
}

static enum model_error_code decode_tq1(const uint8_t *p, uint32_t cols, float factor,
                                        struct row_buffer *out) {
        for (uint32_t b = 0; b < cols / 256; b++, p += 54) {
                uint8_t *codes = out->codes + (size_t)b * 256;

                for (unsigned n = 0; n < 5; n++) {
                        for (unsigned m = 0; m < 32; m++)
                                codes[32 * n + m] = tq1_digit(p[m], n);
                        for (unsigned m = 0; m < 16; m++)
                                codes[160 + 16 * n + m] = tq1_digit(p[32 + m], n);
                }
                for (unsigned n = 0; n < 4; n++)
                        for (unsigned j = 0; j < 4; j++)
                                codes[240 + 4 * n + j] = tq1_digit(p[48 + j], n);
                out->scales[b] = f16_to_f32(load_u16(p + 52)) * factor;
        }
        return MODEL_OK;
}

static enum model_error_code decode_trits(const struct matrix_source *s, uint32_t row,
                                          struct row_buffer *out) {
        const uint32_t bytes = (s->cols + 4) / 5, groups = s->cols / 64;
        const size_t padded = (size_t)groups_of(s->cols) * GROUP_COLS;

        out->scales[0] = load_f32(s->row_scale + (size_t)row * 4) * s->factor;
        for (uint32_t k = 0; k < s->planes; k++) {
                const uint64_t line = (uint64_t)k * s->rows + row;
                const uint8_t *p = s->data + line * bytes;
                uint8_t *codes = out->codes + k * padded;

                memcpy(out->mantissa + (size_t)k * groups, s->mantissa + line * groups, groups);
                for (uint32_t c = 0; c < s->cols; p++) {
                        unsigned v = *p;

                        if (v >= 243)
                                return MODEL_E_TRIT;
                        for (unsigned i = 0; i < 5 && c < s->cols; i++, v /= 3)
                                codes[c++] = (uint8_t)(v % 3);
                }
        }
        return MODEL_OK;
}

static enum model_error_code decode_q8_0(const uint8_t *p, uint32_t cols, struct row_buffer *out) {
        for (uint32_t b = 0; b < cols / 32; b++, p += 34) {
                out->halves[b] = load_u16(p);
                for (unsigned i = 0; i < 32; i++)
                        out->codes[b * 32 + i] = p[2 + i] ^ 0x80; /* signed to offset 128 */
        }
        return MODEL_OK;
}

/* Q4_0 is centred on 8; Q4_1 counts from a minimum. */
static enum model_error_code decode_q4(const uint8_t *p, uint32_t cols, bool with_min,
                                       struct row_buffer *out) {
        const unsigned head = with_min ? 4 : 2;

        for (uint32_t b = 0; b < cols / 32; b++, p += head + 16) {
                uint8_t *codes = out->codes + (size_t)b * 32;

                out->halves[b] = load_u16(p);
                if (with_min)
                        out->mins[b] = load_u16(p + 2);
                for (unsigned j = 0; j < 16; j++) {
                        codes[j] = p[head + j] & 15;
                        codes[j + 16] = p[head + j] >> 4;
                }
        }
        return MODEL_OK;
}

/* 128 weights: low four bits from ql[64], high two from qh[32]. */
static void q6_half(const uint8_t *ql, const uint8_t *qh, uint8_t *codes) {
        for (unsigned l = 0; l < 32; l++) {
                unsigned h = qh[l];

                codes[l] = (uint8_t)((ql[l] & 15U) | (h & 3) << 4);
                codes[l + 32] = (uint8_t)((ql[l + 32] & 15U) | (h >> 2 & 3) << 4);
                codes[l + 64] = (uint8_t)((unsigned)ql[l] >> 4 | (h >> 4 & 3) << 4);
                codes[l + 96] = (uint8_t)((unsigned)ql[l + 32] >> 4 | (h >> 6 & 3) << 4);
        }
}

static enum model_error_code decode_q6_k(const uint8_t *p, uint32_t cols, struct row_buffer *out) {
        for (uint32_t b = 0; b < cols / 256; b++, p += 210) {
                q6_half(p, p + 128, out->codes + (size_t)b * 256);
                q6_half(p + 64, p + 160, out->codes + (size_t)b * 256 + 128);
                memcpy(out->mantissa + (size_t)b * 16, p + 192, 16);
                out->halves[b] = load_u16(p + 208);
        }
        return MODEL_OK;
}

static float float_at(const struct matrix_source *s, const uint8_t *p, uint32_t col) {
        if (s->type == TYPE_F32)
                return load_f32(p + (size_t)col * 4);
        if (s->type == TYPE_F16)
                return f16_to_f32(load_u16(p + (size_t)col * 2));
        return bf16_to_f32(load_u16(p + (size_t)col * 2));
}

static enum model_error_code check_floats(const struct matrix_source *s, const uint8_t *p) {
        unsigned bad = 0;

        if (s->type == TYPE_F32)
                for (uint32_t c = 0; c < s->cols; c++)
                        bad |= !f32_is_finite(load_u32(p + (size_t)c * 4));
        else if (s->type == TYPE_F16)
                for (uint32_t c = 0; c < s->cols; c++)
                        bad |= !f16_is_finite(load_u16(p + (size_t)c * 2));
        else
                for (uint32_t c = 0; c < s->cols; c++)
                        bad |= !bf16_is_finite(load_u16(p + (size_t)c * 2));
        return bad ? MODEL_E_NOT_FINITE : MODEL_OK;
}

/* One scale per row: the largest weight becomes 127; round half to even. A row whose scale
 * underflows to zero is a row of zeros. */
static void floats_to_s8(const struct matrix_source *s, const uint8_t *p, struct row_buffer *out) {
        float max = 0.0f, scale;

        for (uint32_t c = 0; c < s->cols; c++)
                max = fmaxf(max, fabsf(float_at(s, p, c)));
        scale = max / 127.0f;
        out->scales[0] = scale;
        for (uint32_t c = 0; c < s->cols; c++) {
                float q = scale > 0.0f ? float_at(s, p, c) / scale : 0.0f;

                q = fminf(fmaxf(q, -127.0f), 127.0f);
                out->codes[c] = (uint8_t)(lrintf(q) + 128);
        }
}

static enum model_error_code decode_floats(const struct matrix_source *s, uint32_t row,
                                           struct row_buffer *out) {
        const size_t width = s->type == TYPE_F32 ? 4 : 2;
        const uint8_t *p = s->data + (uint64_t)row * s->cols * width;

        if (check_floats(s, p) != MODEL_OK)
                return MODEL_E_NOT_FINITE;
        if (s->to_s8)
                floats_to_s8(s, p, out);
        else
                memcpy(out->codes, p, s->cols * width);
        return MODEL_OK;
}

enum model_error_code row_decode(const struct matrix_source *s, uint32_t row,
                                 struct row_buffer *out) {
        const struct tensor_type *type;
        const uint8_t *p;

        if (s->type == TYPE_I2_S)
                return decode_i2s(s, row, out);
        if (s->type == TYPE_I8)
                return decode_trits(s, row, out);

        type = tensor_type(s->type);
        p = s->data + (uint64_t)row * (s->cols / type->block) * type->bytes;
        switch (s->type) {
        case TYPE_TQ1_0:
                return decode_tq1(p, s->cols, s->factor, out);
        case TYPE_TQ2_0:
                return decode_tq2(p, s->cols, s->factor, out);
        case TYPE_Q8_0:
                return decode_q8_0(p, s->cols, out);
        case TYPE_Q4_0:
        case TYPE_Q4_1:
                return decode_q4(p, s->cols, s->type == TYPE_Q4_1, out);
        case TYPE_Q6_K:
                return decode_q6_k(p, s->cols, out);
        default: /* F32, F16, BF16: the packer lets no other type through */
                return decode_floats(s, row, out);
        }
}
