/* The formats of feature "input-format" and "output-format". Input text stands for the one thing
 * the verb needs (a user's message, a prompt, a document); JSON can also carry stop strings, the
 * context of a summary, labels, a schema and the fields of the HTTP interface. Options of the bus
 * message win. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/bus_format.h"
#include "daemon/worker/defaults.h"
#include "daemon/worker/http.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

/* A chat of one user message. */
static int single_message(struct secure_buf *text, struct messages *ret) {
        struct chat_message *item = calloc(1, sizeof(*item));

        if (!item)
                return -ENOMEM;
        *item = (struct chat_message){ .role = CHAT_USER, .content = text->p, .n = text->n };
        *ret = (struct messages){ .items = item, .n = 1, .text = *text };
        *text = (struct secure_buf){};
        return 0;
}

static int check_text(const struct secure_buf *text, struct request_error *e) {
        size_t valid = text->n ? text_valid_prefix(text->p, text->n) : 0;

        if (text->n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, NULL, "The input is empty.");
        if (valid != text->n)
                return request_fail_range(e, ERROR_INVALID_INPUT, NULL,
                                          "The input is not UTF-8; the value is the byte, the "
                                          "limit the size.",
                                          valid, text->n);
        return 0;
}

/* Plain text, taken over, for any verb. */
static int use_text(struct secure_buf *text, struct job_spec *spec, struct request_error *e) {
        int r = check_text(text, e);

        if (r < 0)
                return r;
        if (spec->verb == WIRE_VERB_CHAT || spec->verb == WIRE_VERB_EMBED)
                return single_message(text, &spec->messages);
        spec->text = *text;
        *text = (struct secure_buf){};
        return 0;
}

static int use_string(const json_t *v, struct job_spec *spec, struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf text = {};

        if (!json_is_string(v))
                return request_fail(e, ERROR_INVALID_INPUT, "text", "The field must be a string.");
        secure_buf_append(&text, json_string_value(v), json_string_length(v));
        return text.failed ? -ENOMEM : use_text(&text, spec, e);
}

static int use_context(const json_t *root, struct job_spec *spec, struct request_error *e) {
        json_t *v = json_object_get(root, "context");

        if (!v || spec->verb != WIRE_VERB_SUMMARIZE)
                return 0;
        if (!json_is_string(v))
                return request_fail(e, ERROR_INVALID_INPUT, "context",
                                    "The field must be a string.");
        spec->context = strndup(json_string_value(v), json_string_length(v));
        return spec->context ? 0 : -ENOMEM;
}

/* A rewrite, a correction, an extract or labels; root: what goes with the text. */
static int use_task(const json_t *root, struct job_spec *spec, struct request_error *e) {
        int r = task_options_parse(root, spec->verb, &spec->task, &spec->params, e);

        return r < 0 ? r : use_string(json_object_get(root, "text"), spec, e);
}

/* The same without anything but the text. */
static int use_task_text(struct secure_buf *text, struct job_spec *spec, struct request_error *e) {
        json_t *nothing = json_object();
        int r = nothing ? task_options_parse(nothing, spec->verb, &spec->task, &spec->params, e)
                        : -ENOMEM;

        json_decref(nothing);
        return r < 0 ? r : use_text(text, spec, e);
}

static int use_json(uint32_t format, const json_t *root, struct job_spec *spec,
                    struct request_error *e) {
        json_t *messages = json_object_get(root, "messages"), *text;
        int r = params_parse(root, &spec->params, e);

        if (r == 0)
                r = use_context(root, spec, e);
        if (r < 0)
                return r;
        if (task_verb(spec->verb))
                return use_task(root, spec, e);
        if (spec->verb == WIRE_VERB_EMBED) {
                r = messages_parse_dimensions(root, &spec->dimensions, e);
                return r < 0 ? r : messages_parse_texts(json_object_get(root, "input"), "input",
                                                        &spec->messages, e);
        }
        if (spec->params.tools.offered && !messages)
                return request_fail(e, ERROR_UNSUPPORTED, "tools", "Tools are for messages.");
        if (spec->params.grammar && spec->verb == WIRE_VERB_SUMMARIZE)
                return request_fail(e, ERROR_UNSUPPORTED, "response_format",
                                    "A summary is text.");
        if (spec->params.logprobs)
                return request_fail(e, ERROR_UNSUPPORTED, "logprobs", NULL);
        if (messages || format == WIRE_INPUT_CHAT_JSON) {
                if (spec->verb != WIRE_VERB_CHAT)
                        return request_fail(e, ERROR_INVALID_INPUT, "messages",
                                            "Messages are for the verb chat.");
                return messages_parse(root, &spec->params.tools.system, &spec->messages, e);
        }
        text = json_object_get(root, "text");
        return use_string(text ? text : json_object_get(root, "prompt"), spec, e);
}

