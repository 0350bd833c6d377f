/* bnctl replay: the request of a receipt once more, with the input given again, since a receipt has
 * none of its text; then the digests are compared. Also the writing of receipts. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/chat.h"
#include "client/commands.h"
#include "client/input.h"
#include "client/receipt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2, EXIT_NOT_EQUAL = 1, EXIT_INPUT = 66 };

const json_t *receipt_of(const json_t *answer) {
        return json_object_get(json_object_get(answer, "bn"), "receipt");
}

int receipt_save(const struct options *o, const json_t *receipt) {
        if (receipt && json_dump_file(receipt, o->receipt, JSON_INDENT(2)) == 0)
                return 0;
        fprintf(stderr, "bnctl: the receipt cannot be written to \"%s\"\n", o->receipt);
        return 1;
}

static const char *word(const json_t *v, const char *name) {
        return json_string_value(json_object_get(v, name));
}

static int load(const char *path, json_t **ret) {
        json_error_t error;

        *ret = json_load_file(path, 0, &error);
        if (*ret && word(*ret, "verb") && word(*ret, "input") && word(*ret, "output"))
                return 0;
        fprintf(stderr, "bnctl: \"%s\" is no receipt that can be read\n", path);
        json_decref(*ret);
        return EXIT_INPUT;
}

/* What differs first, in the order of causes; NULL: nothing. */
static const char *difference(const json_t *before, const json_t *after) {
        const char *model = word(json_object_get(before, "model"), "digest");
        const char *now = word(json_object_get(after, "model"), "digest");

        if (!model || !now || strcmp(model, now) != 0)
                return "the model is another one";
        if (!word(after, "input") || strcmp(word(before, "input"), word(after, "input")) != 0)
                return "the input is another one";
        if (!word(after, "output") || strcmp(word(before, "output"), word(after, "output")) != 0)
                return "the answer is another one";
        return NULL;
}

static int judge(const json_t *before, const json_t *after, const struct options *o) {
        const char *why = difference(before, after);

        if (o->json)
                printf("{\"equal\": %s, \"reason\": %s%s%s}\n", why ? "false" : "true",
                       why ? "\"" : "", why ? why : "null", why ? "\"" : "");
        else
                printf(why ? "not equal: %s\n" : "equal\n", why);
        return why ? EXIT_NOT_EQUAL : 0;
}

/* /v1/summarize samples as the daemon does by default (worker/defaults.c), whose seed is of no
 * matter; a job of the bus may ask for something else. */
static bool sampled_by_default(const json_t *parameters) {
        static const struct {
                const char *name;
                double value;
        } defaults[] = {
                {"temperature", 0}, {"repeat_penalty", 1}, {"repeat_last_n", 64},
                {"frequency_penalty", 0}, {"presence_penalty", 0}, {"dry_multiplier", 0.8F},
                {"dry_base", 1.75}, {"dry_allowed_length", 4},
        };

        for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
                json_t *v = json_object_get(parameters, defaults[i].name);

                if (v && (float)json_number_value(v) != (float)defaults[i].value)
                        return false;
        }
        return true;
}

static int replay_summary(struct options *o, const json_t *parameters, json_t **ret) {
        char tokens[24];

        if (!sampled_by_default(parameters)) {
                term_error("the summary was sampled with numbers of its own, which only the bus "
                           "can be asked for: it cannot be made again here");
                return EXIT_USAGE;
        }
        snprintf(tokens, sizeof(tokens), "%lld",
                 (long long)json_integer_value(json_object_get(parameters, "max_tokens")));
        o->max_tokens = tokens;
        o->type = word(parameters, "type");
        o->length = word(parameters, "length");
        o->format = word(parameters, "format");
        return summarize_again(o, ret);
}

int cmd_replay(struct options *o) {
        json_t *before, *parameters, *after = NULL;
        int status;

        if (o->n_args < 1) {
                term_error("give the file of a receipt, and its input again");
                return EXIT_USAGE;
        }
        status = load(o->args[0], &before);
        if (status)
                return status;
        o->args++;
        o->n_args--;
        o->replay = true;
        o->receipt = "";
        o->model = word(json_object_get(before, "model"), "name");
        parameters = json_object_get(before, "parameters");
        if (strcmp(word(before, "verb"), "summarize") == 0) {
                status = replay_summary(o, parameters, &after);
        } else if (strcmp(word(before, "verb"), "chat") == 0) {
                status = ask_again(o, parameters, &after);
        } else {
                term_error("only answers of ask and summarize can be made again");
                status = EXIT_USAGE;
        }
        if (!status)
                status = judge(before, after, o);
        json_decref(after);
        json_decref(before);
        return status;
}
