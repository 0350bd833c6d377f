/* Options of a request whose body is a document: POST /v1/summarize and the verbs of api_task.c.
 * What stands in the query is short and checked here, by name; the body is taken over as the text
 * of the job. And what such answers share: their events, and the coverage record. Nothing is owned
 * here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/wire/frame.h"
#include "daemon/worker/api_document.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "daemon/worker/words.h"
#include "engine/base/macro.h"

static int job_priority(const char *name) {
        static const char *const names[] = { "interactive", "background", NULL };

        return find_word(names, name);
}

int query_option(struct conn *c, const char *name, char *value, size_t size,
                 struct request_error *e) {
        int r = request_query(&c->request, name, value, size);

        if (r == -EINVAL)
                return request_fail(e, ERROR_INVALID_INPUT, name,
                                    "The query value is too long or badly escaped.");
        return r;
}

static bool among(const char *const *names, size_t n, const char *p, size_t size) {
        for (size_t i = 0; i < n; i++)
                if (strlen(names[i]) == size && memcmp(names[i], p, size) == 0)
                        return true;
        return false;
}

/* It is named if it looks like a name. */
static int refuse_name(const char *p, size_t n, struct request_error *e) {
        char name[32] = "";
        bool is_name;

        memcpy(name, p, MIN(n, sizeof(name) - 1));
        is_name = n > 0 && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == n;
        return request_fail(e, ERROR_UNSUPPORTED, is_name ? name : "query",
                            "The query has no such option here.");
}

int query_check_names(struct conn *c, const char *const *names, size_t n,
                      struct request_error *e) {
        static const char *const common[] = { "model", "stream", "deadline_ms", "priority" };
        const char *p;
        size_t at = 0, size;

        while (request_query_name(&c->request, &at, &p, &size))
                if (!among(common, ARRAY_SIZE(common), p, size) && !among(names, n, p, size))
                        return refuse_name(p, size, e);
        return 0;
}

int query_word(struct conn *c, const char *name, int (*number)(const char *), uint32_t *ret,
               struct request_error *e) {
        char value[32];
        int r = query_option(c, name, value, sizeof(value), e);

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
        int r = query_option(c, "model", value, sizeof(value), e);

        if (r <= 0)
                return r;
        if (value[0] == '\0' || strcmp(value, "default") == 0)
                return 0;
        if (!wire_name_valid(value))
                return request_fail(e, ERROR_MODEL_NOT_FOUND, "model", NULL);
        memcpy(spec->model, value, sizeof(value));
        return 0;
}

int query_flag(struct conn *c, const char *name, bool *ret, struct request_error *e) {
        char value[8];
        int r = query_option(c, name, value, sizeof(value), e);

        if (r <= 0)
                return r;
        *ret = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
        if (!*ret && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
                return request_fail(e, ERROR_INVALID_INPUT, name, "The value is true or false.");
        return 0;
}

int query_max_tokens(struct conn *c, struct job_spec *spec, struct request_error *e) {
        char value[16], *end;
        unsigned long n;
        int r = query_option(c, "max_tokens", value, sizeof(value), e);

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
        int r = query_option(c, "deadline_ms", value, sizeof(value), e);

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

int query_common(struct conn *c, struct job_spec *spec, struct request_error *e) {
        int r;

        if ((r = parse_model(c, spec, e)) < 0 ||
            (r = query_flag(c, "stream", &spec->params.stream, e)) < 0 ||
            (r = parse_deadline(c, spec, e)) < 0)
                return r;
        return query_word(c, "priority", job_priority, &spec->params.priority, e);
}

int query_check_type(struct conn *c, struct request_error *e) {
        /* the last one is what curl says when it is told nothing */
        static const char *const types[] = { "", "text/plain", "text/markdown",
                                             "application/x-www-form-urlencoded" };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (strcmp(c->request.content_type, types[i]) == 0)
                        return 0;
        return request_fail(e, ERROR_INVALID_INPUT, "content-type",
                            "The document is text/plain or text/markdown.");
}

int query_document(struct conn *c, struct job_spec *spec, struct request_error *e) {
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

void document_progress(struct exchange *x, const struct job_progress *p) {
        if (p->stage)
                reply_event(x->conn, "progress",
                            json_pack("{s:s,s:I,s:I,s:I,s:I}", "stage", p->stage, "piece",
                                      (json_int_t)p->piece, "pieces", (json_int_t)p->pieces,
                                      "tokens_read", (json_int_t)p->tokens_read, "tokens_in",
                                      (json_int_t)p->tokens_in));
}

void document_text(struct exchange *x, const char *p, size_t n) {
        reply_event(x->conn, "delta", json_pack("{s:s%}", "text", p, n));
}

/* Of bare text: header lines, or after a stream trailer lines. */
void document_coverage(const struct job_result *r, char *lines, size_t size) {
        const struct coverage *v = &r->coverage;

        snprintf(lines, size,
                 "x-bitnetd-bytes: %" PRIu64 "\r\nx-bitnetd-tokens: %" PRIu64
                 "\r\nx-bitnetd-tokens-used: %" PRIu64 "\r\nx-bitnetd-dropped: %" PRIu64
                 "\r\nx-bitnetd-pieces: %u\r\nx-bitnetd-rounds: %u\r\nx-bitnetd-left: %u"
                 "\r\nx-bitnetd-finish: %s\r\n",
                 v->bytes, v->tokens, v->tokens_used, v->dropped, v->pieces, v->rounds, v->left,
                 result_finish(r));
}

void document_bare(struct exchange *x, const struct job_result *r) {
        char extra[512];

        document_coverage(r, extra, sizeof(extra));
        reply_text(x->conn, x->text.p ? x->text.p : "", x->text.n, extra, job_id(x->job));
}
