/* HTTP requests, whole and byte by byte: what is accepted, how it is refused, what is left over. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/request.h"
#include "engine/base/macro.h"

enum { BODY_MAX = 1000 };

/* Feed in steps; returns the bytes used. */
static size_t feed(struct request *r, const char *p, size_t n, size_t step) {
        size_t at = 0;

        request_init(r, BODY_MAX);
        while (at < n && !r->complete && r->status == 0) {
                size_t take = MIN(step, n - at), used = request_feed(r, p + at, take);

                at += used;
                if (used < take)
                        break;
        }
        return at;
}

struct row {
        const char *text;
        unsigned status;   /* 0: not refused */
        bool complete;
        const char *body;
        size_t rest;       /* bytes that belong to the next request */
};

#define HOST "Host: x\r\n"

static const struct row rows[] = {
        { "GET /health HTTP/1.1\r\n" HOST "\r\n", 0, true, "", 0 },
        { "GET / HTTP/1.0\r\n\r\n", 0, true, "", 0 },
        { "\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0, true, "", 0 },
        { "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n", 0, true, "", 19 },
        { "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET", 0, true, "abc", 3 },
        { "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 0, false, "ab", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n"
          "\r\n",
          0, true, "abcde", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
          0, true,
          "abc", 0 },
        { "POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
          "Content-Length: 2\r\n\r\nhi", 0, true, "hi", 0 },
        { "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0, true, "", 0 },
        /* ambiguous or broken */
        { "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
          400, false,
          "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
          400, false,
          "", 0 },
        { "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, false, "",
          0 },
        { "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, false, "", 0 },
        /* where another reader could see another end */
        { "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, false, "",
          0 },
        { "GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", 400, false, "", 0 },
        { "GET / HTTP/1.1\r\nA: b\n c\r\n\r\n", 400, false, "", 0 },
        { "GET / HTTP/1.1\r\n A: b\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
          "0\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
          "0\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, false, "",
          0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi", 400,
          false, "", 0 },
        { "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
          "0\r\n\r\n", 400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
          400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
          400, false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400, false,
          "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcxy0\r\n\r\n", 400, false,
          "abc", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 400, false,
          "abc", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: a\r\n b\r\n\r\n", 400,
          false, "", 0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: a\n\r\n", 400, false, "",
          0 },
        { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\rx3\r\nabc\r\n0\r\n\r\n",
          400, false, "", 0 },
        { "GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", 400, false, "", 0 },
        /* and where they agree */
        { "POST / HTTP/1.1\r\ntransfer-encoding:\tChunked \r\n\r\n2\r\n\r\n\r\n3\r\n \n \r\n"
          "0\r\n\r\nGET", 0, true, "\r\n \n ", 3 },
        { "GET / HTTP/1.1\nHost: x\n\n", 0, true, "", 0 },
        { "nonsense\r\n\r\n", 400, false, "", 0 },
        { "\x16\x03\x01\x02", 400, false, "", 0 },
        { "GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400, false, "", 0 },
        { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, false, "", 0 },
        /* limits */
        { "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", 0, false, "", 0 },
        { "POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413, false, "", 0 },
        { "POST / HTTP/1.1\r\nExpect: 200-maybe\r\nContent-Length: 1\r\n\r\n", 417, false, "", 0 },
        { "CONNECT a:1 HTTP/1.1\r\n\r\n", 405, false, "", 0 },
};

static void check_row(const struct row *row, size_t step) {
        struct request r;
        size_t n = strlen(row->text), used = feed(&r, row->text, n, step);

        if (r.status != row->status || r.complete != row->complete)
                print_message("step %zu: %s\n", step, row->text);
        assert_int_equal(r.status, row->status);
        assert_int_equal(r.complete, row->complete);
        if (row->status == 0) {
                assert_int_equal(r.body.n, strlen(row->body));
                assert_memory_equal(r.body.p ? r.body.p : "", row->body, r.body.n);
        }
        if (row->complete)
                assert_int_equal(n - used, row->rest);
        request_done(&r);
}

static void test_rows(void **state) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                for (size_t step = 1; step < 64; step += step < 4 ? 1 : 7)
                        check_row(&rows[i], step);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                check_row(&rows[i], SIZE_MAX);
}

static void check_long(size_t header_bytes, unsigned status) {
        char *text = malloc(header_bytes + 64);
        struct request r;
        int n = sprintf(text, "GET / HTTP/1.1\r\nA: ");

        memset(text + n, 'a', header_bytes);
        strcpy(text + n + (int)header_bytes, "\r\n\r\n");
        feed(&r, text, strlen(text), 4096);
        assert_int_equal(r.status, status);
        assert_int_equal(r.complete, status == 0);
        request_done(&r);
        free(text);
}

static void test_header_limit(void **state) {
        check_long(REQUEST_HEADER_MAX - 100, 0);
        check_long(REQUEST_HEADER_MAX + 1, 431);
        check_long(10 * REQUEST_HEADER_MAX, 431);
}

static void test_chunked_limit(void **state) {
        static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        char chunk[600];
        struct request r;
        int n = sprintf(chunk, "200\r\n");

        memset(chunk + n, 'x', 512);
        strcpy(chunk + n + 512, "\r\n");
        request_init(&r, BODY_MAX);
        request_feed(&r, head, strlen(head));
        request_feed(&r, chunk, (size_t)n + 514);
        assert_int_equal(r.status, 0);
        request_feed(&r, chunk, (size_t)n + 514);
        assert_int_equal(r.status, 413);
        assert_true(r.body.n <= BODY_MAX);
        request_done(&r);
}

static void test_headers(void **state) {
        static const char text[] = "POST /a%2Fb/c?x=1&type=key%2Dpoints&empty=&s=a+b#f HTTP/1.1\r\n"
                                   "content-type: Text/Plain; charset=utf-8\r\n"
                                   "ACCEPT: text/plain, */*\r\nExpect: 100-Continue\r\n"
                                   "Connection: close\r\nContent-Length: 0\r\n\r\n";
        struct request r;
        char value[32];

        feed(&r, text, strlen(text), 5);
        assert_true(r.complete);
        assert_true(r.expect_continue);
        assert_false(request_keep_alive(&r));
        assert_string_equal(r.content_type, "text/plain");
        assert_true(request_accepts_first(&r, "text/plain"));
        assert_false(request_accepts_first(&r, "text"));
        assert_int_equal(request_path(&r, value, sizeof(value)), 0);
        assert_string_equal(value, "/a/b/c");
        assert_int_equal(request_query(&r, "type", value, sizeof(value)), 1);
        assert_string_equal(value, "key-points");
        assert_int_equal(request_query(&r, "s", value, sizeof(value)), 1);
        assert_string_equal(value, "a b");
        assert_int_equal(request_query(&r, "typ", value, sizeof(value)), 0);
        assert_int_equal(request_query(&r, "type", value, 4), -EINVAL);
        request_done(&r);
}

static void test_query_names(void **state) {
        static const char *const names[] = { "a", "bc", "d", "%65" };
        const char text[] = "GET /x?a=1&&bc=a=b&d&%65=&&#e=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        struct request r;
        const char *p;
        size_t at = 0, n;

        request_init(&r, 100);
        feed(&r, text, strlen(text), 7);
        assert_true(r.complete);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_true(request_query_name(&r, &at, &p, &n));
                assert_int_equal(n, strlen(names[i]));
                assert_memory_equal(p, names[i], n);
        }
        assert_false(request_query_name(&r, &at, &p, &n));
        assert_false(request_query_name(&r, &at, &p, &n));
        request_done(&r);
}

static void test_targets(void **state) {
        static const struct {
                const char *target, *path;
        } targets[] = {
                { "/v1/models", "/v1/models" }, { "http://localhost/v1/models", "/v1/models" },
                { "http://localhost:1/x?y", "/x" }, { "/%00", NULL }, { "/%zz", NULL },
                { "/%4", NULL },
        };
        char text[128], path[64];

        for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
                struct request r;

                snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n\r\n", targets[i].target);
                feed(&r, text, strlen(text), SIZE_MAX);
                assert_true(r.complete);
                assert_int_equal(request_path(&r, path, sizeof(path)),
                                 targets[i].path ? 0 : -EINVAL);
                if (targets[i].path)
                        assert_string_equal(path, targets[i].path);
                request_done(&r);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),          cmocka_unit_test(test_header_limit),
                cmocka_unit_test(test_chunked_limit), cmocka_unit_test(test_headers),
                cmocka_unit_test(test_query_names),
                cmocka_unit_test(test_targets),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
