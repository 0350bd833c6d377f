/* The error table: complete, unique, and one spelling leads to the same code as another. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/error.h"

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

                        assert_string_not_equal(row->dbus_name, other->dbus_name);
                        assert_string_not_equal(row->http_code, other->http_code);
                        assert_string_not_equal(row->text, other->text);
                }
        }
}

static void test_spellings_lead_back(void **state) {
        for (unsigned i = ERROR_FAILED; i < _ERROR_MAX; i++) {
                const struct error_row *row = error_row((enum error_code)i);

                assert_int_equal(error_from_dbus(row->dbus_name), i);
                assert_int_equal(error_from_http_code(row->http_code), i);
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
                { ERROR_STOPPING, 503, 75 },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(error_row(rows[i].code)->http_status, rows[i].http);
                assert_int_equal(error_row(rows[i].code)->exit_status, rows[i].exit);
        }
}

static void test_format(void **state) {
        char buf[128], small[8];

        assert_string_equal(error_format(ERROR_INPUT_TOO_LARGE, 70, 64, buf, sizeof(buf)),
                            "The input is larger than allowed. (value 70, limit 64 bytes)");
        assert_string_equal(error_format(ERROR_CANCELLED, 0, 0, buf, sizeof(buf)),
                            "The job was cancelled.");
        assert_string_equal(error_format(ERROR_CANCELLED, 0, 0, small, sizeof(small)), "The job");
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
