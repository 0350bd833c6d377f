/* The packer and the opener against files that are right but for one thing: rules 14 to 19 of
 * formats-and-models 1.3, with the exact code for each. */

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
#include "engine/model/types.h"
#include "tests/engine/model/fixture.h"

#define A "bitnet-b1.58."
#define INF 0x7f800000
#define NOT_A_NUMBER 0x7fc00000
#define FLOAT_ONE 0x3f800000

struct row {
        struct edit edit;
        enum model_error_code code;
};

static enum model_error_code pack(struct bytes b, const struct pack_options *o, int *ret_fd) {
        struct model_error err = {.code = MODEL_OK};
        uint8_t *exact = malloc(b.n);
        uint64_t size = 0;
        int fd, r;

        assert_non_null(exact);
        memcpy(exact, b.p, b.n);
        fd = fixture_fd((struct bytes){0});
        r = pack_model((struct view){exact, b.n}, fd, o, &size, &err);
        assert_int_equal(r == 0, err.code == MODEL_OK);
        if (r == 0)
                assert_int_equal(size, lseek(fd, 0, SEEK_END));
        free(exact);
        if (ret_fd && r == 0)
                *ret_fd = fd;
        else
                close(fd);
        return err.code;
}

static void check_rows(const struct synthetic *s, const struct row *rows, size_t n) {
        struct bytes valid = fixture_model(s);
        unsigned wrong = 0;

        for (size_t i = 0; i < n; i++) {
                struct bytes b = fixture_edit(valid, &rows[i].edit, 1, 32);
                enum model_error_code code = pack(b, &fixture_options, NULL);

                if (code != rows[i].code) {
                        print_error("row %zu (%s): got \"%s\", wanted \"%s\"\n", i,
                                    rows[i].edit.name ? rows[i].edit.name : "-",
                                    model_error_text(code), model_error_text(rows[i].code));
                        wrong++;
                }
                free(b.p);
        }
        free(valid.p);
        assert_int_equal(wrong, 0);
}

