/* Encoding hostile and random text: bounded time, no byte lost, special tokens only where allowed.
 * The time limit is generous (a quadratic tokenizer needs hours for these inputs) and per text.
 *
 * usage: test-encode UNPACKED-DIR */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/engine/text/vocab-fixture.h"

enum { BIG = 1 << 20, SMALL = 1 << 16, SECONDS_MAX = 60 };

static const char *unpacked;

static double seconds(void) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* has: bytes the vocabulary has a token for; the others may be left out. */
static void check_round_trip(const struct vocab *v, const char *what, const uint8_t *text, size_t n,
                             const bool *has) {
        struct tokens t = {0};
        double start = seconds();
        assert_int_equal(vocab_encode(v, (const char *)text, n, false, 0, &t), 0);
        double used = seconds() - start;
        if (used > SECONDS_MAX)
                fail_msg("%s: %.1f s, limit %d", what, used, SECONDS_MAX);
        size_t at = 0;
        for (size_t i = 0; i < t.n; i++) {
                struct view bytes = vocab_bytes(v, t.ids[i], i == 0);
                assert_false(vocab_is_control(v, t.ids[i]));
                for (size_t k = 0; k < bytes.n; k++, at++) {
                        while (at < n && has && !has[text[at]])
                                at++;
                        if (at == n || text[at] != bytes.p[k])
                                fail_msg("%s: byte %zu of %zu differs", what, at, n);
                }
        }
        while (at < n && has && !has[text[at]])
                at++;
        assert_int_equal(at, n);
        tokens_done(&t);
}

static void fill(uint8_t *out, size_t n, const char *part) {
        size_t size = strlen(part);
        for (size_t i = 0; i < n; i++)
                out[i] = (uint8_t)part[i % size];
}

static void check_hostile(const struct vocab *v, const bool *has) {
        static const char *const big[] = {"a", "ab", " ", "e\xcc\x81", "\xff\xfe"};
        static const char *const parts[] = {
                "aaab", "\n",   "\r\n \t",    "1",           "!",          "'",
                "\x80", "\xcc\x81", "\xe2\x82", "a ",         " a",         "ing the ",
                "<|",   "<s>",  "=",           "\xc2\xa0",    "\xe4\xb8\x80", "\xf0\x9f\x98\x80",
                "qzx",  "   \n", "--==",       "0x00 ",
        };
        uint8_t *text = malloc(BIG);
        for (size_t i = 0; i < ARRAY_SIZE(big); i++) {
                fill(text, BIG, big[i]);
                check_round_trip(v, big[i], text, BIG, has);
        }
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                fill(text, SMALL, parts[i]);
                check_round_trip(v, parts[i], text, SMALL, has);
        }
        free(text);
}

static bool holds_spm_space(const uint8_t *p, size_t n) {
        return memmem(p, n, "\xe2\x96\x81", 3);
}

static void check_random(const struct vocab *v, const bool *has) {
        srand(6);
        for (int round = 0; round < 3000; round++) {
                uint8_t text[300];
                size_t n = (size_t)rand() % sizeof(text);
                int span = round % 3 == 0 ? 256 : round % 3 == 1 ? 128 : 4;
                for (size_t i = 0; i < n; i++)
                        text[i] = (uint8_t)(rand() % span + (span == 4 ? ' ' : 0));
                if (!holds_spm_space(text, n))
                        check_round_trip(v, "random", text, n, has);
        }
}

static void missing_bytes(const struct vocab *v, bool *has) {
        memset(has, 0, 256);
        for (uint32_t id = 0; id < vocab_size(v); id++) {
                struct view bytes = vocab_bytes(v, (int32_t)id, false);
                if (bytes.n == 1)
                        has[bytes.p[0]] = true;
        }
}

static void test_gpt2(void **state) {
        (void)state;
        struct vocab *v = fixture_load_file(unpacked, "gpt-2.gguf");
        check_random(v, NULL);
        check_hostile(v, NULL);
        vocab_free(v);
}

static void test_smollm2(void **state) {
        (void)state;
        bool has[256];
        struct vocab *v = fixture_load_file(unpacked, "smollm2.gguf");
        missing_bytes(v, has);
        assert_true(has['a'] && has[0x80] && !has[0xff]);
        check_random(v, has);
        check_hostile(v, has);
        vocab_free(v);
}

static void test_llama_spm(void **state) {
        (void)state;
        struct vocab *v = fixture_load_file(unpacked, "llama-spm.gguf");
        check_random(v, NULL);
        check_hostile(v, NULL);
        vocab_free(v);
}

static void test_llama3(void **state) {
        (void)state;
        struct gguf_writer w = {0};
        size_t n;
        fixture_put_llama3(&w, unpacked, &n);
        struct vocab *v = fixture_load(gguf_writer_file(&w));
        gguf_writer_done(&w);
        check_random(v, NULL);
        check_hostile(v, NULL);
        vocab_free(v);
}

