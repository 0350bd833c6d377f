/* The parts of bnctl that need no daemon: event stream, terminal filter, command line. */

#include <assert.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <getopt.h>

#include "client/http.h"
#include "client/options.h"
#include "client/sse.h"
#include "client/term.h"

struct seen {
        char log[512];
        unsigned stop_after;
};

static bool on_event(void *userdata, const char *event, const char *data, size_t n) {
        struct seen *s = userdata;

        snprintf(s->log + strlen(s->log), sizeof(s->log) - strlen(s->log), "[%s|%.*s]", event,
                 (int)n, data);
        return s->stop_after == 0 || --s->stop_after > 0;
}

static void on_comment(void *userdata, const char *text) {
        struct seen *s = userdata;

        snprintf(s->log + strlen(s->log), sizeof(s->log) - strlen(s->log), "(%s)", text);
}

static const char stream[] = ": heartbeat\n\ndata: one\n\nevent: delta\r\ndata: two\r\n"
                             "data: three\r\n\r\nid: 7\n\ndata:x\n\n";

static void test_sse_in_any_cut(void **state) {
        for (size_t cut = 1; cut < sizeof(stream); cut++) {
                struct seen seen = {0};
                struct sse s = {.on_event = on_event, .userdata = &seen,
                                .on_comment = cut % 2 ? on_comment : NULL};

                for (size_t i = 0; i < sizeof(stream) - 1; i += cut) {
                        size_t n = sizeof(stream) - 1 - i;
                        assert_true(sse_feed(&s, stream + i, n < cut ? n : cut));
                }
                assert_string_equal(seen.log, cut % 2 ? "(heartbeat)[|one][delta|two\nthree][|x]"
                                                      : "[|one][delta|two\nthree][|x]");
                sse_done(&s);
        }
}

static void test_sse_stops(void **state) {
        struct seen seen = {.stop_after = 1};
        struct sse s = {.on_event = on_event, .userdata = &seen};

        assert_false(sse_feed(&s, stream, sizeof(stream) - 1));
        assert_string_equal(seen.log, "[|one]");
        sse_done(&s);
}

static void check_text(const char *in, const char *want, bool safe) {
        char *out = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&out, &n);

        assert_true(term_text(f, in, strlen(in), safe));
        fclose(f);
        assert_string_equal(out, want);
        free(out);
}

static void test_terminal_is_safe(void **state) {
        check_text("plain\tline\n", "plain\tline\n", true);
        check_text("\033[31mred\033[0m", "\\x1b[31mred\\x1b[0m", true);
        check_text("a\rb\177", "a\\x0db\\x7f", true);
        check_text("\xc2\x9b", "\\x9b", true);             /* C1: CSI */
        check_text("\xe2\x80\xae" "abc", "\\u202eabc", true); /* right-to-left override */
        check_text("grüße €🙂", "grüße €🙂", true);
        check_text("\033[31m", "\033[31m", false);
}

static int run_nothing(struct options *o) {
        return 0;
}

static const struct verb verbs[] = {
        {"ask", "ask", "s", "h", "model stop no-stream", -1, run_nothing},
        {"one", "one [X]", "s", "h", "all stream", 1, run_nothing},
};

static const struct verb *parse(struct options *o, int *status, ...) {
        char *argv[16] = {(char *)"bnctl"};
        int argc = 1;
        va_list ap;

        va_start(ap, status);
        while ((argv[argc] = va_arg(ap, char *)))
                argc++;
        va_end(ap);
        optind = 0;
        *o = (struct options){0};
        return options_parse(o, verbs, 2, argc, argv, status);
}

static void test_command_line(void **state) {
        struct options o;
        int status;

        setenv("BITNETD_SOCKET", "/from/environment", 1);
        assert_non_null(parse(&o, &status, "ask", "-m", "x", "--stop=a", "--stop=b", "hello", "you",
                              NULL));
        assert_string_equal(o.model, "x");
        assert_int_equal(o.n_stop, 2);
        assert_int_equal(o.n_args, 2);
        assert_string_equal(o.args[1], "you");
        assert_string_equal(o.socket, "/from/environment");
        assert_non_null(parse(&o, &status, "ask", "--socket=/given", NULL));
        assert_string_equal(o.socket, "/given");
}

static void test_usage_errors(void **state) {
        struct options o;
        int status;

        assert_null(parse(&o, &status, "aks", NULL));
        assert_int_equal(status, 2);
        assert_null(parse(&o, &status, "ask", "--no-such-option", NULL));
        assert_int_equal(status, 2);
        assert_null(parse(&o, &status, "ask", "--stop=1", "--stop=2", "--stop=3", "--stop=4",
                          "--stop=5", NULL));
        assert_int_equal(status, 2);
        /* Known to others, but not honoured by this verb. */
        assert_null(parse(&o, &status, "ask", "--all", NULL));
        assert_int_equal(status, 2);
        assert_null(parse(&o, &status, "one", "-m", "x", NULL));
        assert_int_equal(status, 2);
        assert_null(parse(&o, &status, "one", "--no-stream", NULL)); /* "stream" is another word */
        assert_int_equal(status, 2);
        assert_null(parse(&o, &status, "one", "a", "b", NULL));
        assert_int_equal(status, 2);
        assert_non_null(parse(&o, &status, "one", "a", "--all", "-q", NULL));
        assert_null(parse(&o, &status, "ask", "--help", NULL));
        assert_int_equal(status, 0);
}

static void test_failures_keep_their_code(void **state) {
        static const char full[] = "{\"error\":{\"message\":\"too many\",\"type\":\"x\","
                                   "\"code\":\"queue_full\"}}";
        struct http_failure f;

        http_parse_failure(full, sizeof(full) - 1, &f);
        assert_int_equal(f.code, ERROR_QUEUE_FULL);
        assert_string_equal(f.text, "too many");
        http_parse_failure("not json", 8, &f);
        assert_int_equal(f.code, ERROR_FAILED);
        assert_string_equal(f.text, error_row(ERROR_FAILED)->text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sse_in_any_cut),
                cmocka_unit_test(test_sse_stops),
                cmocka_unit_test(test_terminal_is_safe),
                cmocka_unit_test(test_command_line),
                cmocka_unit_test(test_usage_errors),
                cmocka_unit_test(test_failures_keep_their_code),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