static void test_metadata(void **state) {
        static const struct row rows[] = {
                {{EDIT_NONE}, MODEL_OK},
                {{DROP_KEY, "general.architecture"}, MODEL_E_META_MISSING},
                {{SET_STRING, "general.architecture", 0, "qwen3"}, MODEL_E_ARCHITECTURE},
                {{SET_U32, "general.architecture", 1}, MODEL_E_META_TYPE},
                {{SET_STRING, "general.type", 0, "adapter"}, MODEL_E_FEATURE},
                {{SET_STRING, "general.type", 0, "model"}, MODEL_OK},
                {{SET_U32, "split.count", 2}, MODEL_E_SPLIT},
                {{SET_U32, "split.count", 1}, MODEL_OK},
                /* CVE-2025-0317: every count that could be a divisor */
                {{SET_U32, A "block_count", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "embedding_length", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "feed_forward_length", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.head_count", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.head_count_kv", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.key_length", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "rope.dimension_count", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "context_length", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "vocab_size", 0}, MODEL_E_META_RANGE},
                {{SET_U32, A "block_count", 1025}, MODEL_E_META_RANGE},
                {{SET_U32, A "block_count", UINT32_MAX}, MODEL_E_META_RANGE},
                {{SET_U32, A "embedding_length", 65537}, MODEL_E_META_RANGE},
                {{SET_U32, A "feed_forward_length", (1 << 20) + 1}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.head_count", 1025}, MODEL_E_META_RANGE},
                {{SET_U32, A "context_length", (1 << 24) + 1}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.head_count_kv", 3}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.head_count_kv", 8}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.key_length", 63}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.key_length", 258}, MODEL_E_META_RANGE},
                {{SET_U32, A "attention.value_length", 32}, MODEL_E_FEATURE},
                {{SET_U32, A "rope.dimension_count", 66}, MODEL_E_META_RANGE},
                {{SET_U32, A "rope.dimension_count", 31}, MODEL_E_META_RANGE},
                {{SET_U32, A "rope.dimension_count", 32}, MODEL_OK},
                {{SET_U32_ARRAY, A "feed_forward_length", 256}, MODEL_E_META_TYPE},
                {{SET_STRING, A "block_count", 0, "1"}, MODEL_E_META_TYPE},
                {{DROP_KEY, A "block_count"}, MODEL_E_META_MISSING},
                {{DROP_KEY, A "context_length"}, MODEL_E_META_MISSING},
                {{DROP_KEY, A "attention.layer_norm_rms_epsilon"}, MODEL_E_META_MISSING},
                {{DROP_KEY, A "rope.dimension_count"}, MODEL_OK},
                {{DROP_KEY, A "rope.freq_base"}, MODEL_OK},
                {{DROP_KEY, A "vocab_size"}, MODEL_OK},
                {{SET_U32, A "vocab_size", 300}, MODEL_E_META_RANGE},
                {{SET_F32, A "attention.layer_norm_rms_epsilon", 0}, MODEL_E_META_RANGE},
                {{SET_F32, A "attention.layer_norm_rms_epsilon", 0x80000001}, MODEL_E_META_RANGE},
                {{SET_F32, A "attention.layer_norm_rms_epsilon", FLOAT_ONE}, MODEL_E_META_RANGE},
                {{SET_F32, A "attention.layer_norm_rms_epsilon", NOT_A_NUMBER},
                 MODEL_E_META_RANGE},
                {{SET_F32, A "attention.layer_norm_rms_epsilon", 0x2b8cbccc}, MODEL_OK}, /* 1e-12 */
                {{SET_F32, A "rope.freq_base", 0}, MODEL_E_META_RANGE},
                {{SET_F32, A "rope.freq_base", 0xbf800000}, MODEL_E_META_RANGE},
                {{SET_F32, A "rope.freq_base", INF}, MODEL_E_META_RANGE},
                {{SET_STRING, A "hidden_activation", 0, "silu"}, MODEL_OK},
                {{SET_STRING, A "hidden_activation", 0, "gelu"}, MODEL_E_ACTIVATION},
                {{SET_U32, A "hidden_activation", 0}, MODEL_E_META_TYPE},
        };

        check_rows(&synthetic_tiny, rows, ARRAY_SIZE(rows));
}

static void test_features(void **state) {
        static const struct row rows[] = {
                {{SET_STRING, A "rope.scaling.type", 0, "none"}, MODEL_OK},
                {{SET_STRING, A "rope.scaling.type", 0, "linear"}, MODEL_OK},
                {{SET_STRING, A "rope.scaling.type", 0, "yarn"}, MODEL_E_FEATURE},
                {{SET_STRING, A "rope.scaling.type", 0, "longrope"}, MODEL_E_FEATURE},
                {{SET_F32, A "rope.scaling.factor", FLOAT_ONE}, MODEL_OK},
                {{SET_F32, A "rope.scaling.factor", 0x40000000}, MODEL_E_FEATURE},
                {{SET_F32, A "rope.scale_linear", 0x40000000}, MODEL_E_FEATURE},
                {{SET_F32, A "logit_scale", 0x40000000}, MODEL_E_FEATURE},
                {{SET_F32, A "attn_logit_softcapping", 0x40000000}, MODEL_E_FEATURE},
                {{SET_U32, A "expert_count", 8}, MODEL_E_FEATURE},
                {{SET_U32, A "expert_count", 0}, MODEL_OK},
                {{SET_U32, A "attention.sliding_window", 4096}, MODEL_E_FEATURE},
                {{SET_U32, A "pooling_type", 3}, MODEL_OK},
                {{SET_U32, A "pooling_type", 4}, MODEL_E_FEATURE},
                {{SET_BOOL, A "attention.causal", 0}, MODEL_E_FEATURE},
                {{SET_U32, "prism.hadamard.block", 128}, MODEL_E_FEATURE},
                {{SET_U32, "bitnetd.packed.version", 1}, MODEL_E_FEATURE},
                {{SET_U32, "somebody.else", 1}, MODEL_OK},
        };

        check_rows(&synthetic_tiny, rows, ARRAY_SIZE(rows));
}

static void test_tensors(void **state) {
        static const struct row rows[] = {
                {{DROP_TENSOR, "token_embd.weight"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "output_norm.weight"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "blk.0.attn_q.weight"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "blk.0.ffn_sub_norm.weight"}, MODEL_E_TENSOR_MISSING},
                {{ADD_F32, "blk.0.attn_q.bias", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.0.attn_q.scale", 1}, MODEL_OK},
                {{ADD_F32, "blk.0.attn_q.scale", 2}, MODEL_E_SHAPE},
                {{ADD_F32, "blk.0.attn_q.mantissa", 2}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.0.attn_q_norm.weight", 64}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.1.attn_norm.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.00.attn_norm.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.-1.attn_norm.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.4294967296.attn_norm.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "blk.0.attn_norm", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "output.bias", 264}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "output_norm.bias", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "token_types.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "position_embd.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
                {{ADD_F32, "rope_freqs.weight", 32}, MODEL_OK},
                {{ADD_F32, "rope_freqs.weight", 64}, MODEL_E_SHAPE},
                {{ADD_F32, "a_note", 1}, MODEL_OK},
                {{SWAP_DIMS, "blk.0.attn_k.weight"}, MODEL_E_SHAPE},
                {{SPLIT_DIMS, "blk.0.attn_k.weight"}, MODEL_E_SHAPE},
                {{SWAP_DIMS, "token_embd.weight"}, MODEL_E_TOKENS},
                {{SET_U32, A "embedding_length", 512}, MODEL_E_SHAPE},
                {{SET_U32, A "feed_forward_length", 512}, MODEL_E_SHAPE},
                {{SET_U32, A "block_count", 2}, MODEL_E_TENSOR_MISSING},
                {{SET_U32, A "attention.key_length", 32}, MODEL_E_META_RANGE}, /* rope too wide */
                {{COPY_TENSOR, "token_embd.weight", 0, "output.weight"}, MODEL_OK},
                {{COPY_TENSOR, "blk.0.attn_q.weight", 0, "output.weight"},
                 MODEL_E_TYPE_UNSUPPORTED},
                {{COPY_TENSOR, "blk.0.attn_norm.weight", 0, "output.weight"}, MODEL_E_SHAPE},
                {{COPY_TENSOR, "blk.0.attn_q.weight", 0, "blk.0.attn_q.trits"},
                 MODEL_E_TENSOR_DUPLICATE},
                {{RETYPE, "blk.0.attn_norm.weight", 26}, MODEL_E_TYPE_UNSUPPORTED},
                {{RETYPE, "token_embd.weight", 26}, MODEL_E_TYPE_UNSUPPORTED},
        };

        check_rows(&synthetic_tiny, rows, ARRAY_SIZE(rows));
}

static void test_contents(void **state) {
        static const struct row rows[] = {
                {{POKE, "blk.0.attn_q.weight", 0xff, NULL, 77}, MODEL_E_TRIT},
                {{POKE, "blk.0.ffn_down.weight", 0x03, NULL, 16383}, MODEL_E_TRIT},
                {{POKE, "blk.0.attn_q.weight", 0x7e, NULL, -29}, MODEL_OK}, /* huge, but finite */
                {{POKE, "blk.0.attn_q.weight", 0xff, NULL, -1}, MODEL_OK},  /* padding: ignored */
                {{POKE, "token_embd.weight", 0xfe, NULL, 3}, MODEL_OK},
                {{POKE, "blk.0.attn_norm.weight", 0x00, NULL, 0}, MODEL_OK},
        };

        check_rows(&synthetic_tiny, rows, ARRAY_SIZE(rows));
}

/* A float that is no number, as scale, norm and embedding. */
static void test_not_finite(void **state) {
        static const struct {
                const char *tensor;
                int64_t at; /* of its highest byte */
        } places[] = {
                {"blk.0.attn_q.weight", -29},
                {"blk.0.ffn_norm.weight", 7},
                {"output_norm.weight", -1},
                {"token_embd.weight", -1},
        };
        struct bytes valid = fixture_model(&synthetic_tiny);

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                const struct edit high = {POKE, places[i].tensor, 0x7f, NULL, places[i].at};
                const struct edit low = {POKE, places[i].tensor, 0xc0, NULL, places[i].at - 1};
                struct bytes a = fixture_edit(valid, &high, 1, 32);
                struct bytes b = fixture_edit(a, &low, 1, 32);

                assert_int_equal(pack(b, &fixture_options, NULL), MODEL_E_NOT_FINITE);
                free(a.p);
                free(b.p);
        }
        free(valid.p);
}

static void test_trit_planes(void **state) {
        static const struct row rows[] = {
                {{EDIT_NONE}, MODEL_OK},
                {{SET_U32, "trit.group_size", 128}, MODEL_E_FEATURE},
                {{DROP_KEY, "trit.group_size"}, MODEL_E_META_MISSING},
                {{DROP_TENSOR, "blk.0.attn_q.mantissa"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "blk.0.attn_q.row_scale"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "token_embd.trits"}, MODEL_E_TENSOR_MISSING},
                {{SWAP_DIMS, "blk.0.attn_q.mantissa"}, MODEL_E_SHAPE},
                {{SWAP_DIMS, "blk.0.attn_q.trits"}, MODEL_E_SHAPE},
                {{RETYPE, "blk.0.attn_q.row_scale", 26}, MODEL_E_TYPE_UNSUPPORTED},
                {{POKE, "blk.0.attn_q.trits", 242, NULL, 5}, MODEL_OK},
                {{POKE, "blk.0.attn_q.trits", 243, NULL, 5}, MODEL_E_TRIT},
                {{POKE, "blk.0.attn_q.trits", 255, NULL, -1}, MODEL_E_TRIT},
                {{ADD_F32, "blk.0.attn_q.scale", 1}, MODEL_OK},
        };
        struct synthetic s = synthetic_tiny;

        s.type = (struct synthetic_type){TYPE_I8, 3};
        s.head = (struct synthetic_type){TYPE_I8, 4};
        check_rows(&s, rows, ARRAY_SIZE(rows));
}

static void test_float_factor(void **state) {
        static const struct row rows[] = {{{ADD_F32, "blk.0.attn_q.scale", 1}, MODEL_E_FEATURE}};
        struct synthetic s = synthetic_tiny;

        s.type = (struct synthetic_type){TYPE_F16, 0};
        check_rows(&s, rows, ARRAY_SIZE(rows));
}

/* A llama has no sub-norms: one that is there would be skipped, so it is refused. */
static void test_llama(void **state) {
        static const struct row rows[] = {
                {{EDIT_NONE}, MODEL_OK},
                {{ADD_F32, "blk.0.attn_sub_norm.weight", 256}, MODEL_E_TENSOR_UNKNOWN},
        };
        struct synthetic s = synthetic_tiny;

        s.arch = "llama";
        check_rows(&s, rows, ARRAY_SIZE(rows));
}

/* formats-and-models 4.1: the plain `bitnet` architecture does not say its activation. */
static void test_plain_bitnet(void **state) {
        static const struct row rows[] = {
                {{EDIT_NONE}, MODEL_E_ACTIVATION},
                {{SET_STRING, "bitnet.hidden_activation", 0, "relu2"}, MODEL_OK},
        };
        static const struct row by_vocab[] = {{{EDIT_NONE}, MODEL_OK}};
        struct synthetic s = synthetic_tiny;

        s.arch = "bitnet";
        check_rows(&s, rows, ARRAY_SIZE(rows));
        s.vocab = 32002;
        check_rows(&s, by_vocab, ARRAY_SIZE(by_vocab));
}

/* The last block of a tensor that is not a whole number of blocks was damaged when written. */
static void test_i2s_layouts(void **state) {
        struct synthetic s = synthetic_tiny;
        struct pack_options o = fixture_options;
        struct bytes b = fixture_model(&s);

        for (int layout = I2S_128_32; layout <= I2S_1X4; layout++) {
                o.i2s = (enum i2s_layout)layout;
                assert_int_equal(pack(b, &o, NULL), MODEL_OK);
        }
        free(b.p);
}

/* ---- packed files ---- */

static struct bytes packed_tiny_as(enum ternary_packing ternary) {
        struct bytes b = fixture_model(&synthetic_tiny), packed;
        struct pack_options options = fixture_options;
        int fd = -1;

        options.ternary = ternary;
        assert_int_equal(pack(b, &options, &fd), MODEL_OK);
        packed = fixture_read(fd);
        close(fd);
        free(b.p);
        return packed;
}

static struct bytes packed_tiny(void) {
        return packed_tiny_as(TERNARY_2_BITS);
}

static enum model_error_code open_bytes(struct bytes b) {
        struct model_error err = {.code = MODEL_OK};
        struct model *m = NULL;
        int fd = fixture_fd(b), r;

        r = model_open(&m, fd, &err);
        assert_int_equal(r == 0, err.code == MODEL_OK);
        model_free(m);
        close(fd);
        return err.code;
}

static void test_open_edited(void **state) {
        static const struct row rows[] = {
                {{EDIT_NONE}, MODEL_OK},
                {{DROP_KEY, "bitnetd.packed.version"}, MODEL_E_NOT_PACKED},
                {{SET_U32, "bitnetd.packed.version", PACK_VERSION + 1}, MODEL_E_PACK_VERSION},
                {{DROP_KEY, "bitnetd.packed.matrices"}, MODEL_E_NOT_PACKED},
                {{DROP_KEY, "bitnetd.packed.info"}, MODEL_E_NOT_PACKED},
                {{SET_U32_ARRAY, "bitnetd.packed.info", 0}, MODEL_E_NOT_PACKED},
                {{SET_U32_ARRAY, "bitnetd.packed.matrices", 0}, MODEL_E_NOT_PACKED},
                {{DROP_TENSOR, "blk.0.attn_q.codes"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "blk.0.attn_q.scales"}, MODEL_E_TENSOR_MISSING},
                {{DROP_TENSOR, "output_norm.weight"}, MODEL_E_TENSOR_MISSING},
                {{RENAME_TENSOR, "blk.0.attn_q.codes", 0, "blk.0.attn_q.mins"},
                 MODEL_E_NOT_PACKED},
                {{ADD_F32, "rope_freqs.weight", 31}, MODEL_E_TENSOR_SIZE},
                {{ADD_F32, "blk.0.ffn_up.mins", 256}, MODEL_E_NOT_PACKED},
                {{RETYPE, "blk.0.attn_q.scales", 26}, MODEL_E_TENSOR_TYPE},
                {{SET_U32, A "embedding_length", 512}, MODEL_E_SHAPE},
                {{SET_U32, A "feed_forward_length", 128}, MODEL_E_TENSOR_SIZE},
                {{SET_U32, A "block_count", 2}, MODEL_E_TENSOR_MISSING},
                {{SET_U32, A "attention.head_count_kv", 4}, MODEL_E_SHAPE},
                {{DROP_KEY, "tokenizer.ggml.tokens"}, MODEL_E_META_MISSING},
                {{DROP_KEY, "tokenizer.ggml.merges"}, MODEL_E_META_MISSING},
        };
        struct bytes packed = packed_tiny();
        unsigned wrong = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bytes b = fixture_edit(packed, &rows[i].edit, 1, 4096);
                enum model_error_code code = open_bytes(b);

                if (code != rows[i].code) {
                        print_error("row %zu: got \"%s\", wanted \"%s\"\n", i,
                                    model_error_text(code), model_error_text(rows[i].code));
                        wrong++;
                }
                free(b.p);
        }
        free(packed.p);
        assert_int_equal(wrong, 0);
}

static void test_open_alignment(void **state) {
        const struct edit none = {.op = EDIT_NONE};
        struct bytes packed = packed_tiny();
        struct bytes b = fixture_edit(packed, &none, 1, 64);

        assert_int_equal(open_bytes(b), MODEL_OK);
        free(b.p);
        b = fixture_edit(packed, &(struct edit){ADD_F32, "a", 1}, 1, 4);
        assert_int_equal(open_bytes(b), MODEL_E_ALIGNMENT);
        free(b.p);
        free(packed.p);
}

/* Every word of the description, with values that a careless reader would use. */
static void check_description(enum ternary_packing ternary) {
        static const uint32_t values[] = {0,  1,  2,  3,  4,  5,  6,  7,   8,        9,
                                          10, 11, 12, 15, 16, 32, 63, 64, 256, 1U << 31,
                                          UINT32_MAX};
        struct bytes packed = packed_tiny_as(ternary);
        struct model_error err;
        struct gguf *g = NULL;
        const struct gguf_kv *info;
        uint64_t position;
        size_t words;

        assert_int_equal(gguf_parse(&g, (struct view){packed.p, packed.n}, &err), 0);
        info = gguf_find(g, "bitnetd.packed.info");
        position = info->position;
        words = (size_t)info->count;
        gguf_free(g);
        for (size_t i = 0; i < words; i++)
                for (size_t j = 0; j < ARRAY_SIZE(values); j++) {
                        uint32_t old = load_u32(packed.p + position + 4 * i);

                        memcpy(packed.p + position + 4 * i, &values[j], 4);
                        if ((open_bytes(packed) == MODEL_OK) != (values[j] == old))
                                fail_msg("word %zu: %u instead of %u", i, values[j], old);
                        memcpy(packed.p + position + 4 * i, &old, 4);
                }
        free(packed.p);
}

static void test_open_description(void **state) {
        check_description(TERNARY_2_BITS);
        check_description(TERNARY_BASE_3);
}

static void test_open_truncated(void **state) {
        struct bytes packed = packed_tiny(), b = packed;

        for (b.n = 0; b.n < packed.n; b.n += b.n < 12288 ? 7 : 4093)
                if (open_bytes(b) == MODEL_OK)
                        fail_msg("opened %zu of %zu bytes", b.n, packed.n);
        free(packed.p);
}

static void test_unpacked_is_refused(void **state) {
        struct bytes b = fixture_model(&synthetic_tiny);

        assert_int_equal(open_bytes(b), MODEL_E_NOT_PACKED);
        free(b.p);
}

/* Only numbers and constants in an error; the text says both. */
static void test_error_text(void **state) {
        struct model_error err = {0};
        char text[256];

        (void)model_fail(&err, MODEL_E_SHAPE, 5, 6, 7, "blk.0", 5);
        model_error_format(&err, text, sizeof(text));
        assert_string_equal(text,
                            "tensor has the wrong shape at byte 5 (value 6, limit 7, blk.0)");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_metadata),     cmocka_unit_test(test_features),
                cmocka_unit_test(test_tensors),      cmocka_unit_test(test_contents),
                cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_trit_planes),
                cmocka_unit_test(test_float_factor), cmocka_unit_test(test_llama),
                cmocka_unit_test(test_plain_bitnet), cmocka_unit_test(test_i2s_layouts),
                cmocka_unit_test(test_open_edited),  cmocka_unit_test(test_open_alignment),
                cmocka_unit_test(test_open_description),
                cmocka_unit_test(test_open_truncated),
                cmocka_unit_test(test_unpacked_is_refused),
                cmocka_unit_test(test_error_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
