/* The stream of an answer about a document. Text is passed on as it comes, unless it is to be JSON
 * or held back; corrections and the last event are kept. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/document.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_READER_GONE = 141 };

static void show_progress(struct document *d, json_t *event) {
        const char *stage = json_string_value(json_object_get(event, "stage"));
        long long piece = json_integer_value(json_object_get(event, "piece"));
        long long pieces = json_integer_value(json_object_get(event, "pieces"));
        char line[96];

        if (d->started || d->o->quiet || !stage)
                return;
        if (pieces > 1)
                snprintf(line, sizeof(line), "%s: part %lld of %lld", stage, piece, pieces);
        else
                snprintf(line, sizeof(line), "%s…", stage);
        term_progress(line);
}

static bool take_delta(struct document *d, json_t *event) {
        json_t *text = json_object_get(event, "text");
        size_t n = json_string_length(text);

        if (n == 0)
                return true;
        if (!d->started && !d->o->quiet)
                term_progress(NULL);
        d->started = true;
        d->ends_with_newline = json_string_value(text)[n - 1] == '\n';
        json_array_append(d->text, text);
        if (d->o->json || d->o->no_stream || d->hold)
                return true;
        return term_text(stdout, json_string_value(text), n,
                         isatty(STDOUT_FILENO) && !d->o->raw);
}

static bool on_event(void *userdata, const char *name, const char *data, size_t n) {
        struct document *d = userdata;
        json_t *event = json_loadb(data, n, 0, NULL);
        bool go_on = true;

        if (strcmp(name, "progress") == 0)
                show_progress(d, event);
        else if (strcmp(name, "delta") == 0)
                go_on = take_delta(d, event);
        else if (strcmp(name, "correction") == 0)
                json_array_append(d->corrections, event);
        else if (strcmp(name, "done") == 0)
                d->done = json_incref(event);
        else if (strcmp(name, "error") == 0) {
                http_parse_failure(data, n, &d->failure);
                d->failed = true;
                go_on = false;
        }
        json_decref(event);
        return go_on;
}

static bool on_data(void *userdata, const char *p, size_t n) {
        struct document *d = userdata;
        return sse_feed(&d->sse, p, n);
}

static bool on_idle(void *userdata) {
        return !interrupted();
}

char *document_text(const struct document *d) {
        const json_t *pieces = d->text;
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

static void print_coverage(const struct document *d) {
        json_t *c = json_object_get(d->done, "coverage");
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

static bool is_cut(const struct document *d) {
        const char *finish = json_string_value(json_object_get(d->done, "finish_reason"));
        return finish && strcmp(finish, "length") == 0;
}

static void print_json(struct document *d, const char *text) {
        json_object_set_new(d->done, d->name, json_string(text));
        if (json_array_size(d->corrections) > 0)
                json_object_set(d->done, "corrections", d->corrections);
        json_dumpf(d->done, stdout, JSON_INDENT(2));
        putchar('\n');
}

static void print_notices(const struct document *d) {
        json_t *left = json_object_get(json_object_get(d->done, "coverage"), "left");

        if (is_cut(d))
                fprintf(stderr, "bnctl: the %s was cut at its length limit%s\n", d->name,
                        strcmp(d->name, "summary") == 0 ? " (see --max-tokens)" : "");
        if (json_integer_value(left) > 0)
                fprintf(stderr, "bnctl: %lld part(s) were left as they are: the model had no "
                                "answer that could stand for them\n",
                        (long long)json_integer_value(left));
        if (d->o->verbose || isatty(STDERR_FILENO))
                print_coverage(d);
}

int document_print(struct document *d) {
        _cleanup_free_ char *text = document_text(d);

        if (!text)
                return 1;
        if (d->o->json) {
                print_json(d, text);
                return 0;
        }
        if (d->o->no_stream)
                term_text(stdout, text, strlen(text), isatty(STDOUT_FILENO) && !d->o->raw);
        if (!d->ends_with_newline)
                putchar('\n');
        fflush(stdout);
        if (!d->o->quiet)
                print_notices(d);
        return 0;
}

int document_run(struct document *d, const char *path, const char *body, size_t size) {
        struct http_request r = {.socket = d->o->socket, .path = path, .body = body,
                                 .body_size = size, .content_type = d->type,
                                 .accept = "text/event-stream", .data = on_data,
                                 .idle = on_idle, .userdata = d};
        int result;

        d->sse = (struct sse){.on_event = on_event, .userdata = d};
        d->text = json_array();
        d->corrections = json_array();
        if (!d->text || !d->corrections)
                return 1;
        result = http_perform(&r, &d->failure);
        if (!d->o->quiet)
                term_progress(NULL);
        if (result == -ECANCELED && !d->failed)
                return interrupted() ? EXIT_INTERRUPTED : EXIT_READER_GONE;
        if (result == 0 && d->done)
                return 0;
        if (result == 0) {
                d->failure.code = ERROR_WORKER_FAILED;
                snprintf(d->failure.text, sizeof(d->failure.text), "%s",
                         error_row(ERROR_WORKER_FAILED)->text);
        }
        if (d->started && !d->o->json && !d->hold)
                putchar('\n');
        return report_failure(&d->failure);
}

void document_done(struct document *d) {
        json_decref(d->text);
        json_decref(d->corrections);
        json_decref(d->done);
        sse_done(&d->sse);
}
