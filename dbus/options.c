/* One row per key. A key may be known but not honoured by this version (UNSUPPORTED): nothing a
 * client asked for is ignored. sd-bus has checked that the message is well formed; its reading
 * functions fail only when the type is not the one asked for. */
#include <errno.h>
#include <string.h>

#include "dbus/options.h"
#include "dbus/peer.h"
#include "dbus/token.h"
#include "engine/base/macro.h"
#include "policy/limits.h"

enum kind { WORD, UINT, DOUBLE, SEED, DEADLINE, MODE, DETACH, KEEP, TOKEN, RECEIPT, UNSUPPORTED };
enum {
        FOR_GENERATE = 1 << 0, FOR_SUMMARIZE = 1 << 1, FOR_REWRITE = 1 << 2, FOR_PROOFREAD = 1 << 3,
        FOR_EXTRACT = 1 << 4, FOR_CLASSIFY = 1 << 5, FOR_EMBED = 1 << 6, FOR_COUNT = 1 << 7,
        FOR_LIMITED = FOR_GENERATE | FOR_SUMMARIZE | FOR_EXTRACT, /* answers of a length */
        FOR_SAMPLED = FOR_LIMITED | FOR_REWRITE | FOR_PROOFREAD,
        FOR_ALL = FOR_SAMPLED | FOR_CLASSIFY | FOR_EMBED,
};

struct rule {
        const char *key;
        enum kind kind;
        unsigned verbs;
        size_t offset;             /* in struct wire_job */
        const char *const *words;  /* WORD: their index is the value */
        double min, max;           /* UINT, DOUBLE */
};

#define WORDS(...) (const char *const[]){ __VA_ARGS__, NULL }
#define FIELD(f)   offsetof(struct wire_job, f)

static const struct rule rules[] = {
        { "priority", WORD, FOR_ALL, FIELD(priority), WORDS("interactive", "background"), 0, 0 },
        { "input-format", WORD, FOR_ALL | FOR_COUNT, FIELD(input_format),
          WORDS("text", "chat-json", "request-json"), 0, 0 },
        { "output", WORD, FOR_ALL, FIELD(output_format), WORDS("text", "events"), 0, 0 },
        { "mode", MODE, FOR_GENERATE | FOR_COUNT, FIELD(verb), WORDS("chat", "complete"), 0, 0 },
        { "type", WORD, FOR_SUMMARIZE, FIELD(summary_type),
          WORDS("tldr", "teaser", "key-points", "headline"), 0, 0 },
        { "length", WORD, FOR_SUMMARIZE, FIELD(summary_length), WORDS("short", "medium", "long"), 0,
          0 },
        { "format", WORD, FOR_SUMMARIZE, FIELD(text_format), WORDS("plain-text", "markdown"), 0,
          0 },
        { "tone", WORD, FOR_REWRITE, FIELD(summary_type),
          WORDS("as-is", "more-formal", "more-casual"), 0, 0 },
        { "length", WORD, FOR_REWRITE, FIELD(summary_length), WORDS("as-is", "shorter", "longer"),
          0, 0 },
        { "format", WORD, FOR_REWRITE, FIELD(text_format),
          WORDS("as-is", "markdown", "plain-text"), 0, 0 },
        { "max-output-tokens", UINT, FOR_LIMITED, FIELD(max_output_tokens), NULL, 1, UINT32_MAX },
        { "temperature", DOUBLE, FOR_SAMPLED, FIELD(temperature), NULL, 0, 2 },
        { "top-p", DOUBLE, FOR_SAMPLED, FIELD(top_p), NULL, 0, 1 },
        { "min-p", DOUBLE, FOR_SAMPLED, FIELD(min_p), NULL, 0, 1 },
        { "top-k", UINT, FOR_SAMPLED, FIELD(top_k), NULL, 0, UINT32_MAX - 1 },
        { "seed", SEED, FOR_SAMPLED, FIELD(seed), NULL, 0, 0 },
        { "deadline-usec", DEADLINE, FOR_ALL, FIELD(deadline_usec), NULL, 0, 0 },
        { "detach", DETACH, FOR_ALL & ~FOR_EMBED, 0, NULL, 0, 0 },
        { "keep-result-usec", KEEP, FOR_ALL & ~FOR_EMBED, FIELD(keep_usec), NULL, 0, 0 },
        { "token", TOKEN, FOR_ALL, 0, NULL, 0, 0 },
        { "grammar", UNSUPPORTED, FOR_ALL, 0, NULL, 0, 0 },
        { "receipt", RECEIPT, FOR_GENERATE | FOR_SUMMARIZE, 0, NULL, 0, 0 },
};

