/* Regular expressions against tables of what they match and what they are refused for; products of
 * automata; limits that a short expression reaches. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/grammar/regex.h"

static struct view view_of(const char *text) {
        return (struct view){ .p = (const uint8_t *)text, .n = strlen(text) };
}

static int compile(struct dfa *d, const char *pattern, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = { 0 };
        uint32_t start, end;
        int r = regex_build(&n, view_of(pattern), &start, &end);

        return r < 0 ? r : dfa_add(d, &n, start, end, ret);
}

/* Texts are separated by |; "" is a text, too. */
static const struct {
        const char *pattern, *matching, *others;
} rows[] = {
        { "^a*$", "|a|aaa", "b|aab| a" },
        { "a", "a|xax|aa", "|b|A" },
        { "^a", "a|ab", "|ba" },
        { "a$", "a|ba", "|ab" },
        { "^(?:ab|c)+$", "ab|c|abc|cab", "|a|abb" },
        { "^a{2,3}$", "aa|aaa", "|a|aaaa" },
        { "^a{0}b{2}$", "bb", "abb|b|" },
        { "^(ab){2,}$", "abab|ababab", "ab|aba|" },
        { "^a{0,2}?$", "|a|aa", "aaa" },
        { "^[a-cx]+?$", "a|cab|x", "|d|-" },
        { "^[^a-c]$", "d|é|-|\xf0\x9f\x90\xb2", "a|b|dd|" },
        { "^[a-]$", "a|-", "b" },
        { "^[\\]\\\\-]$", "]|\\|-", "[" },
        { "^\\d{3}-\\d{4}$", "555-1234", "555-123|5551234|55a-1234" },
        { "^\\w\\W\\s\\S$", "a- b|_\xc3\xa9 -", "ab c|a-bc" },
        { "^.$", "a|é|\xe2\x82\xac|\xf0\x9f\x90\xb2", "|ab|\n|\xe2\x80\xa8" },
        { "^[à-ÿ]$", "à|ÿ|é", "a|Ā|\xc3" },
        { "^[\\u0000-\\u{10FFFF}]$", "a|\xed\x9f\xbf|\xee\x80\x80", "ab" },
        { "^\\uD83D\\uDC32$", "\xf0\x9f\x90\xb2", "\xf0\x9f\x90\xb3" },
        { "^\\x41\\cA\\t\\/$", "A\x01\t/", "A\t/" },
        { "^(|a|b(c|d))x", "x|ax|bcx|bdxx", "bx|cx" },
        { "foo|^bar$", "xfoox|bar|foobar", "barx|fo" },
        { "^(?<year>\\d\\d)$", "19", "1|199" },
        { "^(a|ab)(c|bcd)$", "ac|abc|abcd|abbcd", "a|abcde|ab" },
        { "", "|anything", NULL },
};

static void check(const struct dfa *d, uint32_t start, const char *pattern, const char *texts,
                  bool wanted) {
        const char *end;

        for (; texts; texts = *end ? end + 1 : NULL) {
                struct view text;

                end = strchr(texts, '|') ? strchr(texts, '|') : texts + strlen(texts);
                text = (struct view){ .p = (const uint8_t *)texts, .n = (size_t)(end - texts) };
                if (dfa_accepts(d, start, text) != wanted)
                        fail_msg("%s and '%.*s'", pattern, (int)text.n, texts);
        }
}

static void test_matches(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct dfa d = { 0 };
                uint32_t start;

                if (compile(&d, rows[i].pattern, &start) < 0)
                        fail_msg("%s is refused", rows[i].pattern);
                check(&d, start, rows[i].pattern, rows[i].matching, true);
                check(&d, start, rows[i].pattern, rows[i].others, false);
                dfa_done(&d);
        }
}

