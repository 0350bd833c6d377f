/* Fields of the four verbs. One table says which fields a verb has; those of another verb, and
 * fields of generation that would change nothing, are refused by name: nothing that was asked for
 * is ignored. Owns nothing: strings are copied. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/schema.h"
#include "daemon/worker/task_options.h"
#include "daemon/worker/words.h"
#include "engine/base/macro.h"

enum {
        REWRITE = 1 << 0, PROOFREAD = 1 << 1, EXTRACT = 1 << 2, CLASSIFY = 1 << 3,
        PIECES = REWRITE | PROOFREAD, TEXTS = PIECES | EXTRACT,
};

static unsigned bit_of(uint32_t verb) {
        switch (verb) {
        case WIRE_VERB_REWRITE:
                return REWRITE;
        case WIRE_VERB_PROOFREAD:
                return PROOFREAD;
        case WIRE_VERB_EXTRACT:
                return EXTRACT;
        case WIRE_VERB_CLASSIFY:
                return CLASSIFY;
        }
        return 0;
}

bool task_verb(uint32_t verb) {
        return bit_of(verb) != 0;
}

bool task_rewrites(uint32_t verb) {
        return bit_of(verb) & PIECES;
}

void task_options_done(struct task_options *o) {
        secure_free(o->instructions);
        secure_free(o->schema);
        messages_done(&o->labels);
        *o = (struct task_options){};
}

static int tone_number(const char *word) {
        static const char *const words[] = { "as-is", "more-formal", "more-casual", NULL };

        return find_word(words, word);
}

static int length_number(const char *word) {
        static const char *const words[] = { "as-is", "shorter", "longer", NULL };

        return find_word(words, word);
}

static int format_number(const char *word) {
        static const char *const words[] = { "as-is", "markdown", "plain-text", NULL };

        return find_word(words, word);
}

static int parse_word(const json_t *v, const char *name, int (*number)(const char *),
                      uint32_t *ret, struct request_error *e) {
        int r = json_is_string(v) ? number(json_string_value(v)) : -EINVAL;

        if (r < 0)
                return request_fail(e, ERROR_INVALID_INPUT, name, "There is no such value.");
        *ret = (uint32_t)r;
        return 0;
}

static int parse_tone(const json_t *v, struct task_options *o, struct gen_params *p,
                      struct request_error *e) {
        return parse_word(v, "tone", tone_number, &o->tone, e);
}

static int parse_length(const json_t *v, struct task_options *o, struct gen_params *p,
                        struct request_error *e) {
        return parse_word(v, "length", length_number, &o->length, e);
}

static int parse_text_format(const json_t *v, struct task_options *o, struct gen_params *p,
                             struct request_error *e) {
        return parse_word(v, "format", format_number, &o->format, e);
}

static int parse_instructions(const json_t *v, struct task_options *o, struct gen_params *p,
                              struct request_error *e) {
        size_t n = json_string_length(v);

        if (!json_is_string(v))
                return request_fail(e, ERROR_INVALID_INPUT, "instructions",
                                    "The field must be a string.");
        if (n > INSTRUCTIONS_BYTES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "instructions",
                                          "The instructions have too many bytes.", n,
                                          INSTRUCTIONS_BYTES_MAX);
        if (strlen(json_string_value(v)) != n)
                return request_fail(e, ERROR_INVALID_INPUT, "instructions",
                                    "The instructions hold a zero byte.");
        o->instructions = strdup(json_string_value(v));
        return o->instructions ? 0 : -ENOMEM;
}

/* Is a member said by its name? Not one that has more to say than its type and limits. */
static bool is_plain(const json_t *member) {
        static const char *const telling[] = { "description", "enum", "const", "properties",
                                               "items", "anyOf", "allOf", "oneOf",
                                               "$ref", "pattern", "format" };

        for (size_t i = 0; i < ARRAY_SIZE(telling); i++)
                if (json_object_get(member, telling[i]))
                        return false;
        return true;
}

/* What the prompt says of a schema: the names of a flat object, which small models understand best;
 * else all of it. malloc'd; NULL without memory. */
