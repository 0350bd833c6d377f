/* Answers as bytes. The Date header uses gmtime_r only (no locale, no file: tzset ran before the
 * sandbox closed). Nothing here keeps state. */
#include <errno.h>
#include <http_parser.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/http.h"
#include "engine/base/macro.h"

static const char *status_text(unsigned status) {
        return status == 499 ? "Client Closed Request" : http_status_str((enum http_status)status);
}

static void add_date(struct secure_buf *out) {
        static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
        static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        time_t now = time(NULL);
        struct tm tm;

        if (!gmtime_r(&now, &tm))
                return;
        secure_buf_printf(out, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
                          tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                          tm.tm_sec);
}

void http_head(struct secure_buf *out, const struct http_head *h) {
        secure_buf_printf(out, "HTTP/1.1 %u %s\r\n", h->status, status_text(h->status));
        add_date(out);
        if (h->content_type)
                secure_buf_printf(out, "Content-Type: %s\r\n", h->content_type);
        if (h->stream)
                secure_buf_puts(out, "Cache-Control: no-cache\r\n");
        if (h->stream && h->chunked)
                secure_buf_puts(out, "Transfer-Encoding: chunked\r\n");
        else if (!h->stream && h->status != 204)
                secure_buf_printf(out, "Content-Length: %zu\r\n", h->length);
        if (h->job != 0)
                secure_buf_printf(out, "x-request-id: %" PRIu64 "\r\n", h->job);
        else if (h->nth != 0)
                secure_buf_printf(out, "x-request-id: conn-%" PRIu64 "-%" PRIu64 "\r\n", h->conn,
                                  h->nth);
        if (h->retry_after_ms != 0)
                secure_buf_printf(out, "Retry-After: %u\r\nretry-after-ms: %u\r\n",
                                  h->retry_after_ms / 1000 + (h->retry_after_ms % 1000 != 0),
                                  h->retry_after_ms);
        if (h->should_retry >= 0)
                secure_buf_printf(out, "x-should-retry: %s\r\n",
                                  h->should_retry ? "true" : "false");
        if (h->rates)
                rates_headers(h->rates, h->now, out);
        if (h->extra)
                secure_buf_puts(out, h->extra);
        secure_buf_printf(out, "Connection: %s\r\n\r\n", h->close ? "close" : "keep-alive");
}

void http_chunk(struct secure_buf *out, const char *p, size_t n) {
        secure_buf_printf(out, "%zx\r\n", n);
        secure_buf_append(out, p, n);
        secure_buf_puts(out, "\r\n");
}

void http_last_chunk(struct secure_buf *out, const char *trailer) {
        secure_buf_puts(out, "0\r\n");
        secure_buf_puts(out, trailer);
        secure_buf_puts(out, "\r\n");
}

static json_t *error_object(const char *message, const char *type, const char *param,
                            const char *code) {
        json_t *param_value = param && param[0] ? json_string(param) : json_null();

        return json_pack("{s:s,s:s,s:o,s:s}", "message", message, "type", type, "param",
                         param_value, "code", code);
}

unsigned http_error_status(const struct request_error *e) {
        return error_row(e->code)->http_status;
}

json_t *http_error_json(const struct request_error *e) {
        const struct error_row *row = error_row(e->code);
        char text[256], message[512];
        json_t *error;

        error_format(&(struct refusal){ .code = e->code, .value = e->value, .limit = e->limit,
                                        .retry_after_ms = e->retry_after_ms },
                     text, sizeof(text));
        snprintf(message, sizeof(message), "%s%s%s", text, e->detail ? " " : "",
                 e->detail ? e->detail : "");
        error = error_object(message, row->http_type, e->param, row->http_code);
        if (error && (e->value != 0 || e->limit != 0)) {
                bool context = e->code == ERROR_CONTEXT_TOO_LONG;

                json_object_set_new(error, context ? "n_prompt_tokens" : "value",
                                    json_integer((json_int_t)e->value));
                json_object_set_new(error, context ? "n_ctx" : "limit",
                                    json_integer((json_int_t)e->limit));
        }
        return json_pack("{s:o}", "error", error);
}

json_t *http_plain_error_json(unsigned status, const char *detail) {
        static const struct {
                unsigned status;
                const char *code;
        } codes[] = { { 405, "method_not_allowed" }, { 408, "request_timeout" },
                      { 417, "expectation_failed" }, { 431, "headers_too_large" },
                      { 503, "overloaded" } };
        const char *code = "bad_request";

        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
                if (codes[i].status == status)
                        code = codes[i].code;
        return json_pack("{s:o}", "error",
                         error_object(detail ? detail : status_text(status),
                                      status == 503 ? "overloaded" : "invalid_request_error", NULL,
                                      code));
}

static int append_json(const char *p, size_t n, void *userdata) {
        struct secure_buf *out = userdata;

        secure_buf_append(out, p, n);
        return out->failed ? -1 : 0;
}

void http_json(struct secure_buf *out, const json_t *v) {
        if (!v || json_dump_callback(v, append_json, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
                out->failed = true;
}
