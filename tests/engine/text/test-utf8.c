/* UTF-8 decoding, cutting and streaming; Unicode classes. The stream is compared with what Python's
 * bytes.decode(errors="replace") gives, and must not depend on how the input is cut. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/unicode.h"
#include "engine/text/utf8.h"
#include "engine/text/vocab.h"

#define BAD "\xef\xbf\xbd"

static const struct {
        const char *in;
        const char *out; /* after the stream */
} cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\x80", BAD},
        {"\xff\xfe", BAD BAD},
        {"\xc0\x80", BAD BAD},                 /* overlong */
        {"\xc1\xbf", BAD BAD},
        {"\xe0\x80\x80", BAD BAD BAD},         /* overlong */
        {"\xe0\xa0\x80", "\xe0\xa0\x80"},
        {"\xed\xa0\x80", BAD BAD BAD},         /* surrogate */
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xf0\x80\x80\x80", BAD BAD BAD BAD}, /* overlong */
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* above U+10FFFF */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xf5\x80\x80\x80", BAD BAD BAD BAD},
        {"\xe2\x82" "a", BAD "a"},             /* cut short: one replacement for the whole of it */
        {"\xf0\x9f\x98" "a", BAD "a"},
        {"\xf0\x9f\xf0\x9f\x98\x80", BAD "\xf0\x9f\x98\x80"},
        {"\xe2\x82", BAD},                     /* at the end of the text */
        {"\xf0\x9f\x98", BAD},
        {"a\xc3", "a" BAD},
        {"\xc3\xc3\xa9", BAD "\xc3\xa9"},
};

static size_t stream(const uint8_t *in, size_t n, size_t chunk, char *out) {
        struct utf8_stream s = {0};
        size_t w = 0;
        for (size_t i = 0; i < n; i += chunk) {
                size_t size = MIN(chunk, n - i);
                size_t wrote = utf8_stream_feed(&s, in + i, size, out + w);
                assert_true(wrote <= 3 * (size + 4));
                w += wrote;
        }
        size_t end = utf8_stream_end(&s, out + w);
        assert_true(end <= 4);
        return w + end;
}

static void test_stream_cases(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (size_t chunk = 1; chunk <= 6; chunk++) {
                        char out[128] = {0};
                        size_t n = stream((const uint8_t *)cases[i].in, strlen(cases[i].in), chunk,
                                          out);
                        out[n] = 0;
                        assert_string_equal(out, cases[i].out);
                }
}

static void test_stream_emits_at_once(void **state) {
        (void)state;
        struct utf8_stream s = {0};
        char out[32];
        assert_int_equal(utf8_stream_feed(&s, (const uint8_t *)"a\xf0\x9f\x98", 4, out), 1);
        assert_int_equal(s.n, 3);
        assert_int_equal(utf8_stream_feed(&s, (const uint8_t *)"\x80" "b", 2, out), 5);
        assert_memory_equal(out, "\xf0\x9f\x98\x80" "b", 5);
        assert_int_equal(utf8_stream_feed(&s, (const uint8_t *)"\xff", 1, out), 3);
        assert_int_equal(utf8_stream_end(&s, out), 0);
}

/* Whole characters only, whatever comes in and however it is cut. */
static void test_stream_random(void **state) {
        (void)state;
        static const uint8_t alphabet[] = {'a', 0x80, 0x9f, 0xa0, 0xbf, 0xc2, 0xc3, 0xe0, 0xe2,
                                           0xed, 0xf0, 0xf4, 0xf5, 0xff, 0x00, 0x7f};
        srand(1);
        for (int round = 0; round < 2000; round++) {
                uint8_t in[40];
                char whole[160], cut[160];
                size_t n = (size_t)rand() % sizeof(in);
                for (size_t i = 0; i < n; i++)
                        in[i] = alphabet[(size_t)rand() % sizeof(alphabet)];
                size_t n_whole = stream(in, n, n + 1, whole);
                size_t n_cut = stream(in, n, 1 + (size_t)rand() % 5, cut);
                assert_int_equal(n_whole, n_cut);
                assert_memory_equal(whole, cut, n_whole);
                for (size_t i = 0; i < n_whole;) {
                        uint32_t cp;
                        i += utf8_decode((const uint8_t *)whole + i, n_whole - i, &cp);
                        assert_int_not_equal(cp, UTF8_BAD);
                }
        }
}

/* Every code point: encoded by hand, decoded back. */
static void test_decode_all(void **state) {
        (void)state;
        for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
                uint8_t b[4];
                size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
                for (size_t i = n; i-- > 1;)
                        b[i] = (uint8_t)(0x80 | ((cp >> 6 * (n - 1 - i)) & 0x3f));
                static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
                b[0] = (uint8_t)(marks[n] | cp >> 6 * (n - 1));
                uint32_t got;
                size_t used = utf8_decode(b, n, &got);
                bool surrogate = cp >= 0xd800 && cp <= 0xdfff;
                assert_int_equal(got, surrogate ? UTF8_BAD : cp);
                assert_int_equal(used, surrogate ? 1 : n);
        }
}

static void test_cut(void **state) {
        (void)state;
        static const struct { const char *in; size_t keep; } cuts[] = {
                {"", 0}, {"abc", 3}, {"ab\xc3", 2}, {"ab\xc3\xa9", 4}, {"\xe2\x82", 0},
                {"\xe2\x82\xac", 3}, {"a\xf0\x9f\x98", 1}, {"\xf0\x9f\x98\x80", 4}, {"\x80\x80", 2},
                {"\xff", 1}, {"\xe0\x80", 2}, {"\xc3\xa9\xa9", 3}, {"\x80\x80\x80\x80", 4},
        };
        for (size_t i = 0; i < ARRAY_SIZE(cuts); i++)
                assert_int_equal(utf8_cut((const uint8_t *)cuts[i].in, strlen(cuts[i].in)),
                                 cuts[i].keep);
}

static void test_classes(void **state) {
        (void)state;
        static const struct { uint32_t cp; unsigned class; } known[] = {
                {'a', UNICODE_LETTER}, {'Z', UNICODE_LETTER}, {0xdf, UNICODE_LETTER},
                {0x2b0, UNICODE_LETTER}, {0x1c5, UNICODE_LETTER}, {0x4e00, UNICODE_LETTER},
                {'7', UNICODE_NUMBER}, {0xbd, UNICODE_NUMBER}, {0x2167, UNICODE_NUMBER},
                {0x664, UNICODE_NUMBER}, {'!', UNICODE_PUNCT}, {'_', UNICODE_PUNCT},
                {0x2014, UNICODE_PUNCT}, {'$', 0}, {'+', 0}, {0x301, 0}, {0x200b, 0}, {0x1f600, 0},
                {0, 0}, {0x1c, 0}, {0xe000, 0}, {0x10ffff, 0}, {0x110000, 0}, {UTF8_BAD, 0},
        };
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                assert_int_equal(unicode_class(known[i].cp), known[i].class);
        unsigned spaces = 0;
        for (uint32_t cp = 0; cp <= 0x10ffff; cp++)
                spaces += unicode_class(cp) == UNICODE_SPACE;
        assert_int_equal(spaces, 25); /* characters with White_Space in the Unicode standard */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stream_cases),  cmocka_unit_test(test_stream_emits_at_once),
                cmocka_unit_test(test_stream_random), cmocka_unit_test(test_decode_all),
                cmocka_unit_test(test_cut),           cmocka_unit_test(test_classes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
