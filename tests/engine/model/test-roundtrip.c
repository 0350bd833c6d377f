/* Pack, open, read back: every weight of every matrix must be what the source says. The expected
 * value comes from a second reading of the type descriptions (formats-and-models 2.2 to 2.5), one
 * weight at a time, that shares no code with the decoders but the loads. Then the files that are
 * given on the command line (bundled and reference models) must pack and open, twice the same. */

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/model.h"
#include "engine/model/shape.h"
#include "engine/model/tile.h"
#include "engine/model/types.h"
#include "engine/text/vocab.h"
#include "tests/engine/model/fixture.h"
#include "tests/tools/synthetic_packed.h"

static float q4_weight(const uint8_t *p, unsigned i, bool with_min) {
        const uint8_t *nibbles = p + (with_min ? 4 : 2);
        int v = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
        float d = f16_to_f32(load_u16(p));

        return with_min ? (float)v * d + f16_to_f32(load_u16(p + 2)) : (float)(v - 8) * d;
}

static float q6_weight(const uint8_t *p, unsigned i) {
        unsigned half = i / 128, in = i % 128, quarter = in / 32, l = in % 32;
        const uint8_t *ql = p + 64 * half, *qh = p + 128 + 32 * half;
        unsigned low = ql[l + 32 * (quarter & 1)];
        unsigned v = (quarter < 2 ? low & 15 : low >> 4) | (qh[l] >> 2 * quarter & 3U) << 4;
        float scale = (float)(int8_t)p[192 + 8 * half + 2 * quarter + l / 16];

        return f16_to_f32(load_u16(p + 208)) * scale * (float)((int)v - 32);
}

static int tq1_trit(const uint8_t *p, unsigned i) {
        static const unsigned powers[] = {1, 3, 9, 27, 81};
        unsigned byte, digit;

        if (i < 160)
                byte = p[i % 32], digit = i / 32;
        else if (i < 240)
                byte = p[32 + (i - 160) % 16], digit = (i - 160) / 16;
        else
                byte = p[48 + (i - 240) % 4], digit = (i - 240) / 4;
        return (int)((byte * powers[digit] & 255) * 3 >> 8) - 1;
}

