/* POST /v1/chat/completions with "stream": true, the same wire every OpenAI client uses. */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/chat.h"
#include "client/detach.h"
#include "client/interrupt.h"
#include "client/receipt.h"
#include "client/sse.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2 };

struct number_option {
        const char *key, *name, *text;
        double min, max;
        bool whole;
};

static int add_number(json_t *request, const struct number_option *n) {
        char *end;
        double value;

        if (!n->text)
                return 0;
        value = strtod(n->text, &end);
        if (end == n->text || *end || !(value >= n->min && value <= n->max) ||
            (n->whole && value != floor(value))) {
                fprintf(stderr, "bnctl: --%s must be a %s from %g to %g, not \"%s\"\n", n->name,
                        n->whole ? "whole number" : "number", n->min, n->max, n->text);
                return EXIT_USAGE;
        }
        json_object_set_new(request, n->key,
                            n->whole ? json_integer((json_int_t)value) : json_real(value));
        return 0;
}

int chat_add_options(json_t *request, const struct options *o) {
        const struct number_option numbers[] = {
                {"max_tokens", "max-tokens", o->max_tokens, 1, 1e9, true},
                {"temperature", "temperature", o->temperature, 0, 2, false},
                {"top_p", "top-p", o->top_p, 0, 1, false},
                {"top_k", "top-k", o->top_k, 0, 1e6, true},
                {"min_p", "min-p", o->min_p, 0, 1, false},
                {"repeat_penalty", "repeat-penalty", o->repeat_penalty, 0.1, 10, false},
                {"seed", "seed", o->seed, 0, 9007199254740992.0, true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                int status = add_number(request, &numbers[i]);
                if (status)
                        return status;
        }
        if (o->model)
                json_object_set_new(request, "model", json_string(o->model));
        if (o->n_stop > 0) {
                json_t *stop = json_array();
                for (size_t i = 0; i < o->n_stop; i++)
                        json_array_append_new(stop, json_string(o->stop[i]));
                json_object_set_new(request, "stop", stop);
        }
        return detach_add_options(request, o);
}

int chat_add_message(json_t *messages, const char *role, const char *text, size_t n) {
        json_t *content = json_stringn(text, n);

        if (!content) {
                term_error("the text is not valid UTF-8");
                return error_row(ERROR_INVALID_INPUT)->exit_status;
        }
        return json_array_append_new(messages,
                                     json_pack("{s:s, s:o}", "role", role, "content", content));
}

struct stream {
        const struct options *o;
        struct chat_reply *reply;
        struct http_failure *failure;
        struct sse sse;
        bool started, failed, done, reader_gone;
        unsigned ticks;
        char waiting[80];    /* what the daemon last said that it waits for, or "" */
};

static bool take_text(struct stream *s, const char *text, size_t n) {
        if (!http_body_add(&s->reply->text, text, n))
                return false;
        if (s->o->json || s->o->no_stream || s->o->replay)
                return true;
        if (!s->started && !s->o->quiet)
                term_progress(NULL);
        s->started = true;
        s->reader_gone = !term_text(stdout, text, n, isatty(STDOUT_FILENO) && !s->o->raw);
        return !s->reader_gone;
}

static void take_facts(struct chat_reply *r, json_t *chunk, json_t *choice) {
        const char *model = json_string_value(json_object_get(chunk, "model"));
        const char *id = json_string_value(json_object_get(chunk, "id"));
        const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
        json_t *usage = json_object_get(chunk, "usage");

        if (model)
                snprintf(r->model, sizeof(r->model), "%s", model);
        if (id)
                snprintf(r->job, sizeof(r->job), "%s", id);
        if (finish)
                snprintf(r->finish, sizeof(r->finish), "%s", finish);
        if (json_is_object(usage)) {
                json_decref(r->usage);
                r->usage = json_incref(usage);
        }
        if (receipt_of(chunk)) {
                json_decref(r->receipt);
                r->receipt = json_incref((json_t *)receipt_of(chunk));
        }
}

static bool on_event(void *userdata, const char *event, const char *data, size_t n) {
        struct stream *s = userdata;
        json_t *chunk, *choice, *text;
        bool go_on = true;

        if (n == 6 && memcmp(data, "[DONE]", 6) == 0) {
                s->done = true;
                return true;
        }
        chunk = json_loadb(data, n, 0, NULL);
        if (json_object_get(chunk, "error")) {
                http_parse_failure(data, n, s->failure);
                s->failed = true;
                json_decref(chunk);
                return false;
        }
        choice = json_array_get(json_object_get(chunk, "choices"), 0);
        text = json_object_get(json_object_get(choice, "delta"), "content");
        if (json_string_length(text) > 0)
                go_on = take_text(s, json_string_value(text), json_string_length(text));
        take_facts(s->reply, chunk, choice);
        json_decref(chunk);
        return go_on;
}

static bool on_data(void *userdata, const char *p, size_t n) {
        struct stream *s = userdata;
        return sse_feed(&s->sse, p, n);
}

/* Words and numbers of the daemon; anything else would reach the terminal. */
static void on_comment(void *userdata, const char *text) {
        struct stream *s = userdata;

        snprintf(s->waiting, sizeof(s->waiting), "%s", text);
        for (const char *p = s->waiting; *p; p++)
                if (*p < ' ' || *p > '~')
                        s->waiting[0] = 0;
}

static bool on_idle(void *userdata) {
        static const char *const dots[] = {"", ".", "..", "..."};
        struct stream *s = userdata;
        char line[96];

        if (!s->started && !s->o->quiet && s->ticks++ % 4 == 0) {
                snprintf(line, sizeof(line), "%s%s", s->waiting[0] ? s->waiting : "thinking",
                         dots[s->ticks / 4 % 4]);
                term_progress(line);
        }
        return !interrupted();
}

/* A stream that simply ends is no answer: the last event must have come. */
static int judge(struct stream *s, int r) {
        if (s->failed)
                return 1;
        if (r == 0 && !s->done) {
                s->failure->code = ERROR_WORKER_FAILED;
                snprintf(s->failure->text, sizeof(s->failure->text), "%s",
                         error_row(ERROR_WORKER_FAILED)->text);
                return 1;
        }
        return r;
}

int chat_run(const struct options *o, json_t *messages, const json_t *parameters,
             struct chat_reply *reply, struct http_failure *failure) {
        struct stream s = {.o = o, .reply = reply, .failure = failure};
        struct http_request r = {.socket = o->socket,
                                 .path = "/v1/chat/completions",
                                 .content_type = "application/json",
                                 .data = on_data,
                                 .idle = on_idle,
                                 .userdata = &s};
        json_t *request = json_pack("{s:O, s:b, s:{s:b}}", "messages", messages, "stream", 1,
                                    "stream_options", "include_usage", 1);
        char *body;
        int status;

        if (parameters)
                json_object_update(request, (json_t *)parameters);
        status = chat_add_options(request, o);
        body = status ? NULL : json_dumps(request, JSON_COMPACT);
        json_decref(request);
        if (!body) {
                failure->code = ERROR_INVALID_INPUT;
                failure->text[0] = 0;
                return 1;
        }
        s.sse.on_event = on_event;
        s.sse.on_comment = on_comment;
        s.sse.userdata = &s;
        r.body = body;
        r.body_size = strlen(body);
        status = judge(&s, http_perform(&r, failure));
        if (!o->quiet)
                term_progress(NULL);
        sse_done(&s.sse);
        explicit_bzero(body, r.body_size);
        free(body);
        return status;
}

void chat_reply_done(struct chat_reply *r) {
        http_body_done(&r->text);
        json_decref(r->usage);
        json_decref(r->receipt);
        *r = (struct chat_reply){0};
}