struct wire_job options_default(enum wire_verb verb) {
        return (struct wire_job){ .verb = verb, .temperature = -1, .top_p = -1, .min_p = -1,
                                  .top_k = UINT32_MAX };
}

static unsigned bit_of(enum wire_verb verb) {
        static const unsigned bits[_WIRE_VERB_MAX] = {
                [WIRE_VERB_CHAT] = FOR_GENERATE,       [WIRE_VERB_COMPLETE] = FOR_GENERATE,
                [WIRE_VERB_SUMMARIZE] = FOR_SUMMARIZE, [WIRE_VERB_EMBED] = FOR_EMBED,
                [WIRE_VERB_REWRITE] = FOR_REWRITE,     [WIRE_VERB_PROOFREAD] = FOR_PROOFREAD,
                [WIRE_VERB_EXTRACT] = FOR_EXTRACT,     [WIRE_VERB_CLASSIFY] = FOR_CLASSIFY,
        };

        return bits[verb];
}

static const struct rule *find_rule(const char *key, unsigned bit) {
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
                if (strcmp(rules[i].key, key) == 0 && (rules[i].verbs & bit))
                        return &rules[i];
        return NULL;
}

static enum error_code read_word(sd_bus_message *m, const struct rule *rule, uint32_t *ret) {
        const char *word;

        if (sd_bus_message_read(m, "v", "s", &word) <= 0)
                return ERROR_INVALID_INPUT;
        for (uint32_t i = 0; rule->words[i]; i++)
                if (strcmp(rule->words[i], word) == 0) {
                        *ret = i;
                        return ERROR_NONE;
                }
        return ERROR_INVALID_INPUT;
}

static enum error_code read_uint(sd_bus_message *m, const struct rule *rule, uint32_t *ret) {
        uint32_t v;

        if (sd_bus_message_read(m, "v", "u", &v) <= 0 || v < rule->min || v > rule->max)
                return ERROR_INVALID_INPUT;
        *ret = v;
        return ERROR_NONE;
}

static enum error_code read_double(sd_bus_message *m, const struct rule *rule, double *ret) {
        double v;

        /* NaN fails both comparisons. */
        if (sd_bus_message_read(m, "v", "d", &v) <= 0 || !(v >= rule->min && v <= rule->max))
                return ERROR_INVALID_INPUT;
        *ret = v;
        return ERROR_NONE;
}

static enum error_code read_u64(sd_bus_message *m, uint64_t min, uint64_t max, uint64_t *ret) {
        uint64_t v;

        if (sd_bus_message_read(m, "v", "t", &v) <= 0 || v < min || v > max)
                return ERROR_INVALID_INPUT;
        *ret = v;
        return ERROR_NONE;
}

static enum error_code read_bool(sd_bus_message *m, bool *ret) {
        int v;

        if (sd_bus_message_read(m, "v", "b", &v) <= 0)
                return ERROR_INVALID_INPUT;
        *ret = v;
        return ERROR_NONE;
}

enum error_code options_read_token(sd_bus_message *m, const char **ret) {
        return sd_bus_message_read(m, "v", "s", ret) > 0 && token_valid(*ret) ? ERROR_NONE
                                                                           : ERROR_INVALID_INPUT;
}

/* What is no field of a wire_job. */
struct other {
        bool detach, receipt;
        const char *token;
};