static float weight_of(const struct gguf *g, const struct gguf_tensor *t, uint64_t row,
                       uint64_t col) {
        const uint8_t *data = g->file.p + t->offset, *p;
        const uint64_t index = row * t->ne[0] + col, n = t->ne[0] * t->ne[1];
        const struct tensor_type *type = tensor_type(t->type);
        const unsigned i = (unsigned)(col % type->block);

        p = data + index / type->block * type->bytes;
        switch (t->type) {
        case TYPE_F32:
                return load_f32(p);
        case TYPE_F16:
                return f16_to_f32(load_u16(p));
        case TYPE_BF16:
                return bf16_to_f32(load_u16(p));
        case TYPE_Q8_0:
                return (float)(int8_t)p[2 + i] * f16_to_f32(load_u16(p));
        case TYPE_Q4_0:
        case TYPE_Q4_1:
                return q4_weight(p, i, t->type == TYPE_Q4_1);
        case TYPE_Q6_K:
                return q6_weight(p, i);
        case TYPE_TQ1_0:
                return (float)tq1_trit(p, i) * f16_to_f32(load_u16(p + 52));
        case TYPE_TQ2_0:
                return (float)((p[i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3) - 1) *
                       f16_to_f32(load_u16(p + 64));
        case TYPE_I2_S:
                p = data + index / 128 * 32;
                return (float)((p[index % 32] >> (6 - 2 * (index % 128 / 32)) & 3) - 1) *
                       load_f32(data + n / 4);
        default:
                fail_msg("type %u", t->type);
                return 0;
        }
}

static float trit_weight(const struct gguf *g, const char *base, uint64_t row, uint64_t col) {
        const struct gguf_tensor *t, *m, *s;
        char name[80];
        int v = 0;

        snprintf(name, sizeof(name), "%s.trits", base);
        t = gguf_tensor(g, name);
        snprintf(name, sizeof(name), "%s.mantissa", base);
        m = gguf_tensor(g, name);
        snprintf(name, sizeof(name), "%s.row_scale", base);
        s = gguf_tensor(g, name);
        for (uint64_t k = 0; k < t->ne[2]; k++) {
                uint64_t line = k * t->ne[1] + row;
                unsigned byte = g->file.p[t->offset + line * t->ne[0] + col / 5];

                for (unsigned i = 0; i < col % 5; i++)
                        byte /= 3;
                v += g->file.p[m->offset + line * m->ne[0] + col / 64] * ((int)(byte % 3) - 1);
        }
        return (float)v * load_f32(g->file.p + s->offset + 4 * row);
}

/* tolerance: 0, or what one step of 8 bits of the row's largest weight allows. */
static void check_matrix(const struct gguf *g, const char *base, const struct weight_matrix *m) {
        _cleanup_free_ float *row = malloc(m->cols * sizeof(float));
        const struct gguf_tensor *t;
        char name[80];

        snprintf(name, sizeof(name), "%s.weight", base);
        t = gguf_tensor(g, name);
        for (uint32_t r = 0; r < m->rows; r++) {
                float tolerance = 0;

                matrix_row(m, r, row);
                for (uint32_t c = 0; c < m->cols; c++)
                        tolerance = fmaxf(tolerance, fabsf(row[c]));
                if (m->form != WEIGHT_S8 || m->scale != SCALE_ROW)
                        tolerance = 0;
                for (uint32_t c = 0; c < m->cols; c++) {
                        float wanted = t ? weight_of(g, t, r, c) : trit_weight(g, base, r, c);

                        if (!(fabsf(row[c] - wanted) <= tolerance / 253.0f))
                                fail_msg("%s row %u column %u: %.9g, wanted %.9g", base, r, c,
                                         (double)row[c], (double)wanted);
                }
        }
}

static int pack_bytes_as(struct view src, enum ternary_packing ternary) {
        struct pack_options options = fixture_options;
        struct model_error err = {0};
        char text[256];
        uint64_t size;
        int fd = fixture_fd((struct bytes){0});

        options.ternary = ternary;
        if (pack_model(src, fd, &options, &size, &err) < 0)
                fail_msg("%s", model_error_format(&err, text, sizeof(text)));
        assert_int_equal(size, lseek(fd, 0, SEEK_END));
        return fd;
}

static int pack_bytes(struct view src) {
        return pack_bytes_as(src, TERNARY_2_BITS);
}

static struct model *open_packed(int fd) {
        struct model_error err = {0};
        struct model *m = NULL;
        char text[256];

        if (model_open(&m, fd, &err) < 0)
                fail_msg("%s", model_error_format(&err, text, sizeof(text)));
        close(fd);
        return m;
}

static enum weight_form layer_ternary_in(const struct hparams *hp, enum layer_matrix m,
                                         enum ternary_packing ternary) {
        const bool lines = hp->activation == ACTIVATION_RELU2, base_3 = ternary == TERNARY_BASE_3;

        if (!lines)
                return base_3 ? WEIGHT_T5 : WEIGHT_T2;
        if (m == MATRIX_UP)
                return base_3 ? WEIGHT_T5_BY_ROW : WEIGHT_T2_BY_ROW;
        return base_3 ? WEIGHT_T5_BY_COL : WEIGHT_T2_BY_COL;
}

static void check_synthetic_as(const struct synthetic *s, enum ternary_packing ternary) {
        struct bytes b = fixture_model(s);
        struct view src = {b.p, b.n};
        struct model *m = open_packed(pack_bytes_as(src, ternary));
        struct model_error err;
        struct gguf *g = NULL;
        char name[NAME_ROOM];

        assert_int_equal(gguf_parse(&g, src, &err), 0);
        assert_int_equal(m->hp.n_vocab, s->vocab);
        assert_int_equal(vocab_size(m->vocab), s->vocab);
        assert_int_equal(m->tied, !s->untied);
        check_matrix(g, "token_embd", &m->token_embd);
        check_matrix(g, s->untied ? "output" : "token_embd", &m->output);
        for (uint32_t l = 0; l < s->layers; l++)
                for (unsigned i = 0; i < LAYER_MATRICES; i++) {
                        snprintf(name, sizeof(name), "blk.%u.%s", l,
                                 layer_matrix_name((enum layer_matrix)i));
                        check_matrix(g, name,
                                     layer_matrix(&m->layers[l], (enum layer_matrix)i));
                }
        assert_memory_equal(m->output_norm, b.p + gguf_tensor(g, "output_norm.weight")->offset,
                            s->embd * sizeof(float));
        assert_memory_equal(m->layers[0].ffn_norm,
                            b.p + gguf_tensor(g, "blk.0.ffn_norm.weight")->offset,
                            s->embd * sizeof(float));
        if (s->type.id == TYPE_I2_S) {
                assert_int_equal(m->layers[0].o.form,
                                 ternary == TERNARY_BASE_3 ? WEIGHT_T5 : WEIGHT_T2);
                assert_int_equal(m->layers[0].up.form,
                                 layer_ternary_in(&m->hp, MATRIX_UP, ternary));
                assert_int_equal(m->layers[0].down.form,
                                 layer_ternary_in(&m->hp, MATRIX_DOWN, ternary));
                assert_true(m->hp.token_quant);
        }
        gguf_free(g);
        model_free(m);
        free(b.p);
}

/* A matrix of random codes goes through tiles and comes back; of sizes that no model here has. */
static void check_tiles(enum weight_form form, uint32_t rows, uint32_t cols) {
        struct weight_matrix m = {.form = form, .scale = SCALE_ROW, .rows = rows, .cols = cols};
        const uint32_t step = matrix_tile_rows(&m);
        _cleanup_free_ uint8_t *codes = malloc((size_t)rows * cols);
        _cleanup_free_ float *row = malloc(cols * sizeof(float)),
                             *scales = malloc((size_t)rows * sizeof(float));
        uint8_t *all = malloc(matrix_part_bytes(&m, false, PART_CODES));
        struct row_buffer buffer;
        struct tile t;

        m.planes = form == WEIGHT_T2_BY_ROW || form == WEIGHT_T2_BY_COL;
        assert_true(matrix_form_valid(&m, false));
        assert_int_equal(tile_init(&t, &m, false), 0);
        assert_int_equal(row_buffer_init(&buffer, &m, false), 0);
        for (uint32_t i = 0; i < matrix_tiles(&m); i++) {
                tile_clear(&t);
                for (uint32_t r = i * step; r < (i + 1) * step && r < rows; r++) {
                        for (uint32_t c = 0; c < cols; c++)
                                codes[(size_t)r * cols + c] = (uint8_t)((r * 7 + c * c) % 3);
                        memcpy(buffer.codes, codes + (size_t)r * cols, cols);
                        buffer.scales[0] = scales[r] = 1 + (float)r;
                        tile_put_row(&t, r % step, &buffer);
                }
                memcpy(all + i * matrix_tile_bytes(&m, false, PART_CODES), t.part[PART_CODES],
                       matrix_tile_bytes(&m, false, PART_CODES));
        }
        m.codes = all;
        m.scales = scales;
        for (uint32_t r = 0; r < rows; r++) {
                matrix_row(&m, r, row);
                for (uint32_t c = 0; c < cols; c++)
                        assert_true(row[c] == (float)(codes[(size_t)r * cols + c] - 1) * scales[r]);
        }
        row_buffer_done(&buffer);
        tile_done(&t);
        free(all);
}

static void test_lines(void **state) {
        static const enum weight_form forms[] = {WEIGHT_T2_BY_ROW, WEIGHT_T2_BY_COL,
                                                 WEIGHT_T5_BY_ROW, WEIGHT_T5_BY_COL};
        static const uint32_t cols[] = {1, 64, 255, 257, 319, 321, 641};

        for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
                for (size_t j = 0; j < ARRAY_SIZE(cols); j++) {
                        check_tiles(forms[i], 17, cols[j]);
                        check_tiles(forms[i], 641, cols[j]);
                }
}

static void check_synthetic(const struct synthetic *s) {
        check_synthetic_as(s, TERNARY_2_BITS);
        check_synthetic_as(s, TERNARY_BASE_3);
}

static const char *const type_names[] = {"i2_s", "tq1_0", "tq2_0", "q8_0",   "q4_0",
                                         "q4_1", "q6_k",  "f16",   "bf16",   "f32",
                                         "trits1", "trits2", "trits3", "trits4"};

static void test_types(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(type_names); i++) {
                struct synthetic s = synthetic_tiny;

                assert_int_equal(synthetic_type_parse(type_names[i], &s.type), 0);
                s.head = s.type;
                if (s.type.id == TYPE_I2_S)
                        s.head = (struct synthetic_type){TYPE_F16, 0};
                s.layers = 2;
                s.seed = i;
                check_synthetic(&s);
                s.untied = true;
                s.arch = "llama";
                check_synthetic(&s);
        }
}

