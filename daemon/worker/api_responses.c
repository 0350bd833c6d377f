/* POST /v1/responses, in OpenAI's shapes: the chat of /v1/chat/completions in other words. Nothing
 * is stored. An answer is one item, a message or the call of a function.
 *
 * The stream: every event has its name, its type and a number; response.created and
 * response.in_progress when the job is admitted, then the item and its part, deltas, and the same
 * things again whole (done), last the whole response. For that the text given so far is kept here
 * until the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/http.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/responses_request.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

/* What an exchange of this path has of its own. */
struct own {
        json_t *echo;             /* of the request */
        json_t *odds;             /* an array, of the tokens told so far */
        struct secure_buf text;   /* stream: of the message, or the arguments of the call */
        uint64_t sequence;
        bool begun, item;         /* stream: the response, its item was told */
};

static void own_free(void *p) {
        struct own *o = p;

        json_decref(o->echo);
        json_decref(o->odds);
        secure_buf_done(&o->text);
        free(o);
}

/* --- objects --- */

static json_t *named(const struct exchange *x, const char *prefix) {
        char id[64];

        snprintf(id, sizeof(id), "%s_%" PRIu64, prefix, job_id(x->job));
        return json_string(id);
}

static bool is_call(const struct exchange *x) {
        return tool_reader_calls(&x->call);
}

static json_t *item_id(const struct exchange *x) {
        return named(x, is_call(x) ? "fc" : "msg");
}

/* Takes odds. */
static json_t *part(const char *text, size_t n, json_t *odds) {
        return json_pack("{s:s,s:s%,s:[],s:o}", "type", "output_text", "text", text ? text : "", n,
                         "annotations", "logprobs", odds);
}

/* Takes content, the parts of a message; a call has n bytes of arguments instead. */
static json_t *item(const struct exchange *x, const char *status, json_t *content, const char *p,
                    size_t n) {
        json_t *v = json_pack("{s:o,s:s}", "id", item_id(x), "status", status);

        if (is_call(x))
                json_object_update_new(v, json_pack("{s:s,s:o,s:s,s:s%}", "type", "function_call",
                                                    "call_id", named(x, "call"), "name",
                                                    x->call.name, "arguments", p ? p : "", n));
        else
                json_object_update_new(v, json_pack("{s:s,s:s,s:O}", "type", "message", "role",
                                                    "assistant", "content", content));
        json_decref(content);
        return v;
}

static json_t *whole_item(const struct exchange *x, const char *status,
                          const struct secure_buf *text) {
        const struct own *o = x->own;
        json_t *content = json_pack("[o]", part(text->p, text->n, json_incref(o->odds)));

        return item(x, status, content, text->p, text->n);
}

/* cache_write_tokens are those that would cost more for being kept: none does. */
static json_t *usage(const struct job_result *r) {
        return json_pack("{s:I,s:{s:I,s:i},s:I,s:{s:i},s:I}", "input_tokens",
                         (json_int_t)r->tokens_in, "input_tokens_details", "cached_tokens",
                         (json_int_t)r->tokens_cached, "cache_write_tokens", 0, "output_tokens",
                         (json_int_t)r->tokens_out, "output_tokens_details", "reasoning_tokens", 0,
                         "total_tokens",
                         (json_int_t)(r->tokens_in + r->tokens_out));
}

/* Takes output and error. r: NULL while it goes on. */
static json_t *response(const struct exchange *x, const char *status, json_t *output,
                        const struct job_result *r, json_t *error) {
        const struct own *o = x->own;
        bool cut = strcmp(status, "incomplete") == 0;
        json_t *v = json_copy(o->echo);

        json_object_update_new(
                v, json_pack("{s:o,s:s,s:I,s:s,s:s,s:o,s:o,s:o,s:o}", "id", named(x, "resp"),
                             "object", "response", "created_at", (json_int_t)x->created, "status",
                             status, "model", x->model, "output", output, "error",
                             error ? error : json_null(), "incomplete_details",
                             cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(),
                             "usage", r && !error ? usage(r) : json_null()));
        return r ? result_own(v, r) : v;
}

/* What came of it: of the response, and of its item. */
static const char *status_of(const struct exchange *x, const struct job_result *r) {
        return strcmp(exchange_finish(x, r), "length") == 0 ? "incomplete" : "completed";
}

/* New odds are kept for the end; a reference to them alone, an array at any rate. */
static json_t *new_odds(struct exchange *x, const struct job_result *r) {
        struct own *o = x->own;
        json_t *odds = exchange_logprobs(x, r);

        if (!odds)
                return json_array();
        if (json_array_extend(o->odds, odds) < 0)
                x->conn->out.failed = true;
        return odds;
}

/* --- events --- */

/* Takes data. */
static void send(struct exchange *x, const char *type, json_t *data) {
        struct own *o = x->own;

        json_object_set_new(data, "type", json_string(type));
        json_object_set_new(data, "sequence_number", json_integer((json_int_t)o->sequence++));
        reply_event(x->conn, type, data);
}

static void send_response(struct exchange *x, const char *type, json_t *v) {
        send(x, type, json_pack("{s:o}", "response", v));
}

/* Takes v: something that happens to the item, or to its only part. */
static void send_item(struct exchange *x, const char *type, const char *name, json_t *v) {
        send(x, type, json_pack("{s:i,s:o}", "output_index", 0, name, v));
}
static void send_part(struct exchange *x, const char *type, const char *name, json_t *v) {
        json_t *data = json_pack("{s:o,s:i,s:o}", "item_id", item_id(x), "output_index", 0, name,
                                 v);

        if (!is_call(x))
                json_object_set_new(data, "content_index", json_integer(0));
        send(x, type, data);
}

