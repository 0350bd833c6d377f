/* What vocab_load refuses, and with which code, value and limit; and what it makes of odd but legal
 * files. Each case changes one thing in a small correct file. */

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/model/gguf.h"
#include "tests/engine/text/vocab-fixture.h"

enum { MAX_TOKENS = 16 };

/* A correct file; NULL leaves an entry out. */
struct spec {
        const char *model, *pre, *architecture, *merges[4], *tokens[MAX_TOKENS];
        int32_t types[MAX_TOKENS];
        float scores[MAX_TOKENS];
        size_t n_tokens, n_types, n_scores, n_merges;
        const char *id_key;
        uint32_t id;
        const char *string_key; /* an entry of type string */
};

static struct spec bpe(void) {
        return (struct spec){
                .model = "gpt2", .pre = "gpt-2", .architecture = "llama",
                .tokens = {"a", "b", "ab", "<|im_end|>"}, .types = {1, 1, 1, 3},
                .merges = {"a b"}, .n_tokens = 4, .n_types = 4, .n_merges = 1,
        };
}

static struct spec spm(void) {
        return (struct spec){
                .model = "llama", .architecture = "llama",
                .tokens = {"<unk>", "<s>", "</s>", "<0x41>", "a"}, .types = {2, 3, 3, 6, 1},
                .scores = {0, 0, 0, 0, -1}, .n_tokens = 5, .n_types = 5, .n_scores = 5,
        };
}

static size_t views(struct view *out, const char *const *texts, size_t n) {
        for (size_t i = 0; i < n; i++)
                out[i] = (struct view){(const uint8_t *)texts[i], strlen(texts[i])};
        return n;
}

static int load(const struct spec *s, struct vocab **ret, struct model_error *err) {
        struct gguf_writer w = {0};
        struct view v[MAX_TOKENS];
        gguf_put_string(&w, "general.architecture", s->architecture);
        if (s->model)
                gguf_put_string(&w, "tokenizer.ggml.model", s->model);
        if (s->pre)
                gguf_put_string(&w, "tokenizer.ggml.pre", s->pre);
        if (s->n_tokens > 0)
                gguf_put_strings(&w, "tokenizer.ggml.tokens", v, views(v, s->tokens, s->n_tokens));
        if (s->n_types > 0)
                gguf_put_i32s(&w, "tokenizer.ggml.token_type", s->types, s->n_types);
        if (s->n_scores > 0)
                gguf_put_f32s(&w, "tokenizer.ggml.scores", s->scores, s->n_scores);
        if (s->n_merges > 0)
                gguf_put_strings(&w, "tokenizer.ggml.merges", v, views(v, s->merges, s->n_merges));
        if (s->id_key)
                gguf_put_u32(&w, s->id_key, s->id);
        if (s->string_key)
                gguf_put_string(&w, s->string_key, "text");
        struct gguf *g = NULL;
        assert_int_equal(gguf_parse(&g, gguf_writer_file(&w), err), 0);
        int r = vocab_load(ret, g, err);
        gguf_free(g);
        gguf_writer_done(&w);
        return r;
}

static void refuse(const struct spec *s, enum model_error_code code, uint64_t value, uint64_t limit,
                   const char *name) {
        struct model_error err = {0};
        struct vocab *v = NULL;
        int r = load(s, &v, &err);
        if (err.code != code)
                fail_msg("wanted \"%s\", got \"%s\" (%s)", model_error_text(code),
                         model_error_text(err.code), err.name);
        assert_int_equal(r, -EBADMSG);
        assert_null(v);
        assert_int_equal(err.value, value);
        assert_int_equal(err.limit, limit);
        if (name)
                assert_string_equal(err.name, name);
        assert_int_equal(load(s, &v, NULL), -EBADMSG); /* nobody need want the reason */
}

static struct vocab *accept(const struct spec *s) {
        struct model_error err = {0};
        struct vocab *v = NULL;
        if (load(s, &v, &err) < 0)
                fail_msg("refused: %s (%s)", model_error_text(err.code), err.name);
        return v;
}

static void test_correct_files(void **state) {
        (void)state;
        struct spec a = bpe(), b = spm();
        assert_null(vocab_free(accept(&a)));
        assert_null(vocab_free(accept(&b)));
        assert_null(vocab_free(NULL));
}