static void assert_text(const struct vocab *v, const char *text, bool special, const char *want) {
        struct tokens t = {0};
        char got[256] = "";
        assert_int_equal(vocab_encode(v, text, strlen(text), special, 0, &t), 0);
        for (size_t i = 0; i < t.n; i++) {
                struct view bytes = vocab_bytes(v, t.ids[i], false);
                char piece[64];
                if (vocab_is_control(v, t.ids[i]))
                        snprintf(piece, sizeof(piece), "[%d]", t.ids[i]);
                else
                        snprintf(piece, sizeof(piece), "%.*s", (int)bytes.n, (const char *)bytes.p);
                snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? "/" : "", piece);
        }
        assert_string_equal(got, want);
        tokens_done(&t);
}

/* Ids of the tiny vocabularies: 262 <|endoftext|>, 263 <|im_start|>, 264 <|im_end|> (BPE). */
static void test_special_tokens(void **state) {
        (void)state;
        struct gguf_writer w = {0};
        fixture_put_tiny_bpe(&w, "gpt-2");
        struct vocab *v = fixture_load(gguf_writer_file(&w));
        gguf_writer_done(&w);
        assert_text(v, "ab<|im_start|>ab", true, "ab/[263]/ab");
        assert_text(v, "<|im_start|><|im_end|>", true, "[263]/[264]");
        assert_text(v, "<|im_start<|im_end|>", true, "</|/i/m/_/s/t/a/r/t/[264]");
        assert_text(v, "ab<|user_mark|>ab", false, "ab/<|user_mark|>/ab");
        assert_text(v, "a   a    b", false, "a/  / a/  /  /b"); /* from the left, longest first */
        assert_text(v, "x<|im_end|>", false, "x/</|/i/m/_/e/n/d/|/>");
        assert_text(v, "", false, "");
        assert_text(v, "ababab aaaaa", false, "abab/ab/ /aaaa/a");
        vocab_free(v);

        fixture_put_tiny_spm(&w);
        v = fixture_load(gguf_writer_file(&w));
        gguf_writer_done(&w);
        assert_text(v, "a", false, " a");
        assert_text(v, "ab<|user_mark|>ab", false, " /ab/<|user_mark|>/ /ab");
        assert_text(v, "<s>", true, "[1]");
        assert_text(v, "<s>ab", true, "[1]/ /ab");
        assert_text(v, "<s>", false, " /</s/>");
        assert_text(v, "", false, "");
        assert_text(v, "\xe2\x96\x81" "aab", false, " / a/ab"); /* written out, it is a space */
        vocab_free(v);
}

static void test_limit(void **state) {
        (void)state;
        struct vocab *v = fixture_load_file(unpacked, "gpt-2.gguf");
        struct tokens t = {0};
        tokens_push(&t, 9);
        assert_int_equal(vocab_encode(v, "one two three", 13, false, 4, &t), 0);
        assert_int_equal(t.n, 4);
        assert_int_equal(vocab_encode(v, "x", 1, false, 4, &t), -E2BIG);
        assert_int_equal(t.n, 4);
        t.n = 1;
        assert_int_equal(vocab_encode(v, "one two three", 13, false, 3, &t), -E2BIG);
        assert_int_equal(t.n, 1);
        assert_int_equal(t.ids[0], 9);
        tokens_done(&t);
        assert_null(t.ids);
        vocab_free(v);
}

static void test_token_lists(void **state) {
        (void)state;
        struct tokens t = {0};
        int32_t some[100];
        for (int32_t i = 0; i < 100; i++)
                some[i] = i;
        for (int32_t round = 0; round < 100; round++) {
                assert_int_equal(tokens_append(&t, some, (size_t)round), 0);
                assert_int_equal(tokens_push(&t, -round), 0);
        }
        assert_int_equal(t.n, 99 * 100 / 2 + 100);
        size_t at = 0;
        for (int32_t round = 0; round < 100; round++) {
                for (int32_t i = 0; i < round; i++)
                        assert_int_equal(t.ids[at++], i);
                assert_int_equal(t.ids[at++], -round);
        }
        assert_int_equal(tokens_append(&t, NULL, 0), 0);
        tokens_done(&t);
        tokens_done(&t);
}

int main(int argc, char **argv) {
        if (argc != 2) {
                fprintf(stderr, "usage: test-encode UNPACKED-DIR\n");
                return 2;
        }
        unpacked = argv[1];
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_token_lists), cmocka_unit_test(test_special_tokens),
                cmocka_unit_test(test_limit),       cmocka_unit_test(test_gpt2),
                cmocka_unit_test(test_smollm2),     cmocka_unit_test(test_llama_spm),
                cmocka_unit_test(test_llama3),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
