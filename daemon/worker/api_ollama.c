/* The generating half of Ollama's interface: /api/chat and /api/generate. Streams are lines of
 * JSON, the last one with "done": true, the reason, and counts and durations in nanoseconds. An
 * error is {"error": "text"}, in a stream as its last line.
 *
 * One deliberate difference: a prompt longer than the context is refused, never cut. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/api.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/models.h"
#include "daemon/worker/ollama_request.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

json_t *ollama_time(uint64_t seconds) {
        time_t t = (time_t)seconds;
        char text[32];
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                return json_null();
        return json_string(text);
}

static json_t *line(const char *model, uint64_t created, bool done) {
        return json_pack("{s:s,s:o,s:b}", "model", model, "created_at", ollama_time(created),
                         "done", done);
}

/* Times of the exchange between two points that both came; 0 when one did not. */
static json_t *nanoseconds(uint64_t from, uint64_t to) {
        return json_integer(from != 0 && to > from ? (json_int_t)((to - from) * 1000) : 0);
}

static json_t *last_line(const struct exchange *x, const struct job_result *r) {
        json_t *v = line(x->model, x->created, true);
        uint64_t now = x->conn->w->now, first = x->first_text ? x->first_text : now;

        json_object_set_new(v, "done_reason", json_string(result_finish(r)));
        json_object_set_new(v, "total_duration", nanoseconds(x->started, now));
        json_object_set_new(v, "load_duration", nanoseconds(x->started, x->admitted));
        json_object_set_new(v, "prompt_eval_count", json_integer((json_int_t)r->tokens_in));
        json_object_set_new(v, "prompt_eval_duration", nanoseconds(x->admitted, first));
        json_object_set_new(v, "eval_count", json_integer((json_int_t)r->tokens_out));
        json_object_set_new(v, "eval_duration", nanoseconds(first, now));
        return result_own(v, r);
}

static json_t *message(const char *p, size_t n) {
        return json_pack("{s:s,s:s%}", "role", "assistant", "content", p ? p : "", n);
}

/* A call is told whole, its arguments as an object; one that was cut is text. */
static json_t *answer(const struct exchange *x) {
        json_t *v = message("", 0), *arguments;

        if (x->call.step != TOOL_WHOLE) {
                json_decref(v);
                return message(x->text.p, x->text.n);
        }
        arguments = json_loadb(x->text.p, x->text.n, 0, NULL);
        x->conn->out.failed |= !arguments; /* no memory: the grammar made it JSON */
        json_object_set_new(v, "tool_calls",
                            json_pack("[{s:{s:s,s:o}}]", "function", "name", x->call.name,
                                      "arguments", arguments ? arguments : json_null()));
        return v;
}

/* The line with what is known of its tokens. */
static json_t *with_odds(json_t *v, json_t *odds) {
        if (odds)
                json_object_set_new(v, "logprobs", odds);
        return v;
}

static void chat_text(struct exchange *x, const char *p, size_t n) {
        json_t *v = line(x->model, x->created, false);

        json_object_set_new(v, "message", message(p, n));
        reply_line(x->conn, with_odds(v, exchange_logprobs(x, NULL)));
}

static void chat_end(struct exchange *x, const struct job_result *r) {
        json_t *v;

        if (tool_reader_calls(&x->call)) {
                v = line(x->model, x->created, false);
                json_object_set_new(v, "message", answer(x));
                reply_line(x->conn, v);
        }
        v = last_line(x, r);
        json_object_set_new(v, "message", message("", 0));
        reply_line(x->conn, with_odds(v, exchange_logprobs(x, r)));
}

static void chat_whole(struct exchange *x, const struct job_result *r) {
        json_t *v = last_line(x, r);

        json_object_set_new(v, "message", answer(x));
        reply_json(x->conn, 200, with_odds(v, exchange_logprobs(x, r)), job_id(x->job));
}

static void generate_text(struct exchange *x, const char *p, size_t n) {
        json_t *v = line(x->model, x->created, false);

        json_object_set_new(v, "response", json_stringn(p, n));
        reply_line(x->conn, with_odds(v, exchange_logprobs(x, NULL)));
}

static void generate_end(struct exchange *x, const struct job_result *r) {
        json_t *v = last_line(x, r);

        json_object_set_new(v, "response", json_string(""));
        reply_line(x->conn, with_odds(v, exchange_logprobs(x, r)));
}

