/* bnctl summarize: any length of text in, a summary out, with a report of what was covered. */

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/detach.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/sse.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2, EXIT_READER_GONE = 141 };

struct summary {
        const struct options *o;
        struct sse sse;
        struct http_failure failure;
        json_t *text;       /* array of pieces, for --json */
        json_t *done;       /* the last event */
        bool failed, started, ends_with_newline;
};

static const char *const types[] = {"tldr", "teaser", "key-points", "headline"};
static const char *const lengths[] = {"short", "medium", "long"};
static const char *const formats[] = {"plain-text", "markdown"};

static bool is_word(const char *name, const char *value, const char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!value || strcmp(value, words[i]) == 0)
                        return true;
        fprintf(stderr, "bnctl: --%s cannot be \"%s\"; it is one of", name, value);
        for (size_t i = 0; i < n; i++)
                fprintf(stderr, " %s", words[i]);
        fputc('\n', stderr);
        return false;
}

static bool check_words(const struct options *o) {
        return is_word("type", o->type, types, ARRAY_SIZE(types)) &&
               is_word("length", o->length, lengths, ARRAY_SIZE(lengths)) &&
               is_word("format", o->format, formats, ARRAY_SIZE(formats));
}

static int add_parameter(char **path, const char *name, const char *value) {
        _cleanup_free_ char *old = *path;
        char *escaped;
        int r;

        if (!value)
                return TAKE_PTR(old), 0;
        escaped = curl_easy_escape(NULL, value, 0);
        if (!escaped)
                return TAKE_PTR(old), -ENOMEM;
        r = asprintf(path, "%s&%s=%s", old, name, escaped);
        curl_free(escaped);
        return r < 0 ? -ENOMEM : 0;
}

static char *make_path(const struct options *o, uint64_t deadline) {
        char *path = strdup("/v1/summarize?stream=true"), ms[24];

        snprintf(ms, sizeof(ms), "%" PRIu64, deadline / 1000);
        if (!path || add_parameter(&path, "deadline_ms", deadline ? ms : NULL) < 0 ||
            add_parameter(&path, "priority", o->background ? "background" : NULL) < 0 ||
            add_parameter(&path, "type", o->type) < 0 ||
            add_parameter(&path, "length", o->length) < 0 ||
            add_parameter(&path, "format", o->format) < 0 ||
            add_parameter(&path, "context", o->context) < 0 ||
            add_parameter(&path, "max_tokens", o->max_tokens) < 0 ||
            add_parameter(&path, "model", o->model) < 0) {
                free(path);
                return NULL;
        }
        return path;
}

static json_t *detached_request(const struct options *o, const char *document, size_t size) {
        json_t *text = json_stringn(document, size);
        json_t *request = text ? json_pack("{s:o}", "text", text) : NULL;
        json_t *number = o->max_tokens ? json_loads(o->max_tokens, JSON_DECODE_ANY, NULL) : NULL;

        if (!request) {
                json_decref(number);
                return NULL;
        }
        if (o->context)
                json_object_set_new(request, "context", json_string(o->context));
        if (o->max_tokens) /* the daemon says so when it is no number */
                json_object_set_new(request, "max_tokens",
                                    number ? number : json_string(o->max_tokens));
        return request;
}

static int summarize_detached(const struct options *o, const char *document, size_t size) {
        json_t *request = detached_request(o, document, size);
        int status;

        if (!request) {
                term_error("the text is not valid UTF-8");
                return error_row(ERROR_INVALID_INPUT)->exit_status;
        }
        status = detach_start(o, "Summarize", request);
        json_decref(request);
        return status;
}

static void show_progress(struct summary *s, json_t *event) {
        const char *stage = json_string_value(json_object_get(event, "stage"));
        long long piece = json_integer_value(json_object_get(event, "piece"));
        long long pieces = json_integer_value(json_object_get(event, "pieces"));
        char line[96];

        if (s->started || s->o->quiet || !stage)
                return;
        if (pieces > 1)
                snprintf(line, sizeof(line), "%s: part %lld of %lld", stage, piece, pieces);
        else
                snprintf(line, sizeof(line), "%s…", stage);
        term_progress(line);
}

static bool take_delta(struct summary *s, json_t *event) {
        json_t *text = json_object_get(event, "text");
        size_t n = json_string_length(text);

        if (n == 0)
                return true;
        if (!s->started && !s->o->quiet)
                term_progress(NULL);
        s->started = true;
        s->ends_with_newline = json_string_value(text)[n - 1] == '\n';
        json_array_append(s->text, text);
        if (s->o->json || s->o->no_stream)
                return true;
        return term_text(stdout, json_string_value(text), n,
                         isatty(STDOUT_FILENO) && !s->o->raw);
}