/* Widths and heights that are no multiples of 64 and 16: padding must not show. */
static void test_odd_shapes(void **state) {
        static const struct {
                const char *type;
                uint32_t embd, ff, heads, kv_heads;
        } rows[] = {
                {"q8_0", 96, 160, 4, 2},  {"q4_1", 96, 32, 2, 1},  {"f32", 20, 30, 2, 1},
                {"f16", 20, 30, 2, 1},    {"bf16", 6, 10, 1, 1},   {"trits3", 64, 192, 2, 1},
                {"i2_s", 160, 4, 20, 4},  {"i2_s", 320, 388, 5, 5},
                {"i2_s", 576, 260, 9, 3},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct synthetic s = synthetic_tiny;

                assert_int_equal(synthetic_type_parse(rows[i].type, &s.type), 0);
                if (s.type.id != TYPE_I2_S)
                        s.head = s.type;
                s.embd = rows[i].embd;
                s.ff = rows[i].ff;
                s.heads = rows[i].heads;
                s.kv_heads = rows[i].kv_heads;
                s.vocab = 261;
                check_synthetic(&s);
        }
}

static bool token_quant_of(const char *arch, const char *type) {
        struct synthetic s = synthetic_tiny;
        struct bytes b;
        struct model *m;
        bool quant;

        s.arch = arch;
        assert_int_equal(synthetic_type_parse(type, &s.type), 0);
        b = fixture_model(&s);
        m = open_packed(pack_bytes((struct view){b.p, b.n}));
        quant = m->hp.token_quant;
        assert_int_equal(m->hp.rope_neox, strcmp(arch, "llama") != 0);
        assert_int_equal(m->hp.sub_norms, strcmp(arch, "llama") != 0);
        model_free(m);
        free(b.p);
        return quant;
}

