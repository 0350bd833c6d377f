/* bnctl rewrite, proofread, extract, classify, embed: one text in, and the answer in the shape of
 * the verb. All go as a JSON request over the socket, or detached over D-Bus. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/chat.h"
#include "client/commands.h"
#include "client/detach.h"
#include "client/document.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2 };

static int not_text(void) {
        term_error("the text is not valid UTF-8");
        return error_row(ERROR_INVALID_INPUT)->exit_status;
}

static int check_usage(const struct options *o) {
        static const char *const tones[] = {"as-is", "more-formal", "more-casual"};
        static const char *const lengths[] = {"as-is", "shorter", "longer"};
        static const char *const formats[] = {"as-is", "markdown", "plain-text"};

        if (!options_word("tone", o->tone, tones, ARRAY_SIZE(tones)) ||
            !options_word("length", o->length, lengths, ARRAY_SIZE(lengths)) ||
            !options_word("format", o->format, formats, ARRAY_SIZE(formats)))
                return EXIT_USAGE;
        if (o->keep && !o->detach) {
                term_error("--keep is for --detach");
                return EXIT_USAGE;
        }
        if (o->diff && (o->json || o->detach || o->no_stream)) {
                term_error("--diff is for text that is printed whole");
                return EXIT_USAGE;
        }
        if (o->n_args > 0 ? o->file != NULL : !o->file && !input_given()) {
                term_error("give one FILE, or - for standard input");
                return EXIT_USAGE;
        }
        return 0;
}

static int read_text(const struct options *o, char **ret, size_t *ret_size) {
        return input_read(o->n_args > 0 ? o->args[0] : o->file ? o->file : "-", ret, ret_size);
}

static void add_word(json_t *request, const char *key, const char *word) {
        if (word)
                json_object_set_new(request, key, json_string(word));
}

static int add_schema(json_t *request, const char *path) {
        json_error_t error;
        json_t *schema;
        char *text;
        size_t size;
        int status = input_read(path, &text, &size);

        if (status)
                return status;
        schema = json_loadb(text, size, JSON_DECODE_ANY, &error);
        input_free(text, size);
        if (schema)
                return json_object_set_new(request, "schema", schema) < 0;
        fprintf(stderr, "bnctl: %s is no JSON: line %d: %s\n", path, error.line, error.text);
        return error_row(ERROR_INVALID_INPUT)->exit_status;
}

static void add_labels(json_t *request, const char *labels) {
        json_t *list = json_array();

        for (const char *end;; labels = end + 1) {
                end = strchrnul(labels, ',');
                json_array_append_new(list, json_stringn(labels, (size_t)(end - labels)));
                if (*end == 0)
                        break;
        }
        json_object_set_new(request, "labels", list);
}

/* The text and everything that was asked of it. 0 or an exit status. */
static int make_request(const struct options *o, const char *text, size_t size, json_t **ret) {
        json_t *v = json_stringn(text, size), *request;
        int status;

        if (!v)
                return not_text();
        request = json_pack("{s:o}", "text", v);
        add_word(request, "tone", o->tone);
        add_word(request, "length", o->length);
        add_word(request, "format", o->format);
        add_word(request, "instructions", o->instructions);
        status = chat_add_options(request, o);
        if (!status && o->schema)
                status = add_schema(request, o->schema);
        if (!status && o->labels)
                add_labels(request, o->labels);
        if (status)
                json_decref(request);
        else
                *ret = request;
        return status;
}

/* --- text that is streamed --- */

static size_t offset(const json_t *correction, const char *name) {
        return (size_t)json_integer_value(json_object_get(correction, name));
}

/* In order, and within the text that was sent? */
static bool corrections_fit(const json_t *corrections, size_t size) {
        size_t i, at = 0;
        json_t *c;

        json_array_foreach(corrections, i, c) {
                if (offset(c, "start") < at || offset(c, "end") < offset(c, "start"))
                        return false;
                at = offset(c, "end");
        }
        return at <= size;
}

