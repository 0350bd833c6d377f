/* POST /v1/summarize: the body is the document, the options are in the query. Whatever the answer's
 * shape, it carries the coverage record, so that nobody takes a part for the whole. Streams are
 * events with names: progress, delta, done, error. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/api_document.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "daemon/worker/summary_options.h"
#include "daemon/worker/words.h"
#include "daemon/wire/frame.h"
#include "engine/base/macro.h"

enum { QUERY_VALUE_MAX = 1024 };

static const char *const types[] = { "tldr", "teaser", "key-points", "headline", NULL };
static const char *const lengths[] = { "short", "medium", "long", NULL };
static const char *const formats[] = { "plain-text", "markdown", NULL };

const char *summary_type_name(uint32_t type) { return types[type]; }
const char *summary_length_name(uint32_t length) { return lengths[length]; }
const char *summary_format_name(uint32_t format) { return formats[format]; }

static int summary_type(const char *name) {
        return find_word(types, name);
}

static int summary_length(const char *name) {
        return find_word(lengths, name);
}

static int summary_format(const char *name) {
        return find_word(formats, name);
}

static void end(struct exchange *x, const struct job_result *r) {
        char id[32];
        json_t *v = json_pack("{s:o,s:o,s:s,s:s,s:s}", "coverage",
                              result_coverage(x->verb, &r->coverage), "usage", result_usage(r),
                              "model", x->model, "job", exchange_id(x, id, sizeof(id)),
                              "finish_reason", result_finish(r));

        reply_event(x->conn, "done", result_own(v, r));
}

static void whole(struct exchange *x, const struct job_result *r) {
        char id[32];
        json_t *v;

        if (x->bare) {
                document_bare(x, r);
                return;
        }
        v = json_pack("{s:s%,s:o,s:o,s:s,s:s,s:s}", "summary", x->text.p ? x->text.p : "",
                      x->text.n, "coverage", result_coverage(x->verb, &r->coverage), "usage",
                      result_usage(r), "model", x->model, "job", exchange_id(x, id, sizeof(id)),
                      "finish_reason", result_finish(r));
        reply_json(x->conn, 200, result_own(v, r), job_id(x->job));
}

static const struct exchange_format format = {
        .id_prefix = "", .text = document_text, .progress = document_progress, .end = end,
        .whole = whole, .trailer = document_coverage, .trailer_names = DOCUMENT_TRAILER_NAMES,
        .error_event = "error",
};

static int parse_context(struct conn *c, struct job_spec *spec, struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf value = {};
        char *p = secure_buf_reserve(&value, QUERY_VALUE_MAX);
        int r;

        if (!p)
                return -ENOMEM;
        value.n = QUERY_VALUE_MAX;
        r = query_option(c, "context", p, QUERY_VALUE_MAX, e);
        if (r <= 0)
                return r;
        if (text_valid_prefix(p, strlen(p)) != strlen(p))
                return request_fail(e, ERROR_INVALID_INPUT, "context", "The text is not UTF-8.");
        spec->context = strdup(p);
        return spec->context ? 0 : -ENOMEM;
}

static int parse_receipt(struct conn *c, bool bare, struct job_spec *spec,
                         struct request_error *e) {
        int r = query_flag(c, "receipt", &spec->params.receipt, e);

        if (r == 0 && bare && spec->params.receipt)
                return request_fail(e, ERROR_UNSUPPORTED, "receipt",
                                    "Bare text has no place for a receipt.");
        return r;
}

void api_summarize(struct conn *c) {
        static const char *const names[] = { "type", "length", "format", "context", "receipt",
                                             "max_tokens" };
        _cleanup_(job_spec_done) struct job_spec spec;
        bool bare = request_accepts_first(&c->request, "text/plain");
        struct request_error e = {};
        int r;

        api_defaults(c, &spec, WIRE_VERB_SUMMARIZE);
        if ((r = query_check_type(c, &e)) < 0 ||
            (r = query_check_names(c, names, ARRAY_SIZE(names), &e)) < 0 ||
            (r = query_word(c, "type", summary_type, &spec.type, &e)) < 0 ||
            (r = query_word(c, "length", summary_length, &spec.length, &e)) < 0 ||
            (r = query_word(c, "format", summary_format, &spec.format, &e)) < 0 ||
            (r = query_common(c, &spec, &e)) < 0 ||
            (r = parse_receipt(c, bare, &spec, &e)) < 0 ||
            (r = query_max_tokens(c, &spec, &e)) < 0 ||
            (r = parse_context(c, &spec, &e)) < 0 || (r = query_document(c, &spec, &e)) < 0) {
                reply_failure(c, &e);
                return;
        }
        exchange_start(c, &format, &spec, bare);
}
