/* Ternary decoders against the conformance vectors of formats-and-models 9. Each format is encoded
 * here straight from its description; the hash of the encoding must be the published one, and
 * decoding must give the weights back. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/decode.h"

enum { N = 1024 };

static int trit(unsigned i) {
        return (int)(((i * i + 3 * i + i / 5) % 7) % 3) - 1;
}

static unsigned code(unsigned i) {
        return (unsigned)(trit(i) + 1);
}

static uint64_t fnv1a(const uint8_t *p, size_t n) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < n; i++)
                h = (h ^ p[i]) * UINT64_C(0x100000001b3);
        return h;
}

static void put_scale(uint8_t *p) {
        const float scale = 0.5f;

        memcpy(p, &scale, 4);
}

static void encode_i2s(uint8_t out[288], enum i2s_layout layout) {
        memset(out, 0, 288);
        put_scale(out + 256);
        for (unsigned i = 0; i < N; i++) {
                unsigned block = layout == I2S_128_32 ? 128 : 64, quarter = block / 4;
                unsigned j = i % block;

                if (layout == I2S_1X4) /* four rows of 256 */
                        out[i % 256] |= (uint8_t)(code(i) << (6 - 2 * (i / 256)));
                else
                        out[i / block * quarter + j % quarter] |=
                                (uint8_t)(code(i) << (6 - 2 * (j / quarter)));
        }
}

static void encode_tq2(uint8_t out[264]) {
        memset(out, 0, 264);
        for (unsigned b = 0; b < 4; b++) {
                uint8_t *p = out + 66 * b;

                for (unsigned g = 0; g < 2; g++)
                        for (unsigned l = 0; l < 4; l++)
                                for (unsigned m = 0; m < 32; m++)
                                        p[32 * g + m] |= (uint8_t)(
                                                code(256 * b + 128 * g + 32 * l + m) << 2 * l);
                p[65] = 0x38; /* 0.5 in f16 */
        }
}

static uint8_t base3(unsigned first, unsigned step, unsigned digits) {
        unsigned v = 0;

        for (unsigned n = 0; n < 5; n++)
                v = v * 3 + (n < digits ? code(first + step * n) : 0);
        return (uint8_t)((256 * v + 242) / 243);
}

static void encode_tq1(uint8_t out[216]) {
        memset(out, 0, 216);
        for (unsigned b = 0; b < 4; b++) {
                uint8_t *p = out + 54 * b;

                for (unsigned m = 0; m < 32; m++)
                        p[m] = base3(256 * b + m, 32, 5);
                for (unsigned m = 0; m < 16; m++)
                        p[32 + m] = base3(256 * b + 160 + m, 16, 5);
                for (unsigned j = 0; j < 4; j++)
                        p[48 + j] = base3(256 * b + 240 + j, 4, 4);
                p[53] = 0x38;
        }
}

/* Four rows of 256, each weight and each scale. */
static void check_rows(const struct matrix_source *s) {
        uint8_t codes[256], mantissa[4];
        float scales[4] = {0};
        struct row_buffer out = {.codes = codes, .mantissa = mantissa, .scales = scales};

        for (uint32_t row = 0; row < 4; row++) {
                memset(codes, 9, sizeof(codes));
                assert_int_equal(row_decode(s, row, &out), MODEL_OK);
                assert_true(scales[0] == 0.5f);
                for (unsigned c = 0; c < 256; c++)
                        if (codes[c] != code(256 * row + c))
                                fail_msg("row %u column %u: %u, wanted %u", row, c, codes[c],
                                         code(256 * row + c));
        }
}

static void test_vectors(void **state) {
        static const struct {
                uint32_t type;
                enum i2s_layout layout;
                size_t bytes;
                uint64_t hash;
                uint8_t first[4];
        } rows[] = {
                {TYPE_I2_S, I2S_128_32, 288, UINT64_C(0x97ea76de479b18c2), {8, 0x58, 0x12, 0x42}},
                {TYPE_I2_S, I2S_64_16, 288, UINT64_C(0x9ef8fe88018eff03), {0, 0x46, 4, 0x50}},
                {TYPE_I2_S, I2S_1X4, 288, UINT64_C(0xf6a123f09ad2ba8b), {0x25, 0x41, 4, 0x69}},
                {TYPE_TQ2_0, 0, 264, UINT64_C(0x762b66b3e01b62f2), {0x20, 0x25, 0x84, 0x81}},
                {TYPE_TQ1_0, 0, 216, UINT64_C(0xb64cbfce78ef1a39), {0x13, 0x86, 0x25, 0x5c}},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint8_t data[288];
                struct matrix_source s = {.type = rows[i].type, .rows = 4, .cols = 256,
                                          .data = data, .i2s = rows[i].layout, .factor = 1.0f};

                if (rows[i].type == TYPE_I2_S)
                        encode_i2s(data, rows[i].layout);
                else if (rows[i].type == TYPE_TQ2_0)
                        encode_tq2(data);
                else
                        encode_tq1(data);
                assert_memory_equal(data, rows[i].first, 4);
                if (fnv1a(data, rows[i].bytes) != rows[i].hash)
                        fail_msg("format %zu: hash differs", i);
                check_rows(&s);
        }
}