/* The input with what was replaced in it. */
static void print_diff(const struct document *d, const char *text, size_t size) {
        bool safe = isatty(STDOUT_FILENO) && !d->o->raw;
        size_t i, at = 0;
        json_t *c;

        json_array_foreach(d->corrections, i, c) {
                size_t start = offset(c, "start"), end = offset(c, "end");
                json_t *new = json_object_get(c, "correction");

                term_text(stdout, text + at, start - at, safe);
                if (end > start) {
                        fputs("[-", stdout);
                        term_text(stdout, text + start, end - start, safe);
                        fputs("-]", stdout);
                }
                if (json_string_length(new) > 0) {
                        fputs("{+", stdout);
                        term_text(stdout, json_string_value(new), json_string_length(new), safe);
                        fputs("+}", stdout);
                }
                at = end;
        }
        term_text(stdout, text + at, size - at, safe);
}

static int stream(const struct options *o, const char *path, json_t *request, const char *text,
                  size_t size) {
        struct document d = {.o = o, .name = "text", .type = "application/json", .hold = o->diff};
        char *body;
        int status = 1;

        json_object_set_new(request, "stream", json_true());
        body = json_dumps(request, JSON_COMPACT);
        if (body)
                status = document_run(&d, path, body, strlen(body));
        if (!status && o->diff && !corrections_fit(d.corrections, size)) {
                term_error(error_row(ERROR_WORKER_FAILED)->text);
                status = error_row(ERROR_WORKER_FAILED)->exit_status;
        }
        if (!status && o->diff) {
                print_diff(&d, text, size);
                d.ends_with_newline = size > 0 && text[size - 1] == '\n';
        }
        if (!status)
                status = document_print(&d);
        input_free(body, body ? strlen(body) : 0);
        document_done(&d);
        return status;
}

/* --- answers that come whole --- */

static int fetch(const struct options *o, const char *path, const char *accept,
                 const json_t *request, struct http_body *ret) {
        struct http_failure failure = {0};
        int result = http_fetch(o->socket, path, accept, request, ret, &failure);

        return result > 0 ? report_failure(&failure) : result < 0 ? EXIT_INTERRUPTED : 0;
}

static void print_text(const struct options *o, const struct http_body *b) {
        if (b->n > 0)
                term_text(stdout, b->p, b->n, isatty(STDOUT_FILENO) && !o->raw);
        putchar('\n');
}

static int by_score(const void *a, const void *b) {
        double x = json_real_value(json_object_get(*(json_t *const *)a, "score"));
        double y = json_real_value(json_object_get(*(json_t *const *)b, "score"));

        return x < y ? 1 : x > y ? -1 : 0;
}

static void print_scores(const struct options *o, const json_t *reply) {
        json_t *scores = json_object_get(reply, "scores"), *sorted[64];
        size_t n = MIN(json_array_size(scores), ARRAY_SIZE(sorted));

        for (size_t i = 0; i < n; i++)
                sorted[i] = json_array_get(scores, i);
        qsort(sorted, n, sizeof(*sorted), by_score);
        for (size_t i = 0; i < n; i++) {
                json_t *label = json_object_get(sorted[i], "label");

                printf("%.6f\t", json_real_value(json_object_get(sorted[i], "score")));
                term_text(stdout, json_string_value(label), json_string_length(label),
                          isatty(STDOUT_FILENO));
                putchar('\n');
        }
}

/* The reply as JSON, printed if that was asked for; NULL: *ret_status says why. */
static json_t *parse(const struct options *o, const struct http_body *b, int *ret_status) {
        json_t *reply = json_loadb(b->p ? b->p : "", b->n, 0, NULL);

        *ret_status = reply ? 0 : error_row(ERROR_WORKER_FAILED)->exit_status;
        if (!reply)
                term_error(error_row(ERROR_WORKER_FAILED)->text);
        else if (o->json)
                print_text(o, b);
        return reply;
}

