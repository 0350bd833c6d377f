/* POST /v1/chat/completions, in OpenAI's shapes, and how many tokens such a request has. Rules of
 * the stream: the first chunk carries the role, every chunk one choice, finish_reason is null until
 * the last, usage comes in a chunk of its own only when asked for, [DONE] only after success. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

static json_t *chunk(const struct exchange *x, json_t *choices, json_t *usage) {
        char id[64];
        json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", exchange_id(x, id, sizeof(id)),
                              "object", "chat.completion.chunk", "created",
                              (json_int_t)x->created, "model", x->model, "system_fingerprint",
                              "bitnetd-" BITNETD_VERSION, "choices", choices);

        if (x->include_usage)
                json_object_set_new(v, "usage", usage ? usage : json_null());
        return v;
}

/* Takes content: of the tokens that came, or NULL. */
static json_t *logprobs(json_t *content) {
        return content ? json_pack("{s:o,s:n}", "content", content, "refusal") : json_null();
}

/* Takes delta and content. */
static json_t *delta_chunk(struct exchange *x, json_t *delta, json_t *content,
                           const char *finish) {
        json_t *reason = finish ? json_string(finish) : json_null();

        return chunk(x,
                     json_pack("[{s:i,s:o,s:o,s:o}]", "index", 0, "delta", delta, "logprobs",
                               logprobs(content), "finish_reason", reason),
                     NULL);
}

static void send_delta(struct exchange *x, json_t *delta, json_t *content) {
        reply_event(x->conn, NULL, delta_chunk(x, delta, content, NULL));
}

static void begin(struct exchange *x) {
        send_delta(x, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), NULL);
}

static void text(struct exchange *x, const char *p, size_t n) {
        send_delta(x, json_pack("{s:s%}", "content", p, n), exchange_logprobs(x, NULL));
}

static json_t *call_id(const struct exchange *x) {
        char id[64];

        snprintf(id, sizeof(id), "call_%" PRIu64, job_id(x->job));
        return json_string(id);
}

static void call(struct exchange *x, const char *arguments, size_t n) {
        json_t *function = json_pack("{s:s%}", "arguments", arguments, n);
        json_t *one = json_pack("{s:i,s:o}", "index", 0, "function", function);

        if (n == 0) {
                json_object_set_new(function, "name", json_string(x->call.name));
                json_object_set_new(one, "id", call_id(x));
                json_object_set_new(one, "type", json_string("function"));
        }
        send_delta(x, json_pack("{s:[o]}", "tool_calls", one), NULL);
}

/* The message of an answer that is complete or was cut. */
static json_t *message(const struct exchange *x) {
        const char *text = x->text.p ? x->text.p : "";

        if (!tool_reader_calls(&x->call))
                return json_pack("{s:s,s:s%}", "role", "assistant", "content", text, x->text.n);
        return json_pack("{s:s,s:n,s:[{s:o,s:s,s:{s:s,s:s%}}]}", "role", "assistant", "content",
                         "tool_calls", "id", call_id(x), "type", "function", "function", "name",
                         x->call.name, "arguments", text, x->text.n);
}

static void end(struct exchange *x, const struct job_result *r) {
        static const char done[] = "data: [DONE]\n\n";

        reply_event(x->conn, NULL,
                    result_own(delta_chunk(x, json_object(), exchange_logprobs(x, r),
                                           exchange_finish(x, r)), r));
        if (x->include_usage)
                reply_event(x->conn, NULL, chunk(x, json_array(), result_usage(r)));
        reply_bytes(x->conn, done, strlen(done));
}

static void whole(struct exchange *x, const struct job_result *r) {
        char id[64];
        json_t *choices = json_pack("[{s:i,s:o,s:o,s:s}]", "index", 0, "message", message(x),
                                    "logprobs", logprobs(exchange_logprobs(x, r)),
                                    "finish_reason", exchange_finish(x, r));
        json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o,s:o}", "id",
                              exchange_id(x, id, sizeof(id)), "object", "chat.completion",
                              "created", (json_int_t)x->created, "model", x->model,
                              "system_fingerprint", "bitnetd-" BITNETD_VERSION, "choices",
                              choices, "usage", result_usage(r));

        reply_json(x->conn, 200, result_own(v, r), job_id(x->job));
}

static const struct exchange_format format = {
        .id_prefix = "chatcmpl-", .begin = begin, .text = text, .call = call, .end = end,
        .whole = whole,
};

/* As llama-server answers; context_length is ours. */
void api_whole_count(struct exchange *x, const struct job_result *r) {
        reply_json(x->conn, 200,
                   json_pack("{s:s,s:I,s:I}", "object", "response.input_tokens", "input_tokens",
                             (json_int_t)r->tokens_in, "context_length", (json_int_t)r->context),
                   0);
}

static const struct exchange_format counted = { .id_prefix = "", .whole = api_whole_count };

static void serve(struct conn *c, bool count) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        json_t *root;
        int r;

        api_defaults(c, &spec, WIRE_VERB_CHAT);
        root = api_load(c, &spec);
        if (!root)
                return;
        r = messages_parse(root, &spec.params.tools.system, &spec.messages, &e);
        json_decref(root);
        spec.count = count;
        spec.params.stream &= !count;
        if (r == 0)
                exchange_start(c, count ? &counted : &format, &spec, false);
        else
                reply_failure(c, &e);
}

void api_chat(struct conn *c) {
        serve(c, false);
}

void api_chat_count(struct conn *c) {
        serve(c, true);
}
