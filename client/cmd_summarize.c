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
#include "client/document.h"
#include "client/input.h"
#include "client/receipt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2 };

static const char *const types[] = {"tldr", "teaser", "key-points", "headline"};
static const char *const lengths[] = {"short", "medium", "long"};
static const char *const formats[] = {"plain-text", "markdown"};

static bool check_words(const struct options *o) {
        return options_word("type", o->type, types, ARRAY_SIZE(types)) &&
               options_word("length", o->length, lengths, ARRAY_SIZE(lengths)) &&
               options_word("format", o->format, formats, ARRAY_SIZE(formats));
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
            add_parameter(&path, "receipt", o->receipt ? "true" : NULL) < 0 ||
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

static int summarize(struct options *o, json_t **ret_receipt) {
        struct document d = {.o = o, .name = "summary", .type = "text/plain",
                             .hold = o->replay};
        const char *source = o->n_args > 0 ? o->args[0] : o->file ? o->file : "-";
        _cleanup_free_ char *path = NULL;
        uint64_t deadline;
        char *document;
        size_t size;
        int status;

        if (!check_words(o))
                return EXIT_USAGE;
        if ((o->keep && !o->detach) || (o->receipt && o->detach)) {
                term_error(o->keep ? "--keep is for --detach" : "--receipt is not for --detach");
                return EXIT_USAGE;
        }
        if (o->n_args + !!o->file > 1 || (o->n_args == 0 && !o->file && !input_given())) {
                term_error("give one FILE, or - for standard input");
                return EXIT_USAGE;
        }
        status = options_usec("deadline", o->deadline, 0.001, 86400, &deadline);
        if (!status)
                status = input_read(source, &document, &size);
        if (status)
                return status;
        path = make_path(o, deadline);
        if (o->detach)
                status = summarize_detached(o, document, size);
        else
                status = path ? document_run(&d, path, document, size) : 1;
        if (!status && o->replay)
                *ret_receipt = json_incref((json_t *)receipt_of(d.done));
        else if (!status && !o->detach)
                status = document_print(&d);
        if (!status && o->receipt && !o->replay)
                status = receipt_save(o, receipt_of(d.done));
        input_free(document, size);
        document_done(&d);
        return status;
}

int summarize_again(struct options *o, json_t **ret_receipt) {
        return summarize(o, ret_receipt);
}

int cmd_summarize(struct options *o) {
        return summarize(o, NULL);
}
