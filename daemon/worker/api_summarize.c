/* POST /v1/summarize: the body is the document, the options are in the query. Whatever the answer's
 * shape, it carries the coverage record, so that nobody takes a part for the whole. Streams are
 * events with names: progress, delta, done, error. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "daemon/worker/summary_options.h"
#include "daemon/wire/frame.h"
#include "engine/base/macro.h"

enum { QUERY_VALUE_MAX = 1024 };

static int find_name(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(names[i], name) == 0)
                        return (int)i;
        return -EINVAL;
}

int summary_type(const char *name) {
        static const char *const names[] = { "tldr", "teaser", "key-points", "headline" };

        return find_name(names, ARRAY_SIZE(names), name);
}

int summary_length(const char *name) {
        static const char *const names[] = { "short", "medium", "long" };

        return find_name(names, ARRAY_SIZE(names), name);
}

int summary_format(const char *name) {
        static const char *const names[] = { "plain-text", "markdown" };

        return find_name(names, ARRAY_SIZE(names), name);
}

static int job_priority(const char *name) {
        static const char *const names[] = { "interactive", "background" };

        return find_name(names, ARRAY_SIZE(names), name);
}

static void progress(struct exchange *x, const struct job_progress *p) {
        if (p->stage)
                reply_event(x->conn, "progress",
                            json_pack("{s:s,s:I,s:I,s:I,s:I}", "stage", p->stage, "piece",
                                      (json_int_t)p->piece, "pieces", (json_int_t)p->pieces,
                                      "tokens_read", (json_int_t)p->tokens_read, "tokens_in",
                                      (json_int_t)p->tokens_in));
}

static void text(struct exchange *x, const char *p, size_t n) {
        reply_event(x->conn, "delta", json_pack("{s:s%}", "text", p, n));
}

static void end(struct exchange *x, const struct job_result *r) {
        char id[32];

        reply_event(x->conn, "done",
                    json_pack("{s:o,s:o,s:s,s:s,s:s}", "coverage", result_coverage(&r->coverage),
                              "usage", result_usage(r), "model", x->model, "job",
                              exchange_id(x, id, sizeof(id)), "finish_reason",
                              r->length ? "length" : "stop"));
}

static const char trailer_names[] =
        "Trailer: x-bitnetd-bytes, x-bitnetd-tokens, x-bitnetd-tokens-used, x-bitnetd-dropped, "
        "x-bitnetd-pieces, x-bitnetd-rounds\r\n";

/* The coverage record of bare text: header lines, or after a stream trailer lines. */
static void coverage_lines(const struct job_result *r, char *lines, size_t size) {
        const struct coverage *v = &r->coverage;

        snprintf(lines, size,
                 "x-bitnetd-bytes: %" PRIu64 "\r\nx-bitnetd-tokens: %" PRIu64
                 "\r\nx-bitnetd-tokens-used: %" PRIu64 "\r\nx-bitnetd-dropped: %" PRIu64
                 "\r\nx-bitnetd-pieces: %u\r\nx-bitnetd-rounds: %u\r\n",
                 v->bytes, v->tokens, v->tokens_used, v->dropped, v->pieces, v->rounds);
}

static void whole_bare(struct exchange *x, const struct job_result *r) {
        char extra[512];

        coverage_lines(r, extra, sizeof(extra));
        reply_text(x->conn, x->text.p ? x->text.p : "", x->text.n, extra, job_id(x->job));
}

static void whole(struct exchange *x, const struct job_result *r) {
        char id[32];

        if (x->bare) {
                whole_bare(x, r);
                return;
        }
        reply_json(x->conn, 200,
                   json_pack("{s:s%,s:o,s:o,s:s,s:s,s:s}", "summary", x->text.p ? x->text.p : "",
                             x->text.n, "coverage", result_coverage(&r->coverage), "usage",
                             result_usage(r), "model", x->model, "job",
                             exchange_id(x, id, sizeof(id)), "finish_reason",
                             r->length ? "length" : "stop"),
                   job_id(x->job));
}

static const struct exchange_format format = {
        .id_prefix = "", .text = text, .progress = progress, .end = end, .whole = whole,
        .trailer = coverage_lines, .trailer_names = trailer_names, .error_event = "error",
};

/* One option of the query: 1 with the value, 0 absent, -EBADMSG with *e. */
static int option(struct conn *c, const char *name, char *value, size_t size,
                  struct request_error *e) {
        int r = request_query(&c->request, name, value, size);

        if (r == -EINVAL)
                return request_fail(e, ERROR_INVALID_INPUT, name,
                                    "The query value is too long or badly escaped.");
        return r;
}

static int named_option(struct conn *c, const char *name, int (*number)(const char *),
                        uint32_t *ret, struct request_error *e) {
        char value[32];
        int r = option(c, name, value, sizeof(value), e);

        if (r <= 0)
                return r;
        r = number(value);
        if (r < 0)
                return request_fail(e, ERROR_INVALID_INPUT, name, "There is no such value.");
        *ret = (uint32_t)r;
        return 0;
}