static int extract(const struct options *o, json_t *request) {
        struct http_body reply = {0};
        int status = fetch(o, "/v1/extract", o->json ? NULL : "text/plain", request, &reply);

        if (!status)
                print_text(o, &reply);
        http_body_done(&reply);
        return status;
}

static int classify(const struct options *o, json_t *request) {
        struct http_body body = {0};
        json_t *reply = NULL;
        int status = fetch(o, "/v1/classify", NULL, request, &body);

        if (!status)
                reply = parse(o, &body, &status);
        if (reply && !o->json)
                print_scores(o, reply);
        json_decref(reply);
        http_body_done(&body);
        return status;
}

/* --- the verbs --- */

struct task {
        const char *path, *method;
        int (*whole)(const struct options *o, json_t *request); /* NULL: it streams */
};

static int run(struct options *o, const struct task *t) {
        json_t *request = NULL;
        char *text = NULL;
        size_t size = 0;
        int status = check_usage(o);

        if (!status)
                status = read_text(o, &text, &size);
        if (!status)
                status = make_request(o, text, size, &request);
        if (!status)
                status = o->detach ? detach_start(o, t->method, request)
                         : t->whole ? t->whole(o, request)
                                    : stream(o, t->path, request, text, size);
        json_decref(request);
        input_free(text, size);
        return status;
}

int cmd_rewrite(struct options *o) {
        return run(o, &(const struct task){"/v1/rewrite", "Rewrite", NULL});
}

int cmd_proofread(struct options *o) {
        return run(o, &(const struct task){"/v1/proofread", "Proofread", NULL});
}

int cmd_extract(struct options *o) {
        if (!o->schema) {
                term_error("--schema=FILE says what to look for (bnctl extract --help)");
                return EXIT_USAGE;
        }
        return run(o, &(const struct task){"/v1/extract", "Extract", extract});
}

int cmd_classify(struct options *o) {
        if (!o->labels || !strchr(o->labels, ',')) {
                term_error("--labels=A,B,... names two labels or more (bnctl classify --help)");
                return EXIT_USAGE;
        }
        return run(o, &(const struct task){"/v1/classify", "Classify", classify});
}

/* Texts as an array: one, or one for each line that is not empty. NULL: not UTF-8. */
static json_t *texts_of(const struct options *o, const char *text, size_t size) {
        json_t *list = json_array();

        for (const char *p = text, *end; list && p < text + size; p = end + 1) {
                size_t left = size - (size_t)(p - text);

                end = o->lines ? memchr(p, '\n', left) : NULL;
                end = end ? end : p + left;
                if (end > p &&
                    json_array_append_new(list, json_stringn(p, (size_t)(end - p))) < 0) {
                        json_decref(list);
                        return NULL;
                }
        }
        return list;
}

static void print_vectors(const json_t *reply) {
        json_t *v;
        size_t i;

        json_array_foreach(json_object_get(reply, "data"), i, v) {
                json_dumpf(json_object_get(v, "embedding"), stdout,
                           JSON_COMPACT | JSON_REAL_PRECISION(9));
                putchar('\n');
        }
}

static int embed(const struct options *o, json_t *request) {
        struct http_body body = {0};
        json_t *reply = NULL;
        int status = fetch(o, "/v1/embeddings", NULL, request, &body);

        if (!status)
                reply = parse(o, &body, &status);
        if (reply && !o->json)
                print_vectors(reply);
        json_decref(reply);
        http_body_done(&body);
        return status;
}

int cmd_embed(struct options *o) {
        json_t *request = NULL, *texts = NULL;
        char *text = NULL;
        size_t size = 0;
        int status = check_usage(o);

        if (!status)
                status = read_text(o, &text, &size);
        if (!status) {
                texts = texts_of(o, text, size);
                status = texts ? 0 : not_text();
        }
        if (!status) {
                request = json_pack("{s:O}", "input", texts);
                status = chat_add_options(request, o);
        }
        if (!status)
                status = embed(o, request);
        json_decref(request);
        json_decref(texts);
        input_free(text, size);
        return status;
}
