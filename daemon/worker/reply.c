/* Puts answers into a connection's output. Decides per answer whether the connection survives it:
 * after a refusal that left unread body bytes, after HTTP/1.0 streams and when the client asked,
 * it does not. A HEAD request gets the same head and no body. */
#include <stdio.h>
#include <string.h>

#include "daemon/worker/http.h"
#include "daemon/worker/refusals.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/user.h"

static bool must_close(const struct conn *c) {
        return c->shutting_down || c->eof || !request_keep_alive(&c->request);
}

static bool http11(const struct conn *c) {
        return c->request.parser.http_major > 1 ||
               (c->request.parser.http_major == 1 && c->request.parser.http_minor >= 1);
}

static void head(struct conn *c, struct http_head *h) {
        h->conn = c->id;
        h->nth = ++c->answers;
        h->rates = &c->user->rates;
        h->now = c->w->now;
        http_head(&c->out, h);
}

static void whole(struct conn *c, struct http_head *h, const struct secure_buf *body) {
        bool close = must_close(c);

        h->close = close;
        h->length = body->n;
        head(c, h);
        if (c->request.parser.method != HTTP_HEAD)
                secure_buf_append(&c->out, body->p, body->n);
        if (body->failed)
                c->out.failed = true;
        conn_answered(c, close);
}

static void whole_json(struct conn *c, struct http_head *h, json_t *body) {
        struct secure_buf text = {};

        http_json(&text, body);
        json_decref(body);
        h->content_type = "application/json";
        whole(c, h, &text);
        secure_buf_done(&text);
}

void reply_json(struct conn *c, unsigned status, json_t *body, uint64_t job) {
        struct http_head h = { .status = status, .job = job, .should_retry = -1 };

        whole_json(c, &h, body);
}

void reply_json_text(struct conn *c, const struct secure_buf *body, uint64_t job) {
        struct http_head h = { .status = 200, .content_type = "application/json", .job = job,
                               .should_retry = -1 };

        whole(c, &h, body);
}

void reply_text(struct conn *c, const char *text, size_t n, const char *extra, uint64_t job) {
        struct http_head h = { .status = 200, .content_type = "text/plain; charset=utf-8",
                               .job = job, .should_retry = -1, .extra = extra };
        struct secure_buf body = {};

        secure_buf_append(&body, text, n);
        whole(c, &h, &body);
        secure_buf_done(&body);
}

/* Clients repeat 408, 429 and 5xx by themselves; tell them when that cannot help soon. */
static int should_retry(unsigned status, const struct request_error *e) {
        if (status != 408 && status != 429 && status < 500)
                return -1;
        return e->retry_after_ms != 0 && !error_row(e->code)->hold;
}

json_t *reply_error_json(const struct conn *c, const struct request_error *e) {
        json_t *body = http_error_json(e), *message;

        if (!c->plain_errors)
                return body;
        message = json_incref(json_object_get(json_object_get(body, "error"), "message"));
        json_decref(body);
        return json_pack("{s:o}", "error", message);
}

void reply_error(struct conn *c, const struct request_error *e, uint64_t job) {
        unsigned status = http_error_status(e);
        struct http_head h = { .status = status, .job = job,
                               .retry_after_ms = e->retry_after_ms,
                               .should_retry = should_retry(status, e) };

        refusals_add(c->w, e, job);
        whole_json(c, &h, reply_error_json(c, e));
}

void reply_memory(struct conn *c) {
        struct request_error e = { .code = ERROR_OVERLOADED, .retry_after_ms = 1000 };

        reply_error(c, &e, 0);
}

void reply_failure(struct conn *c, const struct request_error *e) {
        if (e->code == ERROR_NONE)
                reply_memory(c);
        else
                reply_error(c, e, 0);
}

static const char *allow_header(const char *allow, char *line, size_t size) {
        snprintf(line, size, "Allow: %s\r\n", allow);
        return line;
}

void reply_allow(struct conn *c, const char *allow) {
        char line[64];
        struct http_head h = { .status = 204, .should_retry = -1,
                               .extra = allow_header(allow, line, sizeof(line)) };
        struct secure_buf none = {};

        whole(c, &h, &none);
}

void reply_method(struct conn *c, const char *allow) {
        char line[64];
        struct request_error e = { .code = ERROR_METHOD };
        struct http_head h = { .status = http_error_status(&e), .should_retry = -1,
                               .extra = allow_header(allow, line, sizeof(line)) };

        refusals_add(c->w, &e, 0);
        whole_json(c, &h, reply_error_json(c, &e));
}

void reply_plain_error(struct conn *c, unsigned status, const char *detail) {
        struct http_head h = { .status = status, .should_retry = -1 };
        struct request_error e = { .code = status == 413 ? ERROR_INPUT_TOO_LARGE
                                                         : ERROR_INVALID_INPUT };

        refusals_add(c->w, &e, 0);
        if (status == 413) {
                e.value = c->request.parser.content_length;
                e.limit = c->request.max_body;
                if (e.value == UINT64_MAX || e.value <= e.limit)
                        e.value = c->request.max_body + 1; /* chunked: at least this many */
                whole_json(c, &h, http_error_json(&e));
        } else {
                whole_json(c, &h, http_plain_error_json(status, detail));
        }
}

void reply_stream(struct conn *c, const char *content_type, const char *extra, uint64_t job) {
        struct http_head h = { .status = 200, .content_type = content_type, .stream = true,
                               .chunked = http11(c), .job = job, .should_retry = -1,
                               .extra = http11(c) ? extra : NULL };

        h.close = must_close(c) || !h.chunked;
        head(c, &h);
}

void reply_bytes(struct conn *c, const char *p, size_t n) {
        if (n == 0)
                return;
        if (http11(c))
                http_chunk(&c->out, p, n);
        else
                secure_buf_append(&c->out, p, n);
}

void reply_event(struct conn *c, const char *event, json_t *data) {
        struct secure_buf text = {};

        if (event)
                secure_buf_printf(&text, "event: %s\n", event);
        secure_buf_puts(&text, "data: ");
        http_json(&text, data);
        json_decref(data);
        secure_buf_puts(&text, "\n\n");
        if (text.failed)
                c->out.failed = true;
        else
                reply_bytes(c, text.p, text.n);
        secure_buf_done(&text);
}

void reply_line(struct conn *c, json_t *data) {
        struct secure_buf text = {};

        http_json(&text, data);
        json_decref(data);
        secure_buf_puts(&text, "\n");
        if (text.failed)
                c->out.failed = true;
        else
                reply_bytes(c, text.p, text.n);
        secure_buf_done(&text);
}

void reply_stream_end(struct conn *c, const char *trailer, bool ok, bool truncate) {
        if (http11(c) && !truncate)
                http_last_chunk(&c->out, trailer);
        conn_answered(c, !ok || must_close(c) || !http11(c));
}