static void use_options(const struct wire_job *m, struct job_spec *spec) {
        struct gen_params *p = &spec->params;

        memcpy(spec->model, m->model, sizeof(spec->model));
        spec->type = m->summary_type;
        spec->length = m->summary_length;
        spec->format = m->text_format;
        if (m->verb == WIRE_VERB_REWRITE) {
                spec->task.tone = m->summary_type ? m->summary_type : spec->task.tone;
                spec->task.length = m->summary_length ? m->summary_length : spec->task.length;
                spec->task.format = m->text_format ? m->text_format : spec->task.format;
        }
        p->priority = m->priority;
        if (m->deadline_usec)
                p->deadline_usec = m->deadline_usec;
        if (m->max_output_tokens)
                p->max_tokens = m->max_output_tokens;
        if (m->temperature >= 0)
                p->sampling.temperature = (float)m->temperature;
        if (m->top_p >= 0)
                p->sampling.top_p = params_top_p(m->top_p);
        if (m->min_p >= 0)
                p->sampling.min_p = (float)m->min_p;
        if (m->top_k != UINT32_MAX)
                p->sampling.top_k = m->top_k;
        if (m->has_seed)
                p->sampling.seed = m->seed;
        p->receipt |= m->output_format == WIRE_OUTPUT_RECEIPT;
}

static json_t *user_message(const char *text, size_t n) {
        return json_pack("{s:[{s:s,s:s%}]}", "messages", "role", "user", "content", text, n);
}

/* The input of a turn as a request with messages. A new reference, or NULL. */
static json_t *turn_request(uint32_t format, const struct secure_buf *text,
                            struct request_error *e) {
        json_t *root, *message, *v;

        if (format == WIRE_INPUT_TEXT)
                return check_text(text, e) == 0 ? user_message(text->p, text->n) : NULL;
        root = params_load(text->p ? text->p : "", text->n, e);
        if (!root || json_object_get(root, "messages") || format == WIRE_INPUT_CHAT_JSON)
                return root;
        v = json_object_get(root, "text");
        v = v ? v : json_object_get(root, "prompt");
        message = json_is_string(v)
                          ? user_message(json_string_value(v), json_string_length(v))
                          : NULL;
        if (!message || json_object_update(root, message) < 0) {
                if (!json_is_string(v))
                        request_fail(e, ERROR_INVALID_INPUT, "text", "The field must be a string.");
                json_decref(root);
                root = NULL;
        }
        json_decref(message);
        return root;
}

/* A turn is the request that a client would make who keeps the conversation himself. What is new
 * is looked at alone first, so that an error names its message as the client counts. */
static int use_turn(const struct wire_job *m, const struct secure_buf *text, const json_t *history,
                    struct job_spec *spec, json_t **ret_messages, struct request_error *e) {
        _cleanup_(messages_done) struct messages parsed = {};
        json_t *root = turn_request(m->input_format, text, e), *all, *messages = NULL;
        int r = root ? messages_parse(root, NULL, &parsed, e) : -EBADMSG;

        if (r == 0) {
                messages = json_incref(json_object_get(root, "messages"));
                all = json_copy((json_t *)history);
                r = !all || json_array_extend(all, messages) < 0 ||
                                    json_object_set(root, "messages", all) < 0
                            ? -ENOMEM
                            : use_json(m->input_format, root, spec, e);
                json_decref(all);
        }
        json_decref(root);
        if (r < 0)
                json_decref(messages);
        else
                *ret_messages = messages;
        return r < 0 && e->code == ERROR_NONE ? -ENOMEM : r;
}