static void test_names(void **state) {
        (void)state;
        static const char *const models[] = {"bert", "t5", "rwkv", "plamo2", ""};
        static const char *const pres[] = {"default", "deepseek-llm", "deepseek-coder", "qwen35",
                                           ""};
        struct spec s = bpe();
        for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
                s.model = models[i];
                refuse(&s, MODEL_E_TOKENIZER, strlen(models[i]), 0, models[i]);
        }
        s = bpe();
        for (size_t i = 0; i < ARRAY_SIZE(pres); i++) {
                s.pre = pres[i];
                refuse(&s, MODEL_E_PRETOKENIZER, strlen(pres[i]), 0, pres[i]);
        }
        /* a missing name is good for Llama 3's vocabulary only */
        s.pre = NULL;
        refuse(&s, MODEL_E_PRETOKENIZER, 7, 0, "default");
        s.architecture = "bitnet-b1.58";
        refuse(&s, MODEL_E_PRETOKENIZER, 7, 0, "default");
}

static void test_missing_entries(void **state) {
        (void)state;
        struct spec s = bpe();
        s.model = NULL;
        refuse(&s, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.model");
        s = bpe();
        s.n_tokens = 0;
        refuse(&s, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.tokens");
        s = bpe();
        s.n_merges = 0;
        refuse(&s, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.merges");
        s = spm();
        s.n_scores = 0;
        refuse(&s, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.scores");
        s = spm();
        s.n_types = 0;
        refuse(&s, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.token_type");
}

static void test_types_of_entries(void **state) {
        (void)state;
        struct spec s = bpe();
        s.n_tokens = 0;
        s.string_key = "tokenizer.ggml.tokens";
        refuse(&s, MODEL_E_META_TYPE, GGUF_STRING, GGUF_ARRAY, "tokenizer.ggml.tokens");
        s = bpe();
        s.n_merges = 0;
        s.string_key = "tokenizer.ggml.merges";
        refuse(&s, MODEL_E_META_TYPE, GGUF_STRING, GGUF_ARRAY, "tokenizer.ggml.merges");
        s = bpe();
        s.string_key = "tokenizer.ggml.bos_token_id";
        refuse(&s, MODEL_E_META_TYPE, GGUF_STRING, GGUF_U32, "tokenizer.ggml.bos_token_id");
        s = bpe();
        s.string_key = "tokenizer.ggml.add_bos_token";
        refuse(&s, MODEL_E_META_TYPE, GGUF_STRING, GGUF_BOOL, "tokenizer.ggml.add_bos_token");
}

static void test_counts(void **state) {
        (void)state;
        struct spec s = bpe();
        s.n_types = 3;
        refuse(&s, MODEL_E_META_RANGE, 3, 4, "tokenizer.ggml.token_type");
        s = spm();
        s.n_scores = 6;
        refuse(&s, MODEL_E_META_RANGE, 6, 5, "tokenizer.ggml.scores");
}

static void test_tokens(void **state) {
        (void)state;
        struct spec s = bpe();
        s.types[1] = 7;
        refuse(&s, MODEL_E_TOKENS, 7, 6, "token type");
        s.types[1] = -1;
        refuse(&s, MODEL_E_TOKENS, UINT64_MAX, 6, "token type");

        static const char *const bytes[] = {"<0x4>", "<0x411>", "<0xG1>", "<0X41>",
                                            "0x41",  "",        "<0x41 "};
        for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
                s = spm();
                s.tokens[3] = bytes[i];
                refuse(&s, MODEL_E_TOKENS, 3, 0, "byte token");
        }
        s = spm();
        s.tokens[3] = "<0xfF>";
        struct vocab *v = accept(&s);
        assert_int_equal(vocab_bytes(v, 3, false).p[0], 0xff);
        vocab_free(v);

        char *text = malloc(65537);
        memset(text, 'a', 65536);
        text[65536] = 0;
        s = bpe();
        s.tokens[1] = text;
        refuse(&s, MODEL_E_TOKENS, 65536, 65535, "token text");
        text[65535] = 0;
        s.tokens[1] = "b";
        s.tokens[s.n_tokens++] = text;
        s.types[s.n_types++] = 1;
        vocab_free(accept(&s));
        text[257] = 0;
        s.types[4] = 4;
        refuse(&s, MODEL_E_SPECIAL_TOKEN, 257, 256, "token text");
        free(text);

        s = spm();
        s.scores[4] = NAN;
        refuse(&s, MODEL_E_TOKENS, 4, 0, "tokenizer.ggml.scores");
        s.scores[4] = -INFINITY;
        refuse(&s, MODEL_E_TOKENS, 4, 0, "tokenizer.ggml.scores");
}

static void test_merges(void **state) {
        (void)state;
        static const char *const bad[] = {"ab", "", " ", "a ", " b", "a  b", "a b a",
                                          "a \xe2\x82\xac", "\xff b"};
        static const char *const unusable[] = {"a c", "c b", "b a", "<|im_end|> a"};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct spec s = bpe();
                s.merges[1] = bad[i];
                s.n_merges = 2;
                refuse(&s, MODEL_E_MERGES, 1, 1, "tokenizer.ggml.merges");
        }
        for (size_t i = 0; i < ARRAY_SIZE(unusable); i++) { /* no such token: ignored */
                struct spec s = bpe();
                s.merges[1] = unusable[i];
                s.n_merges = 2;
                vocab_free(accept(&s));
        }
        struct spec s = bpe(); /* twice the same: the first rank counts */
        s.merges[1] = "a b";
        s.n_merges = 2;
        vocab_free(accept(&s));
}

static void test_special_ids(void **state) {
        (void)state;
        static const char *const keys[] = {
                "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
                "tokenizer.ggml.unknown_token_id",
        };
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                struct spec s = bpe();
                s.id_key = keys[i];
                s.id = 4;
                refuse(&s, MODEL_E_SPECIAL_TOKEN, 4, 3, keys[i]);
                s.id = UINT32_MAX;
                refuse(&s, MODEL_E_SPECIAL_TOKEN, UINT32_MAX, 3, keys[i]);
                s.id = 3;
                vocab_free(accept(&s));
        }
}

static void assert_encodes(const struct vocab *v, const char *text, int32_t a, int32_t b) {
        struct tokens t = {0};
        assert_int_equal(vocab_encode(v, text, strlen(text), false, 0, &t), 0);
        assert_int_equal(t.n, (a >= 0) + (b >= 0));
        if (t.n > 0)
                assert_int_equal(t.ids[0], a);
        if (t.n > 1)
                assert_int_equal(t.ids[1], b);
        tokens_done(&t);
}

/* Bytes without a token become the unknown token, or nothing when there is none. */
static void test_bytes_without_token(void **state) {
        (void)state;
        struct spec s = bpe();
        struct vocab *v = accept(&s);
        assert_encodes(v, "abc", 2, -1);
        assert_encodes(v, "c", -1, -1);
        vocab_free(v);
        s.id_key = "tokenizer.ggml.unknown_token_id";
        s.id = 3; /* a control token: never for user text */
        v = accept(&s);
        assert_encodes(v, "abc", 2, -1);
        vocab_free(v);
        s = spm();
        v = accept(&s);
        assert_encodes(v, "a", 0, 4); /* the prefix space has no token here */
        assert_encodes(v, "A", 0, 3);
        vocab_free(v);
}

/* Tokens that end a generation are control tokens even if the file says otherwise. */
static void test_types_are_corrected(void **state) {
        (void)state;
        struct spec s = bpe();
        for (int32_t type = 1; type <= 4; type += 3) {
                s.types[3] = type;
                struct vocab *v = accept(&s);
                assert_true(vocab_is_control(v, 3));
                assert_true(vocab_is_end(v, 3));
                assert_encodes(v, "<|im_end|>", -1, -1);
                vocab_free(v);
        }
        s.tokens[3] = "<stop>";
        s.types[3] = 1;
        s.id_key = "tokenizer.ggml.eos_token_id";
        s.id = 3;
        struct vocab *v = accept(&s);
        assert_true(vocab_is_control(v, 3) && vocab_is_end(v, 3));
        vocab_free(v);
        s.id = 0; /* a letter ends, but stays a letter */
        v = accept(&s);
        assert_true(vocab_is_end(v, 0) && !vocab_is_control(v, 0));
        assert_encodes(v, "a", 0, -1);
        vocab_free(v);
}

static void test_bos(void **state) {
        (void)state;
        struct spec s = bpe();
        struct vocab *v = accept(&s);
        assert_int_equal(vocab_bos(v), TOKEN_NONE);
        assert_false(vocab_add_bos(v));
        vocab_free(v);
        s.pre = "llama-bpe"; /* would add one, has none */
        v = accept(&s);
        assert_false(vocab_add_bos(v));
        vocab_free(v);
        s.id_key = "tokenizer.ggml.bos_token_id";
        s.id = 3;
        v = accept(&s);
        assert_int_equal(vocab_bos(v), 3);
        assert_true(vocab_add_bos(v));
        vocab_free(v);
        s = spm();
        v = accept(&s);
        assert_int_equal(vocab_bos(v), 1);
        assert_int_equal(vocab_eos(v), 2);
        assert_true(vocab_add_bos(v));
        vocab_free(v);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_correct_files),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_missing_entries),
                cmocka_unit_test(test_types_of_entries),
                cmocka_unit_test(test_counts),
                cmocka_unit_test(test_tokens),
                cmocka_unit_test(test_merges),
                cmocka_unit_test(test_special_ids),
                cmocka_unit_test(test_bytes_without_token),
                cmocka_unit_test(test_types_are_corrected),
                cmocka_unit_test(test_bos),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
