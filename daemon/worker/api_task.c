/* POST /v1/rewrite, /v1/proofread, /v1/extract and /v1/classify. The body is the text, with the
 * options in the query, or a JSON object with "text" and the options beside it (a schema only
 * there). Events of streams as those of summaries; a correction has an event of its own. An extract
 * is passed on as the model wrote it: reading it as numbers and writing it again could change them.
 */
#include <errno.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/api_document.h"
#include "daemon/worker/http.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

enum { QUERY_VALUE_MAX = 4096 };

/* What ends every answer, added to an object. */
static void add_end(struct exchange *x, const struct job_result *r, json_t *to) {
        char id[32];

        if (task_rewrites(x->verb))
                json_object_set_new(to, "coverage", result_coverage(x->verb, &r->coverage));
        json_object_set_new(to, "usage", result_usage(r));
        json_object_set_new(to, "model", json_string(x->model));
        json_object_set_new(to, "job", json_string(exchange_id(x, id, sizeof(id))));
        json_object_set_new(to, "finish_reason", json_string(result_finish(r)));
}

static void end(struct exchange *x, const struct job_result *r) {
        json_t *v = json_object();

        add_end(x, r, v);
        reply_event(x->conn, "done", v);
}

static void correction(struct exchange *x, json_t *v) {
        reply_event(x->conn, "correction", v);
}

static void whole_text(struct exchange *x, const struct job_result *r) {
        json_t *v;

        if (x->bare) {
                document_bare(x, r);
                return;
        }
        v = json_pack("{s:s%}", "text", x->text.p ? x->text.p : "", x->text.n);
        if (x->corrections)
                json_object_set(v, "corrections", x->corrections);
        add_end(x, r, v);
        reply_json(x->conn, 200, v, job_id(x->job));
}

static void whole_proof(struct exchange *x, const struct job_result *r) {
        if (!x->corrections)
                x->corrections = json_array();
        whole_text(x, r);
}

static void whole_extract(struct exchange *x, const struct job_result *r) {
        _cleanup_(secure_buf_done) struct secure_buf body = {};
        json_t *v = json_object();

        if (x->bare) {
                json_decref(v);
                reply_text(x->conn, x->text.p ? x->text.p : "", x->text.n, NULL, job_id(x->job));
                return;
        }
        add_end(x, r, v);
        secure_buf_puts(&body, "{\"data\":");
        secure_buf_append(&body, x->text.p, x->text.n);
        secure_buf_puts(&body, ",");
        if (!body.failed) { /* the other members follow: all of the object but its first brace */
                size_t at = body.n;

                http_json(&body, v);
                if (!body.failed)
                        memmove(body.p + at, body.p + at + 1, body.n-- - at - 1);
        }
        json_decref(v);
        reply_json_text(x->conn, &body, job_id(x->job));
}

static void whole_scores(struct exchange *x, const struct job_result *r) {
        json_t *v = result_scores(r);
        const char *best = json_string_value(json_object_get(v, "label"));

        if (x->bare) {
                if (best)
                        reply_text(x->conn, best, strlen(best), NULL, job_id(x->job));
                else
                        reply_memory(x->conn);
                json_decref(v);
                return;
        }
        add_end(x, r, v);
        reply_json(x->conn, 200, v, job_id(x->job));
}

static const struct exchange_format
        rewritten = { .id_prefix = "", .text = document_text, .progress = document_progress,
                      .end = end, .whole = whole_text, .trailer = document_coverage,
                      .trailer_names = DOCUMENT_TRAILER_NAMES, .error_event = "error" },
        proof = { .id_prefix = "", .text = document_text, .progress = document_progress,
                  .correction = correction, .end = end, .whole = whole_proof,
                  .trailer = document_coverage, .trailer_names = DOCUMENT_TRAILER_NAMES,
                  .error_event = "error" },
        extract = { .id_prefix = "", .text = document_text, .end = end, .whole = whole_extract,
                    .error_event = "error" },
        scores = { .id_prefix = "", .whole = whole_scores, .error_event = "error" };

/* --- the request --- */

/* "a,b" as an array of strings. */
static json_t *comma_list(const char *text) {
        json_t *list = json_array();
        const char *end;

        for (;; text = end + 1) {
                end = strchrnul(text, ',');
                json_array_append_new(list, json_stringn(text, (size_t)(end - text)));
                if (*end == '\0')
                        return list;
        }
}

/* The options of the query as if they stood in a JSON body. */
static int query_options(struct conn *c, json_t *root, struct request_error *e) {
        static const char *const names[] = { "tone", "length", "format", "instructions", "labels",
                                             "max_tokens", "receipt" };
        _cleanup_(secure_buf_done) struct secure_buf value = {};
        char *p = secure_buf_reserve(&value, QUERY_VALUE_MAX);
        int r = p ? query_check_names(c, names, ARRAY_SIZE(names), e) : -ENOMEM;

        value.n = p ? QUERY_VALUE_MAX : 0;
        for (size_t i = 0; i < ARRAY_SIZE(names) && r >= 0; i++) {
                r = query_option(c, names[i], p, QUERY_VALUE_MAX, e);
                if (r <= 0)
                        continue;
                if (text_valid_prefix(p, strlen(p)) != strlen(p))
                        return request_fail(e, ERROR_INVALID_INPUT, names[i],
                                            "The text is not UTF-8.");
                json_object_set_new(root, names[i],
                                    strcmp(names[i], "labels") == 0 ? comma_list(p)
                                                                    : json_string(p));
        }
        return MIN(r, 0);
}

static int parse_text(struct conn *c, struct job_spec *spec, struct request_error *e) {
        json_t *root = json_object();
        int r;

        if (!root)
                return -ENOMEM;
        if ((r = query_check_type(c, e)) == 0 && (r = query_common(c, spec, e)) == 0 &&
            (r = query_options(c, root, e)) == 0 &&
            (r = task_options_parse(root, spec->verb, &spec->task, &spec->params, e)) == 0)
                r = query_document(c, spec, e);
        json_decref(root);
        return r;
}

static int parse_json(json_t *root, struct job_spec *spec, struct request_error *e) {
        const json_t *text = json_object_get(root, "text");

        if (json_string_length(text) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "text",
                                    "The field is a string with at least one character.");
        secure_buf_append(&spec->text, json_string_value(text), json_string_length(text));
        if (spec->text.failed)
                return -ENOMEM;
        return task_options_parse(root, spec->verb, &spec->task, &spec->params, e);
}

static void serve(struct conn *c, uint32_t verb, const struct exchange_format *format) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        json_t *root;
        int r;

        api_defaults(c, &spec, verb);
        if (strcmp(c->request.content_type, "application/json") == 0) {
                root = api_load(c, &spec);
                if (!root)
                        return;
                r = parse_json(root, &spec, &e);
                json_decref(root);
        } else {
                r = parse_text(c, &spec, &e);
        }
        if (r == 0)
                exchange_start(c, format, &spec, request_accepts_first(&c->request, "text/plain"));
        else
                reply_failure(c, &e);
}

void api_rewrite(struct conn *c) {
        serve(c, WIRE_VERB_REWRITE, &rewritten);
}

void api_proofread(struct conn *c) {
        serve(c, WIRE_VERB_PROOFREAD, &proof);
}

void api_extract(struct conn *c) {
        serve(c, WIRE_VERB_EXTRACT, &extract);
}

void api_classify(struct conn *c) {
        serve(c, WIRE_VERB_CLASSIFY, &scores);
}
