/* The error table: complete, unique, and one spelling leads to the same code as another. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/error.h"

/* Codes with one spelling that count different things. */
static bool alike(enum error_code a, enum error_code b) {
        return (a == ERROR_TOKENS_LIMITED && b == ERROR_RATE_LIMITED) ||
               (a == ERROR_BUDGET_CPU && b == ERROR_BUDGET_TOKENS);
}

static void test_rows_are_complete_and_unique(void **state) {
        for (unsigned i = ERROR_FAILED; i < _ERROR_MAX; i++) {
                const struct error_row *row = error_row((enum error_code)i);

                assert_non_null(row->dbus_name);
                assert_true(strncmp(row->dbus_name, "org.bitnetd.Bitnetd1.Error.", 27) == 0);
                assert_in_range(row->http_status, 400, 599);
                assert_true(strlen(row->http_type) > 0 && strlen(row->http_code) > 0);
                assert_in_range(row->exit_status, 1, 141);
                assert_true(strlen(row->text) > 5 && row->text[strlen(row->text) - 1] == '.');
                assert_null(strchr(row->text, '%'));
                assert_null(strchr(row->text, '"')); /* it stands in JSON as it is */
                for (unsigned k = 0; k < i; k++) {
                        const struct error_row *other = error_row((enum error_code)k);

                        assert_string_not_equal(row->text, other->text);
                        if (alike(i, k))
                                continue;
                        assert_string_not_equal(row->dbus_name, other->dbus_name);
                        assert_string_not_equal(row->http_code, other->http_code);
                }
        }
}

static void test_spellings_lead_back(void **state) {
        for (unsigned i = ERROR_FAILED; i < _ERROR_MAX; i++) {
                const struct error_row *row = error_row((enum error_code)i);

                enum error_code back = error_from_dbus(row->dbus_name);

                assert_int_equal(error_from_http_code(row->http_code), back);
                if (back == i)
                        continue;
                assert_true(alike(i, back));
                assert_int_equal(error_row(back)->http_status, row->http_status);
                assert_int_equal(error_row(back)->exit_status, row->exit_status);
                assert_int_equal(error_row(back)->hold, row->hold);
        }
        assert_int_equal(error_from_dbus("org.freedesktop.DBus.Error.NoReply"), ERROR_FAILED);
        assert_int_equal(error_from_dbus(NULL), ERROR_FAILED);
        assert_int_equal(error_from_http_code("what"), ERROR_FAILED);
        assert_ptr_equal(error_row((enum error_code)1000), error_row(ERROR_FAILED));
        assert_ptr_equal(error_row((enum error_code)-1), error_row(ERROR_FAILED));
}

/* What the manual promises (exit status, HTTP status). */
static void test_promised_numbers(void **state) {
        static const struct {
                enum error_code code;
                unsigned http;
                int exit;
        } rows[] = {
                { ERROR_INVALID_INPUT, 400, 65 },    { ERROR_INPUT_TOO_LARGE, 413, 65 },
                { ERROR_CONTEXT_TOO_LONG, 400, 65 }, { ERROR_MODEL_NOT_FOUND, 404, 69 },
                { ERROR_NOT_AUTHORIZED, 403, 77 },   { ERROR_RATE_LIMITED, 429, 75 },
                { ERROR_QUEUE_FULL, 429, 75 },       { ERROR_CONNECTIONS, 429, 75 },
                { ERROR_OVERLOADED, 503, 75 },       { ERROR_UNAVAILABLE, 503, 69 },
                { ERROR_WORKER_FAILED, 500, 70 },    { ERROR_CANCELLED, 499, 130 },
                { ERROR_DEADLINE, 408, 124 },        { ERROR_FAILED, 500, 1 },
                { ERROR_STOPPING, 503, 75 },         { ERROR_TOKENS_LIMITED, 429, 75 },
                { ERROR_BUDGET_TOKENS, 429, 75 },    { ERROR_BUDGET_CPU, 429, 75 },
                { ERROR_OBJECTS, 429, 75 },          { ERROR_CONFIG, 500, 78 },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(error_row(rows[i].code)->http_status, rows[i].http);
                assert_int_equal(error_row(rows[i].code)->exit_status, rows[i].exit);
        }
}

static void test_format(void **state) {
        static const struct {
                struct refusal refusal;
                const char *text;
        } cases[] = {
                { { ERROR_INPUT_TOO_LARGE, 0, 70, 64 },
                  "The input is larger than allowed. (value 70, limit 64 bytes)" },
                { { ERROR_CANCELLED, 0, 0, 0 }, "The job was cancelled." },
                { { ERROR_RATE_LIMITED, 1, 121, 120 },
                  "Too many requests in a short time. (value 121, limit 120 requests; try again "
                  "in 1 s)" },
                { { ERROR_OVERLOADED, 119000, 0, 0 },
                  "The service is saturated; try again later. (try again in 119 s)" },
                { { ERROR_BUDGET_CPU, 120001, 61, 60 },
                  "Your CPU time of the day is used up. (value 61, limit 60 seconds; try again in "
                  "3 min)" },
                { { ERROR_BUDGET_TOKENS, 7200001, 9, 8 },
                  "Your tokens of the day do not suffice. (value 9, limit 8 tokens; try again in "
                  "3 h)" },
        };
        char buf[192], small[8];

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_string_equal(error_format(&cases[i].refusal, buf, sizeof(buf)),
                                    cases[i].text);
        assert_string_equal(error_format(&cases[1].refusal, small, sizeof(small)), "The job");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows_are_complete_and_unique),
                cmocka_unit_test(test_spellings_lead_back),
                cmocka_unit_test(test_promised_numbers),
                cmocka_unit_test(test_format),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