/* One activation scale a token where the model was trained so. */
static void test_token_quant(void **state) {
        assert_true(token_quant_of("bitnet-b1.58", "i2_s"));
        assert_true(token_quant_of("bitnet-25", "tq2_0"));
        assert_true(token_quant_of("llama", "i2_s"));
        assert_false(token_quant_of("llama", "tq2_0"));
        assert_false(token_quant_of("llama", "trits3"));
}

/* What is written without a source opens, with every weight a trit times its scale and no two
 * matrices alike. */
static void test_written_directly(void **state) {
        for (int ternary = TERNARY_2_BITS; ternary <= TERNARY_BASE_3; ternary++) {
                struct synthetic s = synthetic_tiny;
                float row[256], other[256];
                struct model *m;
                uint64_t size;
                int fd = fixture_fd((struct bytes){0});

                s.head = (struct synthetic_type){TYPE_F16, 0};
                s.layers = 2;
                assert_int_equal(synthetic_write_packed(fd, &s, (enum ternary_packing)ternary,
                                                        &size), 0);
                assert_int_equal(size, lseek(fd, 0, SEEK_END));
                m = open_packed(fd);
                assert_int_equal(m->layers[1].q.form,
                                 ternary == TERNARY_BASE_3 ? WEIGHT_T5 : WEIGHT_T2);
                for (uint32_t r = 0; r < m->layers[1].q.rows; r++) {
                        const float scale = m->layers[1].q.scales[r];

                        matrix_row(&m->layers[1].q, r, row);
                        for (unsigned c = 0; c < 256; c++)
                                assert_true(row[c] == 0 || fabsf(row[c]) == scale);
                }
                matrix_row(&m->layers[0].q, m->layers[0].q.rows - 1, other);
                assert_memory_not_equal(row, other, sizeof(row));
                model_free(m);
        }
}

