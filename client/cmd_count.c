/* bnctl count: what bnctl ask would read of a text, without asking. One request for each file, so
 * that each gets its own line and its own error; the worst of them is the exit status. */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "client/chat.h"
#include "client/commands.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2 };

/* The request that ask would make. NULL without memory, or when the text is none. */
static json_t *request_of(const struct options *o, const char *text, size_t n) {
        json_t *messages = json_array();
        int r = o->system ? chat_add_message(messages, "system", o->system, strlen(o->system)) : 0;

        if (!r)
                r = chat_add_message(messages, "user", text, n);
        if (r) {
                json_decref(messages);
                return NULL;
        }
        return json_pack("{s:s,s:o}", "model", o->model ? o->model : "", "messages", messages);
}

static void print_line(const char *name, json_int_t tokens, json_int_t context) {
        printf("%10" JSON_INTEGER_FORMAT " %10" JSON_INTEGER_FORMAT "  %-4s  %s\n", tokens, context,
               tokens < context ? "yes" : "no", name);
}

/* The exit status; a JSON object is added to list. */
static int show(const struct options *o, const char *name, const json_t *reply, json_t *list) {
        json_int_t tokens = json_integer_value(json_object_get(reply, "input_tokens"));
        json_int_t context = json_integer_value(json_object_get(reply, "context_length"));
        bool fits = tokens < context;

        if (o->json)
                json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:b}", "file", name, "tokens",
                                                      tokens, "context", context, "fits", fits));
        else
                print_line(name, tokens, context);
        return fits ? 0 : error_row(ERROR_CONTEXT_TOO_LONG)->exit_status;
}

static int count_text(const struct options *o, const char *name, const char *text, size_t n,
                      json_t *list) {
        struct http_failure failure = {0};
        json_t *request = request_of(o, text, n), *reply = NULL;
        int r, status;

        if (!request)
                return error_row(ERROR_INVALID_INPUT)->exit_status;
        r = http_json(o->socket, "/v1/chat/completions/input_tokens", request, &reply, &failure);
        json_decref(request);
        if (r < 0)
                return EXIT_INTERRUPTED;
        if (r > 0) {
                fprintf(stderr, "bnctl: %s: %s\n", name, failure.text);
                return error_row(failure.code)->exit_status;
        }
        status = show(o, name, reply, list);
        json_decref(reply);
        return status;
}

static int count_file(const struct options *o, const char *path, json_t *list) {
        char *text = NULL;
        size_t n = 0;
        int status = input_read(path, &text, &n);

        if (status)
                return status;
        status = count_text(o, path, text, n, list);
        input_free(text, n);
        return status;
}

int cmd_count(struct options *o) {
        json_t *list = json_array();
        int worst = 0;

        if (o->n_args == 0 && !input_given()) {
                term_error("nothing to count: name files, or give text on standard input "
                           "(bnctl count --help)");
                json_decref(list);
                return EXIT_USAGE;
        }
        if (!o->json && !o->quiet)
                printf("%10s %10s  FITS  FILE\n", "TOKENS", "CONTEXT");
        for (int i = 0; i < MAX(o->n_args, 1) && !interrupted(); i++) {
                int status = count_file(o, o->n_args > 0 ? o->args[i] : "-", list);

                worst = MAX(worst, status);
        }
        if (o->json) {
                json_dumpf(list, stdout, JSON_INDENT(2));
                putchar('\n');
        }
        json_decref(list);
        return worst;
}