static int parse_model(struct conn *c, struct job_spec *spec, struct request_error *e) {
        char value[WIRE_NAME_MAX];
        int r = option(c, "model", value, sizeof(value), e);

        if (r <= 0)
                return r;
        if (value[0] == '\0' || strcmp(value, "default") == 0)
                return 0;
        if (!wire_name_valid(value))
                return request_fail(e, ERROR_MODEL_NOT_FOUND, "model", NULL);
        memcpy(spec->model, value, sizeof(value));
        return 0;
}

static int parse_stream(struct conn *c, struct job_spec *spec, struct request_error *e) {
        char value[8];
        int r = option(c, "stream", value, sizeof(value), e);

        if (r <= 0)
                return r;
        spec->params.stream = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
        if (!spec->params.stream && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
                return request_fail(e, ERROR_INVALID_INPUT, "stream",
                                    "The value is true or false.");
        return 0;
}

static int parse_max_tokens(struct conn *c, struct job_spec *spec, struct request_error *e) {
        char value[16], *end;
        unsigned long n;
        int r = option(c, "max_tokens", value, sizeof(value), e);

        if (r <= 0)
                return r;
        n = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > 16777216)
                return request_fail(e, ERROR_INVALID_INPUT, "max_tokens",
                                    "The number must be whole, 1 to 16777216.");
        spec->params.max_tokens = (uint32_t)n;
        return 0;
}

static int parse_deadline(struct conn *c, struct job_spec *spec, struct request_error *e) {
        char value[16], *end;
        unsigned long ms;
        int r = option(c, "deadline_ms", value, sizeof(value), e);

        if (r <= 0)
                return r;
        ms = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || ms < 1 ||
            ms > LIMIT_DEADLINE_USEC / USEC_PER_MSEC)
                return request_fail_range(e, ERROR_INVALID_INPUT, "deadline_ms",
                                          "The deadline must be a number of milliseconds.", 0,
                                          LIMIT_DEADLINE_USEC / USEC_PER_MSEC);
        spec->params.deadline_usec = ms * USEC_PER_MSEC;
        return 0;
}

static int parse_context(struct conn *c, struct job_spec *spec, struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf value = {};
        char *p = secure_buf_reserve(&value, QUERY_VALUE_MAX);
        int r;

        if (!p)
                return -ENOMEM;
        value.n = QUERY_VALUE_MAX;
        r = option(c, "context", p, QUERY_VALUE_MAX, e);
        if (r <= 0)
                return r;
        if (text_valid_prefix(p, strlen(p)) != strlen(p))
                return request_fail(e, ERROR_INVALID_INPUT, "context", "The text is not UTF-8.");
        spec->context = strdup(p);
        return spec->context ? 0 : -ENOMEM;
}

static int check_content_type(struct conn *c, struct request_error *e) {
        /* the last one is what curl says when it is told nothing */
        static const char *const types[] = { "", "text/plain", "text/markdown",
                                             "application/x-www-form-urlencoded" };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (strcmp(c->request.content_type, types[i]) == 0)
                        return 0;
        return request_fail(e, ERROR_INVALID_INPUT, "content-type",
                            "The document is text/plain or text/markdown.");
}

static int take_document(struct conn *c, struct job_spec *spec, struct request_error *e) {
        struct secure_buf *body = &c->request.body;
        size_t valid = body->n ? text_valid_prefix(body->p, body->n) : 0;

        if (body->n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "body", "The document is empty.");
        if (valid != body->n)
                return request_fail_range(e, ERROR_INVALID_INPUT, "body",
                                          "The document is not UTF-8; the value is the byte, the "
                                          "limit the size.",
                                          valid, body->n);
        spec->text = *body;
        *body = (struct secure_buf){};
        return 0;
}

void api_summarize(struct conn *c) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        int r;

        api_defaults(c, &spec, WIRE_VERB_SUMMARIZE);
        if ((r = check_content_type(c, &e)) < 0 ||
            (r = named_option(c, "type", summary_type, &spec.type, &e)) < 0 ||
            (r = named_option(c, "length", summary_length, &spec.length, &e)) < 0 ||
            (r = named_option(c, "format", summary_format, &spec.format, &e)) < 0 ||
            (r = parse_model(c, &spec, &e)) < 0 || (r = parse_stream(c, &spec, &e)) < 0 ||
            (r = parse_max_tokens(c, &spec, &e)) < 0 || (r = parse_deadline(c, &spec, &e)) < 0 ||
            (r = named_option(c, "priority", job_priority, &spec.params.priority, &e)) < 0 ||
            (r = parse_context(c, &spec, &e)) < 0 || (r = take_document(c, &spec, &e)) < 0) {
                if (r == -ENOMEM)
                        reply_memory(c);
                else
                        reply_error(c, &e, 0);
                return;
        }
        exchange_start(c, &format, &spec, request_accepts_first(&c->request, "text/plain"));
}