/* Takes odds. */
static void send_text(struct exchange *x, const char *type, const char *name, const char *p,
                      size_t n, json_t *odds) {
        json_t *data = json_pack("{s:o,s:i,s:i,s:s%,s:o}", "item_id", item_id(x), "output_index", 0,
                                 "content_index", 0, name, p ? p : "", n, "logprobs", odds);

        send(x, type, data);
}

static void begin(struct exchange *x) {
        struct own *o = x->own;

        o->begun = true;
        send_response(x, "response.created", response(x, "in_progress", json_array(), NULL, NULL));
        send_response(x, "response.in_progress",
                      response(x, "in_progress", json_array(), NULL, NULL));
}

static void begin_item(struct exchange *x) {
        struct own *o = x->own;

        if (o->item)
                return;
        o->item = true;
        send_item(x, "response.output_item.added", "item",
                  item(x, "in_progress", json_array(), "", 0));
        if (!is_call(x))
                send_part(x, "response.content_part.added", "part", part("", 0, json_array()));
}

static void text(struct exchange *x, const char *p, size_t n) {
        struct own *o = x->own;

        begin_item(x);
        secure_buf_append(&o->text, p, n);
        send_text(x, "response.output_text.delta", "delta", p, n, new_odds(x, NULL));
}

static void call(struct exchange *x, const char *arguments, size_t n) {
        struct own *o = x->own;

        begin_item(x);
        secure_buf_append(&o->text, arguments, n);
        if (n > 0)
                send_part(x, "response.function_call_arguments.delta", "delta",
                          json_stringn(arguments, n));
}

/* The parts of the item once more, whole. */
static void end_parts(struct exchange *x) {
        struct own *o = x->own;

        if (is_call(x)) {
                json_t *name = json_string(x->call.name);
                json_t *data = json_pack("{s:o,s:i,s:o,s:s%}", "item_id", item_id(x),
                                         "output_index", 0, "name", name, "arguments",
                                         o->text.p ? o->text.p : "", o->text.n);

                send(x, "response.function_call_arguments.done", data);
                return;
        }
        send_text(x, "response.output_text.done", "text", o->text.p, o->text.n,
                  json_incref(o->odds));
        send_part(x, "response.content_part.done", "part",
                  part(o->text.p, o->text.n, json_incref(o->odds)));
}

static void end(struct exchange *x, const struct job_result *r) {
        struct own *o = x->own;
        const char *status = status_of(x, r);
        json_t *done;

        x->conn->out.failed |= o->text.failed;
        begin_item(x);
        json_decref(new_odds(x, r));
        end_parts(x);
        done = whole_item(x, status, &o->text);
        send_item(x, "response.output_item.done", "item", json_incref(done));
        send_response(x, strcmp(status, "completed") == 0 ? "response.completed"
                                                          : "response.incomplete",
                      response(x, status, json_pack("[o]", done), r, NULL));
}

/* The response failed, if it was told of; else there is only the error, in both shapes that clients
 * look for. */
static void fail(struct exchange *x, const struct job_result *r) {
        const struct own *o = x->own;
        struct request_error e = r->error;
        json_t *v, *error;

        responses_rename(&e);
        v = http_error_json(&e);
        error = json_object_get(v, "error");
        if (o->begun) {
                send_response(x, "response.failed",
                              response(x, "failed", json_array(), r, json_incref(error)));
                json_decref(v);
        } else {
                json_object_update_missing(v, error);
                send(x, "error", v);
        }
}

static void whole(struct exchange *x, const struct job_result *r) {
        const char *status = status_of(x, r);
        json_t *output;

        json_decref(new_odds(x, r));
        output = json_pack("[o]", whole_item(x, status, &x->text));
        reply_json(x->conn, 200, response(x, status, output, r, NULL), job_id(x->job));
}

static const struct exchange_format format = {
        .id_prefix = "resp_", .begin = begin, .text = text, .call = call, .end = end,
        .whole = whole, .fail = fail, .rename = responses_rename, .free_own = own_free,
};

/* --- requests --- */

/* The body as a chat; answers with an error by itself. True: *spec is filled. */
static bool load(struct conn *c, struct job_spec *spec, json_t **ret_echo) {
        const struct secure_buf *body = &c->request.body;
        struct request_error e = {};
        json_t *root = params_load(body->p ? body->p : "", body->n, &e), *to = NULL;
        bool ok;

        if (root)
                to = responses_translate(root, &e);
        ok = to && params_model(to, spec->model, &e) == 0 &&
             params_parse(to, &spec->params, &e) == 0 &&
             messages_parse(to, &spec->params.tools.system, &spec->messages, &e) == 0;
        if (ok)
                *ret_echo = responses_echo(root, &spec->params);
        else
                responses_rename(&e);
        json_decref(to);
        json_decref(root);
        if (!ok)
                reply_failure(c, &e);
        return ok;
}

static const struct exchange_format counted = {
        .id_prefix = "", .whole = api_whole_count, .rename = responses_rename,
        .free_own = own_free,
};

static void serve(struct conn *c, bool count) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct own *o;

        api_defaults(c, &spec, WIRE_VERB_CHAT);
        o = calloc(1, sizeof(*o));
        if (!o) {
                reply_memory(c);
                return;
        }
        o->odds = json_array();
        if (!load(c, &spec, &o->echo)) {
                own_free(o);
                return;
        }
        spec.count = count;
        spec.params.stream &= !count;
        exchange_start(c, count ? &counted : &format, &spec, false);
        if (c->exchange)
                c->exchange->own = o;
        else
                own_free(o);
}

void api_responses(struct conn *c) {
        serve(c, false);
}

void api_responses_count(struct conn *c) {
        serve(c, true);
}