static char *describe_schema(const json_t *v) {
        _cleanup_(secure_buf_done) struct secure_buf names = {};
        const char *name;
        json_t *member;

        json_object_foreach(json_object_get(v, "properties"), name, member) {
                if (!is_plain(member))
                        return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
                secure_buf_puts(&names, names.n ? ", " : "");
                secure_buf_puts(&names, name);
        }
        return names.n || names.failed ? secure_buf_take(&names)
                                       : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

static int parse_schema(const json_t *v, struct task_options *o, struct gen_params *p,
                        struct request_error *e) {
        int r = schema_compile(v, "schema", &p->grammar, e);

        if (r < 0)
                return r;
        o->schema = describe_schema(v);
        if (!o->schema)
                return -ENOMEM;
        if (strlen(o->schema) > SCHEMA_BYTES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "schema",
                                          "The schema has too many bytes for a prompt.",
                                          strlen(o->schema), SCHEMA_BYTES_MAX);
        return 0;
}

static int check_label(const json_t *v, size_t i, const json_t *all, struct request_error *e) {
        size_t n = json_string_length(v);

        if (n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "labels",
                                    "A label is a string with at least one character.");
        if (n > LABEL_BYTES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "labels",
                                          "A label has too many bytes.", n, LABEL_BYTES_MAX);
        while (i-- > 0)
                if (json_equal(json_array_get(all, i), v))
                        return request_fail(e, ERROR_INVALID_INPUT, "labels",
                                            "Two labels are the same.");
        return 0;
}

static int parse_labels(const json_t *v, struct task_options *o, struct gen_params *p,
                        struct request_error *e) {
        size_t n = json_array_size(v);
        int r = 0;

        if (n < 2 || n > LABELS_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "labels",
                                          "The field is an array of 2 to 64 strings.", n,
                                          LABELS_MAX);
        for (size_t i = 0; i < n && r == 0; i++)
                r = check_label(json_array_get(v, i), i, v, e);
        return r < 0 ? r : messages_parse_texts(v, "labels", &o->labels, e);
}

static const struct {
        const char *name;
        unsigned verbs;
        bool required;
        int (*parse)(const json_t *v, struct task_options *o, struct gen_params *p,
                     struct request_error *e);
} fields[] = {
        { "tone", REWRITE, false, parse_tone },
        { "length", REWRITE, false, parse_length },
        { "format", REWRITE, false, parse_text_format },
        { "instructions", TEXTS | CLASSIFY, false, parse_instructions },
        { "schema", EXTRACT, true, parse_schema },
        { "labels", CLASSIFY, true, parse_labels },
};

/* Of a generation, and the verbs that honour it. The answer of a rewrite is as long as its text
 * needs, so it has no max_tokens; that of a label is not chosen at all. */
static const struct {
        const char *name;
        unsigned verbs;
} generation[] = {
        { "messages", 0 },       { "prompt", 0 },        { "tools", 0 },
        { "response_format", 0 }, { "json_schema", 0 },  { "json-schema", 0 },
        { "receipt", 0 },        { "logprobs", 0 },       { "top_logprobs", 0 },  { "stop", 0 },
        { "max_tokens", EXTRACT }, { "max_completion_tokens", EXTRACT },
        { "temperature", TEXTS }, { "top_p", TEXTS },    { "top_k", TEXTS },
        { "min_p", TEXTS },      { "seed", TEXTS },      { "repeat_penalty", TEXTS },
        { "frequency_penalty", TEXTS }, { "presence_penalty", TEXTS },
};

static json_t *present(const json_t *root, const char *name) {
        json_t *v = json_object_get(root, name);

        return json_is_null(v) ? NULL : v;
}

static int check_generation(const json_t *root, unsigned bit, const struct gen_params *p,
                            struct request_error *e) {
        for (size_t i = 0; i < ARRAY_SIZE(generation); i++)
                if (!(generation[i].verbs & bit) && present(root, generation[i].name))
                        return request_fail(e, ERROR_UNSUPPORTED, generation[i].name,
                                            "This verb does not take the field.");
        if (p->receipt)
                return request_fail(e, ERROR_UNSUPPORTED, "bn.receipt",
                                    "There are no receipts of this verb.");
        if (p->stream && bit == CLASSIFY)
                return request_fail(e, ERROR_UNSUPPORTED, "stream",
                                    "Scores come all at once.");
        return 0;
}

int task_options_parse(const json_t *root, uint32_t verb, struct task_options *o,
                       struct gen_params *p, struct request_error *e) {
        unsigned bit = bit_of(verb);
        int r = check_generation(root, bit, p, e);

        for (size_t i = 0; i < ARRAY_SIZE(fields) && r == 0; i++) {
                json_t *v = present(root, fields[i].name);

                if (v && !(fields[i].verbs & bit))
                        r = request_fail(e, ERROR_UNSUPPORTED, fields[i].name,
                                         "This verb does not take the field.");
                else if (v)
                        r = fields[i].parse(v, o, p, e);
                else if (fields[i].required && (fields[i].verbs & bit))
                        r = request_fail(e, ERROR_INVALID_INPUT, fields[i].name,
                                         "The verb needs this field.");
        }
        return r;
}