/* A factor tensor of a projection is part of its scales. */
static void check_factor(const struct synthetic *s) {
        const struct edit add = {ADD_F32, "blk.0.attn_v.scale", 1};
        const struct edit twice[] = {{POKE, "blk.0.attn_v.scale", 0x40, NULL, 3},
                                     {EDIT_NONE}};
        struct bytes plain = fixture_model(s);
        struct bytes one = fixture_edit(plain, &add, 1, 32);
        struct bytes low = fixture_edit(one, twice, 1, 32);
        const struct edit clear = {POKE, "blk.0.attn_v.scale", 0, NULL, 2};
        struct bytes two = fixture_edit(low, &clear, 1, 32); /* 0x40000000: 2.0 */
        struct model *a = open_packed(pack_bytes((struct view){one.p, one.n}));
        struct model *b = open_packed(pack_bytes((struct view){two.p, two.n}));
        float x[256], y[256];

        matrix_row(&a->layers[0].v, 3, x);
        matrix_row(&b->layers[0].v, 3, y);
        for (unsigned i = 0; i < 256; i++)
                assert_true(y[i] == 2.0f * x[i]);
        model_free(a);
        model_free(b);
        free(plain.p);
        free(one.p);
        free(low.p);
        free(two.p);
}

/* In float scales, and beside binary16 ones. */
static void test_factor(void **state) {
        struct synthetic s = synthetic_tiny;

        check_factor(&s);
        assert_int_equal(synthetic_type_parse("q4_1", &s.type), 0);
        check_factor(&s);
        assert_int_equal(synthetic_type_parse("q6_k", &s.type), 0);
        check_factor(&s);
}

/* A float head above a hundred million weights becomes 8-bit rows, if the options say so. */
static void test_large_head(void **state) {
        struct synthetic s = synthetic_tiny;
        struct pack_options keep = fixture_options;
        struct model_error err;
        struct model *m;
        struct bytes b;
        uint64_t size;
        int fd;

        s.vocab = 395000; /* times 256 */
        s.head = (struct synthetic_type){TYPE_F16, 0};
        b = fixture_model(&s);
        m = open_packed(pack_bytes((struct view){b.p, b.n}));
        assert_int_equal(m->output.form, WEIGHT_S8);
        assert_int_equal(m->output.scale, SCALE_ROW);
        for (uint32_t r = 0; r < s.vocab; r += 9973) {
                struct gguf *g = NULL;
                float row[256], max = 0;

                assert_int_equal(gguf_parse(&g, (struct view){b.p, b.n}, &err), 0);
                matrix_row(&m->output, r, row);
                for (unsigned c = 0; c < 256; c++)
                        max = fmaxf(max, fabsf(row[c]));
                for (unsigned c = 0; c < 256; c++) {
                        float w = weight_of(g, gguf_tensor(g, "token_embd.weight"), r, c);

                        assert_true(fabsf(row[c] - w) <= max / 253.0f);
                }
                gguf_free(g);
        }
        model_free(m);

        keep.float_head_as_s8 = false;
        fd = fixture_fd((struct bytes){0});
        assert_int_equal(pack_model((struct view){b.p, b.n}, fd, &keep, &size, &err), 0);
        m = open_packed(fd);
        assert_int_equal(m->output.form, WEIGHT_F16);
        model_free(m);
        free(b.p);
}

static void check_file(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC), a, b;
        struct bytes src, x, y;
        struct model *m;

        assert_true(fd >= 0);
        src = fixture_read(fd);
        close(fd);
        a = pack_bytes((struct view){src.p, src.n});
        b = pack_bytes((struct view){src.p, src.n});
        x = fixture_read(a);
        y = fixture_read(b);
        assert_int_equal(x.n, y.n);
        assert_int_equal(memcmp(x.p, y.p, x.n), 0);
        close(b);
        m = open_packed(a);
        printf("%s: %lu parameters, %zu bytes packed\n", path, (unsigned long)m->n_params, x.n);
        model_free(m);
        free(src.p);
        free(x.p);
        free(y.p);
}

static int n_files;
static char **files;

static void test_files(void **state) {
        for (int i = 0; i < n_files; i++)
                check_file(files[i]);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_types),       cmocka_unit_test(test_lines),
                cmocka_unit_test(test_odd_shapes),  cmocka_unit_test(test_token_quant),
                cmocka_unit_test(test_factor),      cmocka_unit_test(test_written_directly),
                cmocka_unit_test(test_large_head),  cmocka_unit_test(test_files),
        };

        n_files = argc - 1;
        files = argv + 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