/* Rows that begin in the middle of a block: the layout is defined over the flat tensor. */
static void test_i2s_odd_width(void **state) {
        uint8_t data[288], codes[64], mantissa[1];
        float scale;
        struct row_buffer out = {.codes = codes, .mantissa = mantissa, .scales = &scale};
        struct matrix_source s = {.type = TYPE_I2_S, .rows = 16, .cols = 64, .data = data,
                                  .i2s = I2S_128_32, .factor = 2.0f};

        encode_i2s(data, I2S_128_32);
        for (uint32_t row = 0; row < 16; row++) {
                assert_int_equal(row_decode(&s, row, &out), MODEL_OK);
                assert_true(scale == 1.0f); /* 0.5 times the factor */
                for (unsigned c = 0; c < 64; c++)
                        assert_int_equal(codes[c], code(64 * row + c));
        }
}

static void test_code_three(void **state) {
        uint8_t data[288], codes[256], mantissa[4];
        float scales[4];
        struct row_buffer out = {.codes = codes, .mantissa = mantissa, .scales = scales};
        struct matrix_source s = {.type = TYPE_I2_S, .rows = 4, .cols = 256, .data = data,
                                  .factor = 1.0f};

        for (unsigned shift = 0; shift < 8; shift += 2) {
                encode_i2s(data, I2S_128_32);
                data[100] |= (uint8_t)(3U << shift); /* row 1 in this layout */
                assert_int_equal(row_decode(&s, 0, &out), MODEL_OK);
                assert_int_equal(row_decode(&s, 1, &out), MODEL_E_TRIT);
        }
        s.type = TYPE_TQ2_0;
        encode_tq2(data);
        data[66] |= 3;
        assert_int_equal(row_decode(&s, 0, &out), MODEL_OK);
        assert_int_equal(row_decode(&s, 1, &out), MODEL_E_TRIT);
}

/* Digits (2,2,2,2,2) are 255, (1,1,1,1,1) 128, (0,1,2,0,1) 49, (1,1,1,1) and nothing 127. */
static void test_tq1_bytes(void **state) {
        static const struct {
                uint8_t byte, digits[5];
        } rows[] = {{255, {2, 2, 2, 2, 2}}, {128, {1, 1, 1, 1, 1}}, {49, {0, 1, 2, 0, 1}},
                    {127, {1, 1, 1, 1, 0}}};

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                uint8_t data[54] = {rows[i].byte}, codes[256], mantissa[4];
                float scale;
                struct row_buffer out = {.codes = codes, .mantissa = mantissa, .scales = &scale};
                struct matrix_source s = {.type = TYPE_TQ1_0, .rows = 1, .cols = 256,
                                          .data = data, .factor = 1.0f};

                assert_int_equal(row_decode(&s, 0, &out), MODEL_OK);
                for (unsigned n = 0; n < 5; n++)
                        assert_int_equal(codes[32 * n], rows[i].digits[n]);
        }
}

/* The dot product of the vectors: quantise, multiply decoded codes, scale. */
static void test_dot_product(void **state) {
        static const struct {
                int32_t d;
                float y;
        } rows[] = {{734, 4.5029531f}, {1121, 6.8836122f}, {109, 0.6582185f}, {691, 4.2384353f}};
        uint8_t data[288], codes[256], mantissa[4];
        float scale, s = (float)(127.0 / 1.5625);
        struct row_buffer out = {.codes = codes, .mantissa = mantissa, .scales = &scale};
        struct matrix_source m = {.type = TYPE_I2_S, .rows = 4, .cols = 256, .data = data,
                                  .factor = 1.0f};
        int32_t q[256], sum = 0;

        encode_i2s(data, I2S_128_32);
        for (unsigned i = 0; i < 256; i++) {
                float x = (float)((int)((37 * i + 11) % 201) - 100) / 64.0f;

                q[i] = (int32_t)lrintf(x * s);
                sum += q[i];
        }
        assert_int_equal(sum, 2);
        for (uint32_t row = 0; row < 4; row++) {
                int32_t d = 0;

                assert_int_equal(row_decode(&m, row, &out), MODEL_OK);
                for (unsigned i = 0; i < 256; i++)
                        d += codes[i] * q[i];
                assert_int_equal(d, rows[row].d);
                assert_true(fabsf((float)(d - sum) / s * scale - rows[row].y) < 1e-6f);
        }
}

/* Every half, against the definition. */
static void test_halves(void **state) {
        for (unsigned h = 0; h < 65536; h++) {
                unsigned e = h >> 10 & 31, m = h & 1023;
                double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25);
                float got = f16_to_f32((uint16_t)h);

                assert_int_equal(f16_is_finite((uint16_t)h), e != 31);
                if (e == 31)
                        assert_true(m ? isnan(got) : isinf(got));
                else if ((double)got != (h & 0x8000 ? -v : v))
                        fail_msg("half %04x: %g, wanted %g", h, (double)got, v);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors),    cmocka_unit_test(test_i2s_odd_width),
                cmocka_unit_test(test_code_three), cmocka_unit_test(test_tq1_bytes),
                cmocka_unit_test(test_dot_product), cmocka_unit_test(test_halves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