int bus_format_messages(struct secure_buf *input, json_t **ret, struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf text = *input;
        _cleanup_(messages_done) struct messages parsed = {};
        json_t *root = params_load(text.p ? text.p : "", text.n, e);
        int r;

        *input = (struct secure_buf){};
        if (!root)
                return -EBADMSG;
        r = messages_parse(root, NULL, &parsed, e);
        if (r == 0)
                *ret = json_incref(json_object_get(root, "messages"));
        json_decref(root);
        return r;
}

int bus_format_input(const struct wire_job *m, struct secure_buf *input, const json_t *history,
                     uint64_t *seed_state, struct job_spec *ret, json_t **ret_messages,
                     struct request_error *e) {
        _cleanup_(secure_buf_done) struct secure_buf text = *input;
        struct job_spec spec = { .verb = m->verb, .ref = m->ref, .input_bytes = text.n,
                                 .session = m->session, .client = m->client };
        json_t *root;
        int r;

        *input = (struct secure_buf){};
        spec.params.sampling = default_sampling(m->verb, seed_state);
        if (history) {
                r = use_turn(m, &text, history, &spec, ret_messages, e);
        } else if (m->input_format == WIRE_INPUT_TEXT) {
                r = task_verb(m->verb) ? use_task_text(&text, &spec, e)
                                       : use_text(&text, &spec, e);
        } else {
                root = params_load(text.p ? text.p : "", text.n, e);
                r = root ? use_json(m->input_format, root, &spec, e) : -EBADMSG;
                json_decref(root);
        }
        use_options(m, &spec);
        if (r == 0 && spec.params.receipt && m->output_format == WIRE_OUTPUT_TEXT)
                r = request_fail(e, ERROR_UNSUPPORTED, "bn.receipt",
                                 "Output as text has no place for a receipt.");
        if (r < 0)
                job_spec_done(&spec);
        else
                *ret = spec;
        return r;
}

static void add_line(struct secure_buf *out, json_t *v) {
        http_json(out, v);
        json_decref(v);
        secure_buf_puts(out, "\n");
}

void bus_format_text(struct secure_buf *out, const char *text, size_t n) {
        add_line(out, json_pack("{s:s%}", "text", text, n));
}

void bus_format_progress(struct secure_buf *out, const struct job_progress *p) {
        bool queued = p->state == WIRE_STATE_QUEUED;

        add_line(out, json_pack("{s:{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "progress", "state",
                                wire_state_name(p->state), "piece", (json_int_t)p->piece, "pieces",
                                (json_int_t)p->pieces, "tokens_in", (json_int_t)p->tokens_in,
                                "tokens_read", (json_int_t)p->tokens_read, "tokens_out",
                                (json_int_t)p->tokens_out, "queue_position",
                                (json_int_t)(queued ? p->position : 0), "queue_tokens_ahead",
                                (json_int_t)(queued ? p->tokens_ahead : 0)));
}

void bus_format_correction(struct secure_buf *out, uint64_t start, uint64_t end, const char *text,
                           size_t n) {
        add_line(out, json_pack("{s:o}", "correction", result_correction(start, end, text, n)));
}

void bus_format_result(struct secure_buf *out, const struct job_result *r) {
        if (r->scores)
                add_line(out, result_scores(r));
        for (size_t i = 0; r->vectors && i < r->n_vectors; i++) {
                secure_buf_printf(out, "{\"index\":%zu,\"embedding\":", i);
                result_numbers(out, r->vectors + i * r->n_embd, r->n_embd);
                secure_buf_puts(out, "}\n");
        }
}

static const char *result_name(const struct job_result *r) {
        if (r->error.code == ERROR_NONE)
                return r->length ? "length" : "stop";
        return r->error.code == ERROR_CANCELLED ? "cancelled" : "failed";
}

void bus_format_end(struct secure_buf *out, uint32_t verb, const struct job_result *r) {
        json_t *v = json_pack("{s:b,s:s}", "done", 1, "result", result_name(r));

        if (r->error.code == ERROR_NONE) {
                json_object_set_new(v, "error", json_null());
        } else {
                json_t *error = http_error_json(&r->error);

                json_object_set(v, "error", json_object_get(error, "error"));
                json_decref(error);
        }
        json_object_set_new(v, "usage", result_usage(r));
        json_object_set_new(v, "coverage", verb == WIRE_VERB_SUMMARIZE || task_rewrites(verb)
                                                   ? result_coverage(verb, &r->coverage)
                                                   : json_null());
        add_line(out, result_own(v, r));
}