static void generate_whole(struct exchange *x, const struct job_result *r) {
        json_t *v = last_line(x, r);

        json_object_set_new(v, "response", json_stringn(x->text.p ? x->text.p : "", x->text.n));
        reply_json(x->conn, 200, with_odds(v, exchange_logprobs(x, r)), job_id(x->job));
}

static const struct exchange_format chat_format = {
        .id_prefix = "", .text = chat_text, .end = chat_end, .whole = chat_whole, .lines = true,
};
static const struct exchange_format generate_format = {
        .id_prefix = "", .text = generate_text, .end = generate_end, .whole = generate_whole,
        .lines = true,
};

/* Nothing to generate: Ollama's clients ask like this for a model to be loaded, or with
 * keep_alive 0 to be let go. True: it is not there yet. */
static bool answer_load(struct conn *c, const char *asked, const struct keep *keep, bool chat) {
        bool unload = keep->given && keep->usec == 0;
        const struct wire_catalog *entry = models_find(c->w->models, c->user, asked);
        const struct model *model = entry ? models_loaded(c->w->models, c->user, entry) : NULL;
        struct request_error e = {};
        char name[WIRE_NAME_MAX];
        json_t *v;
        int r = 0;

        if (!unload || !entry)
                r = models_get(c->w->models, c->user, asked, &model, name, &e);
        if (r == MODELS_PENDING)
                return true;
        if (r < 0) {
                reply_failure(c, &e);
                return false;
        }
        if (model)
                models_keep(c->w->models, model, keep);
        v = line(entry->name, (uint64_t)time(NULL), true);
        json_object_set_new(v, "done_reason", json_string(unload ? "unload" : "load"));
        json_object_set_new(v, chat ? "message" : "response",
                            chat ? message("", 0) : json_string(""));
        reply_json(c, 200, v, 0);
        return false;
}

static bool only_loads(const json_t *root, bool chat) {
        json_t *v = json_object_get(root, chat ? "messages" : "prompt");

        return !v || json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0) ||
               (json_is_string(v) && json_string_length(v) == 0);
}

/* Fill *spec. 0, -ENOMEM, or -EBADMSG with *e. */
static int read_request(struct job_spec *spec, const json_t *root, json_t *to, bool chat,
                        struct request_error *e) {
        bool raw = false;
        int r;

        if ((r = params_parse(to, &spec->params, e)) < 0)
                return r;
        if (!chat && (r = ollama_prompt(to, root, &raw, e)) < 0)
                return r;
        if (raw && spec->params.tools.offered)
                return request_fail(e, ERROR_UNSUPPORTED, "tools", "Tools are for messages.");
        if (!raw)
                return messages_parse(to, &spec->params.tools.system, &spec->messages, e);
        spec->verb = WIRE_VERB_COMPLETE;
        secure_buf_puts(&spec->text, json_string_value(json_object_get(root, "prompt")));
        return spec->text.failed ? -ENOMEM : 0;
}

/* A request without a prompt. */
static void serve_load(struct conn *c, const struct job_spec *spec, const json_t *to, bool chat,
                       struct request_error *e) {
        const json_t *v = json_object_get(to, "keep_alive");
        struct keep keep = {};

        if (v && keep_parse(v, &keep, e) < 0)
                reply_failure(c, e);
        else if (answer_load(c, spec->model, &keep, chat))
                conn_wait(c, chat ? api_ollama_chat : api_ollama_generate);
}

static void serve(struct conn *c, bool chat) {
        const struct secure_buf *body = &c->request.body;
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        json_t *root, *to;
        int r = -EBADMSG;

        api_defaults(c, &spec, WIRE_VERB_CHAT);
        root = params_load(body->p ? body->p : "", body->n, &e);
        to = root ? ollama_translate(root, &e) : NULL;
        if (to && params_model(to, spec.model, &e) == 0) {
                if (only_loads(root, chat)) {
                        serve_load(c, &spec, to, chat, &e);
                        json_decref(to);
                        json_decref(root);
                        return;
                }
                r = read_request(&spec, root, to, chat, &e);
        }
        json_decref(to);
        json_decref(root);
        if (r == 0)
                exchange_start(c, chat ? &chat_format : &generate_format, &spec, false);
        else
                reply_failure(c, &e);
}

void api_ollama_chat(struct conn *c) {
        serve(c, true);
}

void api_ollama_generate(struct conn *c) {
        serve(c, false);
}
