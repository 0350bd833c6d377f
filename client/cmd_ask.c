/* bnctl ask: the prompt from the arguments, standard input or --file as the material, or both. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/chat.h"
#include "client/commands.h"
#include "client/detach.h"
#include "client/input.h"
#include "client/interrupt.h"
#include "client/receipt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2, EXIT_READER_GONE = 141 };

int report_failure(const struct http_failure *failure) {
        term_error(failure->text);
        return error_row(failure->code)->exit_status;
}

/* Instruction first, then the material, an empty line between: what small models follow best. */
static char *join_prompt(const char *prompt, const char *material) {
        char *text;

        if (!prompt)
                return strdup(material);
        if (!material)
                return strdup(prompt);
        return asprintf(&text, "%s\n\n%s", prompt, material) < 0 ? NULL : text;
}

static bool is_blank(const char *text) {
        return text[strspn(text, " \t\r\n")] == '\0';
}

static int gather(struct options *o, char **ret) {
        _cleanup_free_ char *prompt = NULL;
        char *material = NULL;
        size_t size = 0;
        int status;

        if (o->n_args > 0)
                prompt = input_join(o->args, o->n_args);
        if (prompt && is_blank(prompt)) {
                free(prompt);
                prompt = NULL;
        }
        if (o->file || input_given()) {
                status = input_read(o->file ? o->file : "-", &material, &size);
                if (status)
                        return status;
                if (strlen(material) != size) {
                        input_free(material, size);
                        term_error("the material is not text: it holds zero bytes");
                        return error_row(ERROR_INVALID_INPUT)->exit_status;
                }
        }
        if (material && is_blank(material)) {
                input_free(material, size);
                material = NULL;
        }
        if (!prompt && !material) {
                term_error("nothing to ask: give a prompt, or text on standard input "
                           "(bnctl ask --help)");
                return EXIT_USAGE;
        }
        *ret = join_prompt(prompt, material);
        input_free(material, size);
        return *ret ? 0 : 1;
}

static void print_json(const struct chat_reply *r) {
        json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:O?}", "text", r->text.p ? r->text.p : "",
                                "model", r->model, "job", r->job, "finish_reason", r->finish,
                                "usage", r->usage);

        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(out);
}

static void print_end(const struct options *o, const struct chat_reply *r) {
        bool terminal = isatty(STDOUT_FILENO);

        if (o->json) {
                print_json(r);
                return;
        }
        if (o->no_stream && r->text.n > 0)
                term_text(stdout, r->text.p, r->text.n, terminal && !o->raw);
        if (r->text.n == 0 || r->text.p[r->text.n - 1] != '\n')
                putchar('\n');
        fflush(stdout);
        if (strcmp(r->finish, "length") == 0 && !o->quiet)
                fputs("bnctl: the answer was cut at its length limit (see --max-tokens)\n",
                      stderr);
        if (o->verbose)
                fprintf(stderr, "bnctl: model %s, %lld tokens read, %lld written\n", r->model,
                        (long long)json_integer_value(json_object_get(r->usage, "prompt_tokens")),
                        (long long)json_integer_value(
                                json_object_get(r->usage, "completion_tokens")));
}

static int finish(const struct options *o, int r, const struct chat_reply *reply,
                  const struct http_failure *failure) {
        bool printed = reply->text.n > 0 && !o->json && !o->replay;

        if (r == -ECANCELED) {
                if (printed)
                        putchar('\n');
                return interrupted() ? EXIT_INTERRUPTED : EXIT_READER_GONE;
        }
        if (r != 0) {
                if (printed)
                        putchar('\n');
                return report_failure(failure);
        }
        if (!o->replay)
                print_end(o, reply);
        return o->receipt && !o->replay ? receipt_save(o, reply->receipt) : 0;
}

static int ask_detached(const struct options *o, json_t *messages) {
        json_t *request = json_pack("{s:O}", "messages", messages);
        int status = chat_add_options(request, o);

        if (!status)
                status = detach_start(o, "Generate", request);
        json_decref(request);
        return status;
}

static int make_messages(struct options *o, json_t **ret) {
        char *prompt = NULL;
        int status = gather(o, &prompt);

        if (status)
                return status;
        *ret = json_array();
        if (o->system)
                status = chat_add_message(*ret, "system", o->system, strlen(o->system));
        if (!status)
                status = chat_add_message(*ret, "user", prompt, strlen(prompt));
        input_free(prompt, strlen(prompt));
        return status;
}

int ask_again(struct options *o, const json_t *parameters, json_t **ret_receipt) {
        struct chat_reply reply = {0};
        struct http_failure failure = {0};
        json_t *messages = NULL;
        int status = make_messages(o, &messages);

        if (!status)
                status = finish(o, chat_run(o, messages, parameters, &reply, &failure), &reply,
                                &failure);
        if (!status)
                *ret_receipt = json_incref(reply.receipt);
        json_decref(messages);
        chat_reply_done(&reply);
        return status;
}

int cmd_ask(struct options *o) {
        struct chat_reply reply = {0};
        struct http_failure failure = {0};
        json_t *check, *messages = NULL;
        int status, r;

        if ((o->keep && !o->detach) || (o->receipt && o->detach)) {
                term_error(o->keep ? "--keep is for --detach" : "--receipt is not for --detach");
                return EXIT_USAGE;
        }
        check = json_object();
        status = chat_add_options(check, o);
        json_decref(check);
        if (!status)
                status = make_messages(o, &messages);
        if (!status && o->detach) {
                status = ask_detached(o, messages);
        } else if (!status) {
                r = chat_run(o, messages, NULL, &reply, &failure);
                status = finish(o, r, &reply, &failure);
        }
        json_decref(messages);
        chat_reply_done(&reply);
        return status;
}
