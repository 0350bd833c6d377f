/* Wiped buffers, stop strings fed in every possible split, default sampling, and the
 * bytes of HTTP answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/defaults.h"
#include "daemon/worker/http.h"
#include "daemon/worker/stop.h"
#include "engine/base/macro.h"

static void test_buffer(void **state) {
        struct secure_buf b = {};
        char *taken;

        for (unsigned i = 0; i < 1000; i++)
                secure_buf_printf(&b, "%u,", i % 10);
        assert_int_equal(b.n, 2000);
        secure_buf_consume(&b, 1994);
        assert_memory_equal(b.p, "7,8,9,", 6);
        for (size_t i = 6; i < 2000; i++)
                assert_int_equal(b.p[i], 0);
        taken = secure_buf_take(&b);
        assert_string_equal(taken, "7,8,9,");
        assert_null(b.p);
        secure_free(taken);
        assert_null(secure_buf_reserve(&b, SIZE_MAX));
        assert_true(b.failed);
        secure_buf_append(&b, "x", 1);
        assert_int_equal(b.n, 0);
        secure_buf_done(&b);
        assert_false(b.failed);
}

/* Text through a filter in pieces of `step`; returns what came out. */
static void run_stop(const char *const *stops, size_t n, const char *text, size_t step,
                     const char *expected, bool stopped) {
        struct stop_list list = {};
        struct stop_filter f = { .list = &list };
        struct secure_buf out = {};
        bool hit = false;

        for (size_t i = 0; i < n; i++)
                assert_int_equal(stop_list_add(&list, stops[i], strlen(stops[i])), 0);
        for (size_t at = 0; at < strlen(text); at += step)
                hit = stop_filter_feed(&f, text + at, MIN(step, strlen(text) - at), &out);
        stop_filter_end(&f, &out);
        assert_int_equal(hit, stopped);
        assert_int_equal(out.n, strlen(expected));
        assert_memory_equal(out.p ? out.p : "", expected, out.n);
        stop_filter_done(&f);
        stop_list_done(&list);
        secure_buf_done(&out);
}

static void test_stop(void **state) {
        static const char *const two[] = { "</end>", "<stop" }, *const aab[] = { "aab" };

        for (size_t step = 1; step < 30; step++) {
                run_stop(two, 2, "hello <world></end>more", step, "hello <world>", true);
                run_stop(two, 2, "a<stopb</end>", step, "a", true);
                run_stop(two, 2, "no stop <sto here </en", step, "no stop <sto here </en", false);
                run_stop(aab, 1, "aaaab!", step, "aa", true);
                run_stop(aab, 1, "aacaaxaa", step, "aacaaxaa", false);
                run_stop(NULL, 0, "anything", step, "anything", false);
        }
}

/* Nothing may be given out that could still become a stop string, and nothing else held back. */
static void test_stop_holds(void **state) {
        struct stop_list list = {};
        struct stop_filter f = { .list = &list };
        struct secure_buf out = {};

        stop_list_add(&list, "\n\nUser:", 7);
        stop_filter_feed(&f, "Yes.\n", 5, &out);
        assert_int_equal(out.n, 4);
        stop_filter_feed(&f, "\nUs", 3, &out);
        assert_int_equal(out.n, 4);
        stop_filter_feed(&f, "ually", 5, &out);
        assert_int_equal(out.n, 13);
        stop_filter_done(&f);
        stop_list_done(&list);
        secure_buf_done(&out);
}

static void test_stop_limits(void **state) {
        struct stop_list list = {};
        char large[STOP_BYTES_MAX + 1];

        memset(large, 'x', sizeof(large));
        assert_int_equal(stop_list_add(&list, "", 0), -EINVAL);
        assert_int_equal(stop_list_add(&list, large, sizeof(large)), -E2BIG);
        for (unsigned i = 0; i < STOP_MAX; i++)
                assert_int_equal(stop_list_add(&list, large, STOP_BYTES_MAX), 0);
        assert_int_equal(stop_list_add(&list, "a", 1), -E2BIG);
        stop_list_done(&list);
}

static void test_seeds(void **state) {
        uint64_t s = 1;
        uint64_t a = default_sampling(1, &s).seed, b = default_sampling(1, &s).seed;

        assert_true(a != b && a != 0);
}

/* Against loops, and against nothing else. */
static void test_default_sampling(void **state) {
        uint64_t seed = 1;

        for (uint32_t verb = WIRE_VERB_CHAT; verb < _WIRE_VERB_MAX; verb++) {
                struct sampling s = default_sampling(verb, &seed);

                assert_true(s.temperature == 0 && s.repeat_penalty == 1 && s.top_p == 1);
                assert_true(s.dry_base > 1 && s.dry_allowed_length >= 2);
                assert_true((s.dry_multiplier > 0) !=
                            (verb == WIRE_VERB_PROOFREAD || verb == WIRE_VERB_EXTRACT));
        }
}

static void assert_contains(const struct secure_buf *b, const char *part) {
        if (!memmem(b->p, b->n, part, strlen(part)))
                print_message("no \"%s\" in: %.*s\n", part, (int)b->n, b->p);
        assert_non_null(memmem(b->p, b->n, part, strlen(part)));
}

static void test_errors(void **state) {
        struct request_error e;
        struct secure_buf out = {};
        json_t *v;

        request_fail_range(&e, ERROR_CONTEXT_TOO_LONG, "messages", NULL, 5000, 2048);
        v = http_error_json(&e);
        http_json(&out, v);
        assert_int_equal(http_error_status(&e), 400);
        assert_contains(&out, "\"code\":\"context_length_exceeded\"");
        assert_contains(&out, "\"n_prompt_tokens\":5000");
        assert_contains(&out, "\"n_ctx\":2048");
        assert_contains(&out, "\"param\":\"messages\"");
        json_decref(v);
        secure_buf_done(&out);
        request_fail(&e, ERROR_NOT_FOUND, NULL, "Fixed words.");
        v = http_error_json(&e);
        http_json(&out, v);
        assert_contains(&out, "\"param\":null");
        assert_contains(&out, "Fixed words.");
        json_decref(v);
        secure_buf_done(&out);
}

static void test_head(void **state) {
        struct http_head h = { .status = 429, .content_type = "application/json", .length = 5,
                               .job = 0x2a, .retry_after_ms = 1500, .should_retry = 1 };
        struct secure_buf out = {};

        http_head(&out, &h);
        assert_contains(&out, "HTTP/1.1 429 Too Many Requests\r\n");
        assert_contains(&out, "\r\nx-request-id: 42\r\n");
        assert_contains(&out, "\r\nRetry-After: 2\r\n");
        assert_contains(&out, "\r\nretry-after-ms: 1500\r\n");
        assert_contains(&out, "\r\nx-should-retry: true\r\n");
        assert_contains(&out, "\r\nContent-Length: 5\r\n");
        assert_contains(&out, "\r\nConnection: keep-alive\r\n\r\n");
        secure_buf_done(&out);
        http_chunk(&out, "0123456789abcdef", 16);
        http_last_chunk(&out, "");
        assert_int_equal(out.n, 4 + 16 + 2 + 5);
        assert_memory_equal(out.p, "10\r\n0123456789abcdef\r\n0\r\n\r\n", out.n);
        secure_buf_done(&out);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_buffer),      cmocka_unit_test(test_stop),
                cmocka_unit_test(test_stop_holds),  cmocka_unit_test(test_stop_limits),
                cmocka_unit_test(test_seeds),       cmocka_unit_test(test_default_sampling),
                cmocka_unit_test(test_errors),      cmocka_unit_test(test_head),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
