/* Pieces tile the text, fit, and are cut at the best boundary, for stories and for hostile text,
 * with both kinds of tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/split.h"
#include "engine/base/macro.h"
#include "engine/model/gguf.h"
#include "tests/engine/text/vocab-fixture.h"

static struct vocab *vocabs[2];

static uint32_t count(const struct vocab *v, const char *p, size_t n) {
        struct tokens t = {0};
        uint32_t r;

        assert_int_equal(vocab_encode(v, p, n, false, 0, &t), 0);
        r = (uint32_t)t.n;
        tokens_done(&t);
        return r;
}

static uint64_t count_slices(const struct vocab *v, const char *p, size_t n) {
        uint64_t tokens = 0;
        size_t at = 0, before;

        while (at < n) {
                before = at;
                assert_int_equal(split_count(v, p, n, &at, &tokens), 0);
                assert_true(at > before && at <= n && at - before <= SPLIT_WINDOW);
        }
        return tokens;
}

/* Split and check what must hold for any text. Returns the number of pieces. */
static size_t check(const struct vocab *v, const char *p, size_t n, uint32_t limit,
                    uint32_t *ret_smallest) {
        struct splitter s = {.vocab = v, .text = p, .n = n, .limit = limit,
                             .tokens_left = count_slices(v, p, n)};
        size_t at = 0, pieces = 0;
        struct piece piece;
        int r;

        *ret_smallest = UINT32_MAX;
        while ((r = split_next(&s, &piece)) == 0) {
                assert_int_equal(piece.offset, at);
                assert_true(piece.n > 0 && piece.n <= SPLIT_WINDOW);
                assert_true(piece.tokens <= limit);
                assert_int_equal(piece.tokens, count(v, p + at, piece.n));
                assert_true(((unsigned char)p[at] & 0xc0) != 0x80);
                at += piece.n;
                pieces++;
                *ret_smallest = MIN(*ret_smallest, piece.tokens);
        }
        assert_int_equal(r, 1);
        assert_int_equal(at, n);
        return pieces;
}

static uint64_t random_next(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static void check_all(const char *p, size_t n) {
        static const uint32_t limits[] = {SPLIT_MIN_TOKENS, 37, 200, 1500};
        uint32_t smallest;

        for (size_t v = 0; v < ARRAY_SIZE(vocabs); v++)
                for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
                        check(vocabs[v], p, n, limits[i], &smallest);
}

static void hostile_texts(void **state) {
        static const char *const units[] = {
                " ", "\n", "a", ".", "\xc3\xa9", "\xf0\x9f\x98\x80", "<|im_end|>\n", "a.b! ",
                "\n\n.", "\xe2\x80\xa6", "x\r\n", "0", "-", "\xef\xbb\xbf",
        };
        char *text = calloc(1, 20001);

        (void)state;
        check_all("", 0);
        for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
                size_t n = 0, unit = strlen(units[u]);

                while (n + unit <= 6000) {
                        memcpy(text + n, units[u], unit);
                        n += unit;
                }
                check_all(text, n);
                check_all(text, unit);
        }
        free(text);
}

static void random_texts(void **state) {
        static const char *const units[] = {
                "the ", "cat ", "sat. ", "\n", "\n\n", "\xc3\xbc", "\xe4\xb8\xad", "  ", "Why? ",
                "supercalifragilistic", "<s>", "\xf0\x9f\x98\x80 ", "12", "!\" ",
        };
        uint64_t seed = 88172645463325252;
        char *text = malloc(8192);

        (void)state;
        for (unsigned round = 0; round < 40; round++) {
                size_t n = 0, max = random_next(&seed) % 4000;

                while (n < max) {
                        const char *u = units[random_next(&seed) % ARRAY_SIZE(units)];
                        size_t times = 1 + (random_next(&seed) % 16 == 0) * 30;

                        for (size_t i = 0; i < times && n < max; i++) {
                                memcpy(text + n, u, strlen(u));
                                n += strlen(u);
                        }
                }
                check_all(text, n);
        }
        free(text);
}

/* Even text gives even pieces, and no crumbs at the end whatever its size. */
static void no_tiny_pieces(void **state) {
        static const char line[] = "Lily and Tom went to the park. They saw a big red ball.\n";
        char *text = malloc(sizeof(line) * 400);
        uint32_t smallest;

        (void)state;
        for (size_t lines = 30; lines < 400; lines += 7) {
                for (size_t i = 0; i < lines; i++)
                        memcpy(text + i * (sizeof(line) - 1), line, sizeof(line) - 1);
                for (size_t v = 0; v < ARRAY_SIZE(vocabs); v++) {
                        check(vocabs[v], text, lines * (sizeof(line) - 1), 300, &smallest);
                        if (smallest < 300 / 5)
                                print_error("%zu lines, smallest piece %u\n", lines, smallest);
                        assert_true(smallest >= 300 / 5);
                }
        }
        free(text);
}

/* Long paragraphs of sentences, of lines, of words: the first cut tells what was preferred. */
static void boundaries(void **state) {
        static const struct {
                const char *unit, *tail;
        } cases[] = {
                {"one two three. Four five!\nsix seven\n\n", "\n\n"},
                {"one two three. Four five!\nsix seven\n", "\n"},
                {"one two three. Four five six seven ", ". "},
                {"one two three four five six seven ", " "},
        };
        char text[6000];

        (void)state;
        for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
                size_t n = 0, tail = strlen(cases[c].tail);
                struct splitter s = {.vocab = vocabs[1], .text = text, .limit = 100};
                struct piece p;

                while (n + strlen(cases[c].unit) < sizeof(text)) {
                        memcpy(text + n, cases[c].unit, strlen(cases[c].unit));
                        n += strlen(cases[c].unit);
                }
                s.n = n;
                s.tokens_left = count_slices(s.vocab, text, n);
                assert_int_equal(split_next(&s, &p), 0);
                assert_true(p.n > tail && p.n < n);
                assert_memory_equal(text + p.n - tail, cases[c].tail, tail);
        }
}

/* A text far larger than a window, and no end of white space. */
static void large_text(void **state) {
        size_t n = 700000;
        char *text = malloc(n);
        uint32_t smallest;

        (void)state;
        memset(text, ' ', n);
        for (size_t i = 0; i < n / 2; i++)
                text[i] = (char)('a' + i % 7 * (i % 11 != 0));
        for (size_t i = 0; i < n / 2; i += 13)
                text[i] = ' ';
        check(vocabs[1], text, n, 8000, &smallest);
        free(text);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hostile_texts), cmocka_unit_test(random_texts),
                cmocka_unit_test(no_tiny_pieces), cmocka_unit_test(boundaries),
                cmocka_unit_test(large_text),
        };
        int r;

        if (argc != 3)
                return 2;
        for (size_t i = 0; i < ARRAY_SIZE(vocabs); i++)
                vocabs[i] = fixture_load_file(NULL, argv[i + 1]);
        r = cmocka_run_group_tests(tests, NULL, NULL);
        for (size_t i = 0; i < ARRAY_SIZE(vocabs); i++)
                vocab_free(vocabs[i]);
        return r;
}
