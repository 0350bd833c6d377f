/* Splitters against hand-made expectations, and the properties that hold for any text. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/pretokenize.h"

/* Pieces joined with '/'. */
static const struct {
        enum pretokenizer kind;
        const char *text, *pieces;
} cases[] = {
        {PRETOKENIZER_LLAMA3, "Hello world", "Hello/ world"},
        {PRETOKENIZER_LLAMA3, "I'm HE'LL we've don't 's", "I/'m/ HE/'LL/ we/'ve/ don/'t/ '/s"},
        {PRETOKENIZER_LLAMA3, "12345 6", "123/45/ /6"},
        {PRETOKENIZER_LLAMA3, "a  b", "a/ / b"},
        {PRETOKENIZER_LLAMA3, "a   ", "a/   "},
        {PRETOKENIZER_LLAMA3, "a \n\n b", "a/ \n\n/ b"},
        {PRETOKENIZER_LLAMA3, "a\n  1", "a/\n/ / /1"},
        {PRETOKENIZER_LLAMA3, " (x)!\r\n\r\ny", " (/x/)!\r\n\r\n/y"},
        {PRETOKENIZER_LLAMA3, "\tif", "\tif"},
        {PRETOKENIZER_LLAMA3, "_name", "_name"},
        {PRETOKENIZER_LLAMA3, "a\xcc\x81z", "a/\xcc\x81z"},
        {PRETOKENIZER_LLAMA3, "a\xff\xfe" "b", "a/\xff\xfe/b"},
        {PRETOKENIZER_LLAMA3, "\xc2\xa0x", "\xc2\xa0x"},
        {PRETOKENIZER_LLAMA3, "\xc2\xbd\xe2\x85\xa7" "12", "\xc2\xbd\xe2\x85\xa7" "1/2"},
        {PRETOKENIZER_LLAMA3, "'", "'"},
        {PRETOKENIZER_LLAMA3, "'r", "'r"},
        {PRETOKENIZER_QWEN2, "a1234 5'S", "a/1/2/3/4/ /5/'S"},
        {PRETOKENIZER_GPT2, "Hello  world 123!? x", "Hello/ / world/ 123/!?/ x"},
        {PRETOKENIZER_GPT2, "I'M i'm", "I/'/M/ i/'m"},
        {PRETOKENIZER_GPT2, "a\n\n b  ", "a/\n\n/ b/  "},
        {PRETOKENIZER_GPT2, "\tif", "\t/if"},
        {PRETOKENIZER_DIGITS_GPT2, "a 12b  3", "a/ /1/2/b/  /3"},
        {PRETOKENIZER_DIGITS_GPT2, "x\xc2\xbd\xd9\xa4", "x/\xc2\xbd/\xd9\xa4"},
        {PRETOKENIZER_FALCON, "a,b 1234567 $5", "a/,/b/ /123/456/7/ /$/5"},
        {PRETOKENIZER_FALCON, "it's", "it/'/s"},
        {PRETOKENIZER_FALCON, "a`|~b", "a/`|~/b"},
};

static void test_cases(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char joined[256] = "";
                struct view piece;
                struct pretokens p = pretokens_start(cases[i].kind, (const uint8_t *)cases[i].text,
                                                     strlen(cases[i].text));
                while (pretokens_next(&p, &piece)) {
                        if (joined[0])
                                strcat(joined, "/");
                        strncat(joined, (const char *)piece.p, piece.n);
                }
                assert_string_equal(joined, cases[i].pieces);
        }
}

static size_t random_text(uint8_t *out, size_t max) {
        static const char *const parts[] = {
                "a", "B", " ", "  ", "\n", "\r\n", "\t", "1", "23", "'s", "'LL", "!", "$", "(", "'",
                "\xff", "\xc3\xa9", "\xcc\x81", "\xc2\xa0", "\xe4\xb8\x80", "\xd9\xa4",
        };
        size_t n = 0, count = (size_t)rand() % 30;
        for (size_t i = 0; i < count; i++) {
                const char *part = parts[(size_t)rand() % ARRAY_SIZE(parts)];
                if (n + strlen(part) > max)
                        break;
                memcpy(out + n, part, strlen(part));
                n += strlen(part);
        }
        return n;
}

/* Marks ends of pieces; checks that pieces are the text, none empty. */
static void ends_of(enum pretokenizer kind, const uint8_t *text, size_t n, bool *ends) {
        struct pretokens p = pretokens_start(kind, text, n);
        struct view piece;
        size_t at = 0;
        memset(ends, 0, n + 1);
        while (pretokens_next(&p, &piece)) {
                assert_ptr_equal(piece.p, text + at);
                assert_true(piece.n > 0);
                at += piece.n;
                ends[at] = true;
        }
        assert_int_equal(at, n);
}

static void test_pieces_are_the_text(void **state) {
        (void)state;
        srand(2);
        for (int round = 0; round < 5000; round++) {
                uint8_t text[200];
                bool ends[201];
                size_t n = random_text(text, sizeof(text));
                for (int kind = 0; kind < _PRETOKENIZER_MAX; kind++)
                        ends_of((enum pretokenizer)kind, text, n, ends);
        }
}

static bool is_number_at(const uint8_t *text, size_t n, size_t i) {
        return i < n && ((text[i] >= '0' && text[i] <= '9') || text[i] == 0xd9);
}

/* Qwen2 splits where Llama 3 does, and between any two numbers. */
static void test_qwen2_is_llama3_with_single_digits(void **state) {
        (void)state;
        srand(3);
        for (int round = 0; round < 5000; round++) {
                uint8_t text[200];
                bool llama[201], qwen[201];
                size_t n = random_text(text, sizeof(text));
                ends_of(PRETOKENIZER_LLAMA3, text, n, llama);
                ends_of(PRETOKENIZER_QWEN2, text, n, qwen);
                for (size_t i = 1; i < n; i++) {
                        size_t before = text[i - 1] == 0xa4 ? i - 2 : i - 1;
                        bool numbers = is_number_at(text, n, before) && is_number_at(text, n, i);
                        assert_int_equal(qwen[i], llama[i] || numbers);
                }
        }
}

static void test_names(void **state) {
        (void)state;
        static const struct { const char *name; int kind; } known[] = {
                {"llama-bpe", PRETOKENIZER_LLAMA3}, {"llama3", PRETOKENIZER_LLAMA3},
                {"llama-v3", PRETOKENIZER_LLAMA3},  {"falcon3", PRETOKENIZER_LLAMA3},
                {"falcon_e", PRETOKENIZER_LLAMA3},  {"qwen2", PRETOKENIZER_QWEN2},
                {"gpt-2", PRETOKENIZER_GPT2},       {"smollm", PRETOKENIZER_DIGITS_GPT2},
                {"falcon", PRETOKENIZER_FALCON},
        };
        static const char *const unknown[] = {"", "default", "deepseek-llm", "deepseek-coder",
                                              "qwen35", "llama", "gpt-22", "LLAMA3"};
        for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
                struct view name = {(const uint8_t *)known[i].name, strlen(known[i].name)};
                assert_int_equal(pretokenizer_by_name(name), known[i].kind);
        }
        for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
                struct view name = {(const uint8_t *)unknown[i], strlen(unknown[i])};
                assert_true(pretokenizer_by_name(name) < 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases),
                cmocka_unit_test(test_pieces_are_the_text),
                cmocka_unit_test(test_qwen2_is_llama3_with_single_digits),
                cmocka_unit_test(test_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
