/* Automata of number ranges and multiples against arithmetic with whole thousandths: every number
 * from -30 to 30 with up to three digits after the point, and larger ones, for many bounds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/grammar/number.h"

enum { SCALE = 1000 };

static struct view view_of(const char *text) {
        return (struct view){ .p = (const uint8_t *)text, .n = strlen(text) };
}

static const char *thousandths(long v, int digits, char buf[32]) {
        long a = labs(v), unit = digits == 3 ? 1 : digits == 2 ? 10 : 100;

        if (digits == 0)
                snprintf(buf, 32, "%s%ld", v < 0 ? "-" : "", a / SCALE);
        else
                snprintf(buf, 32, "%s%ld.%0*ld", v < 0 ? "-" : "", a / SCALE, digits,
                         a % SCALE / unit);
        return buf;
}

static void build(struct dfa *d, const struct number_range *r, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = { 0 };
        uint32_t start, end;

        number_build(&n, r, &start, &end);
        assert_int_equal(dfa_add(d, &n, start, end, ret), 0);
}

/* INT32_MIN, INT32_MAX: no bound. */
static bool in_range(long v, long min, bool min_open, long max, bool max_open) {
        return (min == INT32_MIN || (min_open ? v > min : v >= min)) &&
               (max == INT32_MAX || (max_open ? v < max : v <= max));
}

static void check_range(long min, bool min_open, long max, bool max_open, bool whole) {
        struct number_range r = { .whole = whole, .min_open = min_open, .max_open = max_open };
        struct decimal lo, hi;
        struct dfa d = { 0 };
        char text[32];
        uint32_t start;

        decimal_parse(thousandths(min, 3, text), &lo);
        decimal_parse(thousandths(max, 3, text), &hi);
        r.min = min == INT32_MIN ? NULL : &lo;
        r.max = max == INT32_MAX ? NULL : &hi;
        build(&d, &r, &start);
        for (int digits = whole ? 0 : 3; digits >= 0; digits--) {
                long unit = digits == 3 ? 1 : digits == 2 ? 10 : digits == 1 ? 100 : SCALE;

                for (long v = -12L * SCALE; v <= 12L * SCALE; v += unit) {
                        bool wanted = in_range(v, min, min_open, max, max_open);

                        if (dfa_accepts(&d, start, view_of(thousandths(v, digits, text))) != wanted)
                                fail_msg("%s in %ld%s..%ld%s", text, min, min_open ? "+" : "", max,
                                         max_open ? "-" : "");
                }
        }
        dfa_done(&d);
}

static void test_ranges(void **state) {
        static const long bounds[] = { INT32_MIN, -10500, -9999, -2000, -1001, -10, 0, 5, 999, 1000,
                                       1100, 3050, 9000, 10000, 11999, INT32_MAX };

        (void)state;
        for (size_t i = 0; i + 1 < ARRAY_SIZE(bounds); i++)
                for (size_t j = i ? i : 1; j < ARRAY_SIZE(bounds); j++)
                        for (int open = 0; open < 4; open++)
                                check_range(bounds[i], open & 1, bounds[j], open & 2,
                                            (i + j) % 3 == 0);
}

static const struct {
        const char *min, *max, *accepted, *refused;
} rows[] = {
        { NULL, NULL, "0", "-0" },
        { NULL, NULL, "123456789012345678", "1234567890123456789" },
        { NULL, NULL, "1.5", "01" },
        { NULL, NULL, "-0.5", "-0.0" },
        { NULL, NULL, "12345.1234567891", "12345.12345678912" },
        { "0.00001", NULL, "0.00001", "0.000009" },
        { "1e3", "1.5e3", "1499.9", "1500.1" },
        { "99", "1001", "100", "98" },
        { "99", "1001", "1001", "1002" },
        { "-1e17", NULL, "-100000000000000000", "-100000000000000001" },
};

static void test_written_bounds(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct number_range r = { .whole = false };
                struct decimal min, max;
                struct dfa d = { 0 };
                uint32_t start;

                if (rows[i].min)
                        assert_int_equal(decimal_parse(rows[i].min, &min), 0);
                if (rows[i].max)
                        assert_int_equal(decimal_parse(rows[i].max, &max), 0);
                r.min = rows[i].min ? &min : NULL;
                r.max = rows[i].max ? &max : NULL;
                build(&d, &r, &start);
                if (!dfa_accepts(&d, start, view_of(rows[i].accepted)) ||
                    dfa_accepts(&d, start, view_of(rows[i].refused)))
                        fail_msg("row %zu", i);
                dfa_done(&d);
        }
}

static void test_decimals(void **state) {
        struct decimal a, b;

        (void)state;
        assert_int_equal(decimal_parse("1e18", &a), -ERANGE);
        assert_int_equal(decimal_parse("-1e400", &a), -ERANGE);
        assert_int_equal(decimal_parse("1e-18", &a), -EDOM);
        assert_int_equal(decimal_parse("0.10", &a), 0);
        assert_int_equal(decimal_parse("1.0e-1", &b), 0);
        assert_int_equal(decimal_compare(&a, &b), 0);
        assert_int_equal(decimal_parse("-0", &b), 0);
        assert_true(decimal_compare(&a, &b) > 0 && !b.negative);
        assert_int_equal(decimal_parse("-12", &b), 0);
        assert_true(decimal_compare(&b, &a) < 0);
        assert_int_equal(decimal_parse("-9.5", &a), 0);
        assert_true(decimal_compare(&b, &a) < 0 && decimal_compare(&a, &b) > 0);
}

/* Multiples alone accept more than numbers; with the range they are exact. */
static void check_multiple(long step, const char *text_of_step) {
        _cleanup_(nfa_done) struct nfa n = { 0 };
        uint32_t start, end, numbers, multiples, both;
        struct decimal d;
        struct dfa dfa = { 0 };
        char text[32];

        assert_int_equal(decimal_parse(text_of_step, &d), 0);
        assert_int_equal(number_build_multiple(&n, &d, &start, &end), 0);
        assert_int_equal(dfa_add(&dfa, &n, start, end, &multiples), 0);
        build(&dfa, &(struct number_range){ .whole = false }, &numbers);
        assert_int_equal(dfa_intersect(&dfa, numbers, multiples, &both), 0);
        for (long v = -30L * SCALE; v <= 30L * SCALE; v++)
                if (v != 0 && dfa_accepts(&dfa, both, view_of(thousandths(v, 3, text))) !=
                                      (v % step == 0))
                        fail_msg("%s and %s", text, text_of_step);
        dfa_done(&dfa);
}

static void test_multiples(void **state) {
        struct decimal d;
        struct nfa n = { 0 };
        uint32_t start, end;

        (void)state;
        check_multiple(1000, "1");
        check_multiple(7000, "7");
        check_multiple(10, "0.01");
        check_multiple(1500, "1.5");
        check_multiple(125, "0.125");
        check_multiple(1, "0.001");
        assert_int_equal(decimal_parse("123456789", &d), 0);
        assert_int_equal(number_build_multiple(&n, &d, &start, &end), -E2BIG);
        nfa_done(&n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ranges), cmocka_unit_test(test_written_bounds),
                cmocka_unit_test(test_decimals), cmocka_unit_test(test_multiples),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