static const struct {
        const char *pattern;
        int error;
} refused[] = {
        { "(a", -EINVAL }, { "a)", -EINVAL }, { "[a", -EINVAL }, { "*", -EINVAL },
        { "a{", -EINVAL }, { "a{2,1}", -EINVAL }, { "[b-a]", -EINVAL }, { "\\", -EINVAL },
        { "[\\d-x]", -EINVAL },
        { "\\uD83D", -EINVAL }, { "]", -EINVAL }, { "\xff", -EINVAL }, { "\\x4", -EINVAL },
        { "(?=a)", -EOPNOTSUPP }, { "(?!a)b", -EOPNOTSUPP }, { "(?<=a)", -EOPNOTSUPP },
        { "\\bfoo", -EOPNOTSUPP }, { "(a)\\1", -EOPNOTSUPP }, { "\\p{L}", -EOPNOTSUPP },
        { "a^b", -EOPNOTSUPP }, { "a$b", -EOPNOTSUPP }, { "(^a|b)", -EOPNOTSUPP },
        { "\\a", -EOPNOTSUPP },
        { "a{1001}", -E2BIG }, { "((a{900}){900}){900}", -E2BIG },
        { "(a|b)*a(a|b){20}", -E2BIG },
        { "(((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))", -E2BIG },
};

static void test_refusals(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                struct dfa d = { 0 };
                uint32_t start;
                int r = compile(&d, refused[i].pattern, &start);

                if (r != refused[i].error)
                        fail_msg("%s gives %d", refused[i].pattern, r);
                assert_true(d.work <= 2 * DFA_WORK_MAX);
                dfa_done(&d);
        }
}

static void test_products(void **state) {
        uint32_t a, b, both, less, none;
        struct dfa d = { 0 };

        (void)state;
        assert_int_equal(compile(&d, "^[a-m]{1,4}$", &a), 0);
        assert_int_equal(compile(&d, "[e-z]", &b), 0);
        assert_int_equal(dfa_intersect(&d, a, b, &both), 0);
        check(&d, both, "both", "e|ae|mmmm", true);
        check(&d, both, "both", "|a|z|ez|eeeee", false);
        assert_int_equal(dfa_subtract(&d, a, b, &less), 0);
        check(&d, less, "less", "a|dcba", true);
        check(&d, less, "less", "|e|ae|z|aaaaa", false);
        assert_int_equal(dfa_subtract(&d, a, a, &none), 0);
        assert_false(d.states.p[none].live);
        dfa_done(&d);
}

/* A state from which only bytes lead on that are no token of their own is dead; a token may still
 * pass over it. */
static void test_usable_bytes(void **state) {
        bool usable[256] = { ['a'] = true, ['c'] = true };
        struct dfa d = { 0 };
        uint32_t start;

        (void)state;
        assert_int_equal(compile(&d, "^(ab|ac|bc)$", &start), 0);
        assert_int_equal(dfa_revive(&d, start, (uint32_t)d.states.n, usable), 0);
        check(&d, start, "usable", "ac|bc", true);
        usable['c'] = false;
        assert_int_equal(dfa_revive(&d, start, (uint32_t)d.states.n, usable), 0);
        assert_false(d.states.p[start].live);
        check(&d, start, "usable", "ac|bc", false);
        usable['b'] = true;
        assert_int_equal(dfa_revive(&d, start, (uint32_t)d.states.n, usable), 0);
        check(&d, start, "usable", "ab|ac", true);
        check(&d, start, "usable", "bc", false);
        dfa_done(&d);
}

/* How many texts a pattern has: all bytes, then small letters only. */
static void test_texts(void **state) {
        static const struct {
                const char *pattern;
                uint32_t texts, letters;
        } counts[] = {
                { "^$", 1, 1 }, { "^[ab]?$", 3, 3 }, { "^(?:aa|[ab]{2})$", 4, 4 },
                { "^[a-z]{3}$", 26 * 26 * 26, 26 * 26 * 26 }, { "^(?:[0-9]|b)c?$", 22, 2 },
                { "^a*$", DFA_ENDLESS, DFA_ENDLESS }, { "^(?:a|[0-9]+b)$", DFA_ENDLESS, 1 },
                { "^[a-z]{8}$", DFA_ENDLESS, DFA_ENDLESS }, { "^[\\u00e0-\\u00ff]$", 32, 0 },
        };
        bool usable[256] = { 0 };

        (void)state;
        memset(usable + 'a', true, 26);
        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                struct dfa d = { 0 };
                uint32_t start;

                assert_int_equal(compile(&d, counts[i].pattern, &start), 0);
                assert_int_equal(d.states.p[start].texts, counts[i].texts);
                assert_int_equal(dfa_revive(&d, start, (uint32_t)d.states.n, usable), 0);
                assert_int_equal(d.states.p[start].texts, counts[i].letters);
                dfa_done(&d);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_matches), cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_products), cmocka_unit_test(test_usable_bytes),
                cmocka_unit_test(test_texts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