static bool on_event(void *userdata, const char *name, const char *data, size_t n) {
        struct summary *s = userdata;
        json_t *event = json_loadb(data, n, 0, NULL);
        bool go_on = true;

        if (strcmp(name, "progress") == 0)
                show_progress(s, event);
        else if (strcmp(name, "delta") == 0)
                go_on = take_delta(s, event);
        else if (strcmp(name, "done") == 0)
                s->done = json_incref(event);
        else if (strcmp(name, "error") == 0) {
                http_parse_failure(data, n, &s->failure);
                s->failed = true;
                go_on = false;
        }
        json_decref(event);
        return go_on;
}

static bool on_data(void *userdata, const char *p, size_t n) {
        struct summary *s = userdata;
        return sse_feed(&s->sse, p, n);
}

static bool on_idle(void *userdata) {
        return !interrupted();
}

static char *whole_text(const json_t *pieces) {
        size_t i, size = 1;
        json_t *piece;
        char *text, *p;

        json_array_foreach(pieces, i, piece)
                size += json_string_length(piece);
        p = text = malloc(size);
        if (!text)
                return NULL;
        json_array_foreach(pieces, i, piece)
                p = stpcpy(p, json_string_value(piece));
        *p = 0;
        return text;
}

static void print_coverage(const struct summary *s) {
        json_t *c = json_object_get(s->done, "coverage");
        long long tokens = json_integer_value(json_object_get(c, "tokens"));
        long long used = json_integer_value(json_object_get(c, "tokens_used"));

        fprintf(stderr,
                "bnctl: read %lld of %lld tokens (%lld bytes, %lld dropped) in %lld piece(s), "
                "%lld merge round(s)\n",
                used, tokens, (long long)json_integer_value(json_object_get(c, "bytes")),
                (long long)json_integer_value(json_object_get(c, "dropped")),
                (long long)json_integer_value(json_object_get(c, "pieces")),
                (long long)json_integer_value(json_object_get(c, "rounds")));
}

static bool is_cut(const struct summary *s) {
        const char *finish = json_string_value(json_object_get(s->done, "finish_reason"));
        return finish && strcmp(finish, "length") == 0;
}

static int print_end(struct summary *s) {
        _cleanup_free_ char *text = whole_text(s->text);

        if (!text)
                return 1;
        if (s->o->json) {
                json_object_set_new(s->done, "summary", json_string(text));
                json_dumpf(s->done, stdout, JSON_INDENT(2));
                putchar('\n');
                return 0;
        }
        if (s->o->no_stream)
                term_text(stdout, text, strlen(text), isatty(STDOUT_FILENO) && !s->o->raw);
        if (!s->ends_with_newline)
                putchar('\n');
        fflush(stdout);
        if (!s->o->quiet && is_cut(s))
                fputs("bnctl: the summary was cut at its length limit (see --max-tokens)\n",
                      stderr);
        if (!s->o->quiet && (s->o->verbose || isatty(STDERR_FILENO)))
                print_coverage(s);
        return 0;
}

static int run(struct summary *s, const char *path, const char *document, size_t size) {
        struct http_request r = {.socket = s->o->socket, .path = path, .body = document,
                                 .body_size = size, .content_type = "text/plain",
                                 .accept = "text/event-stream", .data = on_data,
                                 .idle = on_idle, .userdata = s};
        int result = http_perform(&r, &s->failure);

        if (!s->o->quiet)
                term_progress(NULL);
        if (result == -ECANCELED && !s->failed)
                return interrupted() ? EXIT_INTERRUPTED : EXIT_READER_GONE;
        if (result == 0 && s->done)
                return print_end(s);
        if (result == 0) {
                s->failure.code = ERROR_WORKER_FAILED;
                snprintf(s->failure.text, sizeof(s->failure.text), "%s",
                         error_row(ERROR_WORKER_FAILED)->text);
        }
        if (s->started && !s->o->json)
                putchar('\n');
        return report_failure(&s->failure);
}

int cmd_summarize(struct options *o) {
        struct summary s = {.o = o, .sse = {.on_event = on_event}};
        const char *source = o->n_args > 0 ? o->args[0] : o->file ? o->file : "-";
        _cleanup_free_ char *path = NULL;
        uint64_t deadline;
        char *document;
        size_t size;
        int status;

        if (!check_words(o))
                return EXIT_USAGE;
        if (o->keep && !o->detach) {
                term_error("--keep is for --detach");
                return EXIT_USAGE;
        }
        if (o->n_args > 1 || (o->n_args == 0 && !o->file && !input_given())) {
                term_error("give one FILE, or - for standard input");
                return EXIT_USAGE;
        }
        status = options_usec("deadline", o->deadline, 0.001, 86400, &deadline);
        if (!status)
                status = input_read(source, &document, &size);
        if (status)
                return status;
        path = make_path(o, deadline);
        s.sse.userdata = &s;
        s.text = json_array();
        if (o->detach)
                status = summarize_detached(o, document, size);
        else
                status = path && s.text ? run(&s, path, document, size) : 1;
        input_free(document, size);
        json_decref(s.text);
        json_decref(s.done);
        sse_done(&s.sse);
        return status;
}