static enum error_code read_value(sd_bus_message *m, const struct rule *rule,
                                  struct wire_job *job, struct other *ret) {
        void *field = (char *)job + rule->offset;
        enum error_code error;
        uint32_t mode;

        switch (rule->kind) {
        case WORD:
                return read_word(m, rule, field);
        case UINT:
                return read_uint(m, rule, field);
        case DOUBLE:
                return read_double(m, rule, field);
        case SEED:
                job->has_seed = 1;
                return read_u64(m, 0, UINT64_MAX, field);
        case DEADLINE:
                return read_u64(m, 1, LIMIT_DEADLINE_USEC, field);
        case KEEP:
                return read_u64(m, LIMIT_KEEP_LEAST_USEC, LIMIT_KEEP_MOST_USEC, field);
        case TOKEN:
                return options_read_token(m, &ret->token);
        case DETACH:
                return read_bool(m, &ret->detach);
        case RECEIPT:
                return read_bool(m, &ret->receipt);
        case MODE:
                error = read_word(m, rule, &mode);
                if (error == ERROR_NONE)
                        job->verb = mode == 0 ? WIRE_VERB_CHAT : WIRE_VERB_COMPLETE;
                return error;
        case UNSUPPORTED:
                break;
        }
        return ERROR_UNSUPPORTED;
}

static void copy_key(const char *key, char ret[OPTION_KEY_MAX + 1]) {
        size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-");

        ret[0] = '\0';
        if (n <= OPTION_KEY_MAX && key[n] == '\0')
                memcpy(ret, key, n + 1);
}

/* Options that need others. */
static enum error_code check_options(struct wire_job *job, const struct other *o,
                                     char ret_key[OPTION_KEY_MAX + 1]) {
        if (job->keep_usec && !o->detach) { /* nobody would keep it */
                copy_key("keep-result-usec", ret_key);
                return ERROR_INVALID_INPUT;
        }
        if (o->receipt && job->output_format != WIRE_OUTPUT_EVENTS) { /* text has no place for it */
                copy_key("receipt", ret_key);
                return ERROR_INVALID_INPUT;
        }
        if (o->detach && !job->keep_usec)
                job->keep_usec = LIMIT_KEEP_DEFAULT_USEC;
        if (o->receipt)
                job->output_format = WIRE_OUTPUT_RECEIPT;
        return ERROR_NONE;
}

static enum error_code read_options(sd_bus_message *m, unsigned bit, struct wire_job *job,
                                    const char **ret_token,
                                    char ret_key[OPTION_KEY_MAX + 1]) {
        enum error_code error = ERROR_NONE;
        struct other other = {};
        int r;

        ret_key[0] = '\0';
        if (sd_bus_message_enter_container(m, 'a', "{sv}") < 0)
                return ERROR_INVALID_INPUT;
        while (error == ERROR_NONE && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const struct rule *rule;
                const char *key;

                if (sd_bus_message_read(m, "s", &key) <= 0)
                        return ERROR_INVALID_INPUT;
                copy_key(key, ret_key);
                rule = find_rule(key, bit);
                error = rule ? read_value(m, rule, job, &other) : ERROR_INVALID_INPUT;
                if (error == ERROR_NONE && sd_bus_message_exit_container(m) < 0)
                        return ERROR_INVALID_INPUT;
        }
        if (error != ERROR_NONE)
                return error;
        ret_key[0] = '\0';
        if (r < 0 || sd_bus_message_exit_container(m) < 0)
                return ERROR_INVALID_INPUT;
        *ret_token = other.token;
        return check_options(job, &other, ret_key);
}

enum error_code options_read(sd_bus_message *m, struct wire_job *job, const char **ret_token,
                             char ret_key[OPTION_KEY_MAX + 1]) {
        *ret_token = NULL;
        return read_options(m, bit_of((enum wire_verb)job->verb), job,
                            ret_token, ret_key);
}

enum error_code options_read_count(sd_bus_message *m, struct wire_job *job,
                                   char ret_key[OPTION_KEY_MAX + 1]) {
        const char *no_token = NULL; /* which is no option here */

        return read_options(m, FOR_COUNT, job, &no_token, ret_key);
}

int option_error(sd_bus_error *e, enum error_code code, const char *key) {
        if (!key[0])
                return bus_error(e, code, 0, 0);
        return sd_bus_error_setf(e, error_row(code)->dbus_name, "%s (option %s)",
                                 error_row(code)->text, key);
}

int options_filter(sd_bus_message *m, bool *ret_all) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        *ret_all = false;
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                int all = 0;

                r = sd_bus_message_read(m, "s", &key);
                if (r < 0 || strcmp(key, "all") != 0 || sd_bus_message_read(m, "v", "b", &all) <= 0)
                        return -EINVAL;
                *ret_all = all;
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}
