/* Validation of generation fields. One table row per number with its range, one per field that
 * cannot be honoured; the code below only walks the tables. Owns nothing: strings are copied. */
#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "daemon/wire/frame.h"
#include "daemon/worker/http.h"
#include "daemon/worker/params.h"
#include "daemon/worker/schema.h"
#include "engine/base/macro.h"

int request_fail(struct request_error *e, enum error_code code, const char *param,
                 const char *detail) {
        return request_fail_range(e, code, param, detail, 0, 0);
}

int request_fail_range(struct request_error *e, enum error_code code, const char *param,
                       const char *detail, uint64_t value, uint64_t limit) {
        *e = (struct request_error){ .code = code, .detail = detail, .value = value,
                                     .limit = limit };
        snprintf(e->param, sizeof(e->param), "%s", param ? param : "");
        return -EBADMSG;
}

/* An upper bound of the values in the text, so that a small body cannot become a huge tree. */
static size_t count_values(const char *text, size_t n) {
        size_t count = 1;
        bool in_string = false;

        for (size_t i = 0; i < n; i++) {
                char c = text[i];

                if (in_string && c == '\\')
                        i++;
                else if (c == '"')
                        in_string = !in_string;
                else if (!in_string && (c == ',' || c == '[' || c == '{'))
                        count++;
        }
        return count;
}

json_t *params_load(const char *text, size_t n, struct request_error *e) {
        size_t values = count_values(text, n);
        json_error_t error;
        json_t *root;

        if (values > JSON_VALUES_MAX) {
                request_fail_range(e, ERROR_INVALID_INPUT, NULL,
                                   "The JSON text has too many values.", values, JSON_VALUES_MAX);
                return NULL;
        }
        root = json_loadb(text, n, 0, &error);
        if (!root)
                request_fail_range(e, ERROR_INVALID_INPUT, NULL,
                                   "The body is not valid JSON; the value is the byte, the limit "
                                   "the size.",
                                   (uint64_t)MAX(error.position, 0), n);
        explicit_bzero(&error, sizeof(error)); /* it quotes the text */
        if (!root)
                return NULL;
        if (!json_is_object(root)) {
                json_decref(root);
                request_fail(e, ERROR_INVALID_INPUT, NULL, "The body must be a JSON object.");
                return NULL;
        }
        return root;
}

struct number_rule {
        const char *name, *range; /* what is said about a number out of range */
        double min, max;
        bool whole;
        void (*set)(struct gen_params *p, double v);
};

/* A top_p of 0 means the likeliest token alone; the sampler wants a number above 0 for that. */
float params_top_p(double v) {
        return MAX((float)v, FLT_MIN);
}

static void set_temperature(struct gen_params *p, double v) { p->sampling.temperature = (float)v; }
static void set_top_p(struct gen_params *p, double v) { p->sampling.top_p = params_top_p(v); }
static void set_min_p(struct gen_params *p, double v) { p->sampling.min_p = (float)v; }
static void set_top_k(struct gen_params *p, double v) { p->sampling.top_k = (uint32_t)v; }
static void set_max_tokens(struct gen_params *p, double v) { p->max_tokens = (uint32_t)v; }
static void set_frequency(struct gen_params *p, double v) {
        p->sampling.frequency_penalty = (float)v;
}
static void set_presence(struct gen_params *p, double v) {
        p->sampling.presence_penalty = (float)v;
}
static void set_repeat(struct gen_params *p, double v) { p->sampling.repeat_penalty = (float)v; }
static void set_repeat_last(struct gen_params *p, double v) {
        p->sampling.repeat_last = (uint32_t)v;
}
static void set_dry_multiplier(struct gen_params *p, double v) {
        p->sampling.dry_multiplier = (float)v;
}
static void set_dry_base(struct gen_params *p, double v) { p->sampling.dry_base = (float)v; }
static void set_dry_length(struct gen_params *p, double v) {
        p->sampling.dry_allowed_length = (uint32_t)v;
}

#define RULE(name, min, max, whole, set)                                                           \
        { name, "The number must be " #min " to " #max ".", min, max, whole, set }

/* The dry_ names are llama-server's. The sampler compares 32 tokens at most: allowing as many would
 * turn the penalty off without saying so. */
static const struct number_rule number_rules[] = {
        RULE("temperature", 0, 2, false, set_temperature),
        RULE("top_p", 0, 1, false, set_top_p),
        RULE("min_p", 0, 1, false, set_min_p),
        RULE("top_k", 0, 1000000, true, set_top_k),
        RULE("max_tokens", 1, 16777216, true, set_max_tokens),
        RULE("max_completion_tokens", 1, 16777216, true, set_max_tokens),
        RULE("frequency_penalty", -2, 2, false, set_frequency),
        RULE("presence_penalty", -2, 2, false, set_presence),
        RULE("repeat_penalty", 0.5, 2, false, set_repeat),
        RULE("repeat_last_n", 0, 4096, true, set_repeat_last),
        RULE("dry_multiplier", 0, 10, false, set_dry_multiplier),
        RULE("dry_base", 1, 4, false, set_dry_base),
        RULE("dry_allowed_length", 0, 31, true, set_dry_length),
};

/* The field, or NULL when it is absent or null. */
static json_t *field(const json_t *root, const char *name) {
        json_t *v = json_object_get(root, name);

        return json_is_null(v) ? NULL : v;
}

/* Whole numbers are named, fractions would only mislead when cut. */
static int fail_number(const struct number_rule *r, double d, struct request_error *e) {
        bool named = r->whole && d >= 0;

        return request_fail_range(e, ERROR_INVALID_INPUT, r->name, r->range,
                                  named ? (uint64_t)d : 0, named ? (uint64_t)r->max : 0);
}

static int parse_numbers(const json_t *root, struct gen_params *p, struct request_error *e) {
        for (size_t i = 0; i < ARRAY_SIZE(number_rules); i++) {
                const struct number_rule *r = &number_rules[i];
                json_t *v = field(root, r->name);
                double d = json_number_value(v);

                if (!v)
                        continue;
                if (!json_is_number(v) || (r->whole && !json_is_integer(v)))
                        return request_fail(e, ERROR_INVALID_INPUT, r->name,
                                            r->whole ? "The field must be a whole number."
                                                     : "The field must be a number.");
                if (!(d >= r->min && d <= r->max))
                        return fail_number(r, d, e);
                r->set(p, d);
        }
        return 0;
}

/* All 64 bits, as JSON has them: a receipt writes the upper half of the seeds of the bus as
 * negative numbers. A double could not hold them. */
static int parse_seed(const json_t *root, struct gen_params *p, struct request_error *e) {
        json_t *v = field(root, "seed");

        if (v && !json_is_integer(v))
                return request_fail(e, ERROR_INVALID_INPUT, "seed",
                                    "The field must be a whole number.");
        if (v)
                p->sampling.seed = (uint64_t)json_integer_value(v);
        return 0;
}

static bool not_one(const json_t *v) { return json_number_value(v) != 1; }
static bool not_empty(const json_t *v) { return json_object_size(v) > 0 || json_array_size(v) > 0; }
static bool not_false(const json_t *v) { return !json_is_false(v) && !json_equal(v, json_null()); }
static bool not_none(const json_t *v) {
        const char *s = json_string_value(v);

        return !s || (strcmp(s, "none") != 0 && strcmp(s, "auto") != 0);
}
static bool not_text_only(const json_t *v) {
        const char *s = json_string_value(json_array_get(v, 0));

        return json_array_size(v) != 1 || !s || strcmp(s, "text") != 0;
}
static bool any(const json_t *v) { return !(json_is_string(v) && json_string_length(v) == 0); }

static const struct {
        const char *name;
        bool (*refused)(const json_t *v);
} refusals[] = {
        { "n", not_one },
        { "best_of", not_one },
        { "functions", not_empty },
        { "function_call", not_none },
        { "logit_bias", not_empty },
        { "echo", not_false },
        { "suffix", any },
        { "grammar", any },
        { "audio", any },
        { "modalities", not_text_only },
};

static int check_refusals(const json_t *root, struct request_error *e) {
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
                json_t *v = field(root, refusals[i].name);

                if (v && refusals[i].refused(v))
                        return request_fail(e, ERROR_UNSUPPORTED, refusals[i].name, NULL);
        }
        return 0;
}

static int add_stop(struct gen_params *p, const json_t *v, struct request_error *e) {
        int r;

        if (!json_is_string(v))
                return request_fail(e, ERROR_INVALID_INPUT, "stop",
                                    "A stop must be a string or up to 4 strings.");
        r = stop_list_add(&p->stops, json_string_value(v), json_string_length(v));
        if (r == -EINVAL)
                return request_fail(e, ERROR_INVALID_INPUT, "stop", "A stop string is empty.");
        if (r == -E2BIG)
                return request_fail_range(e, ERROR_INVALID_INPUT, "stop",
                                          "A stop string has too many bytes.",
                                          json_string_length(v), STOP_BYTES_MAX);
        return r;
}

static int parse_stop(const json_t *root, struct gen_params *p, struct request_error *e) {
        json_t *stop = field(root, "stop"), *one;
        size_t i;

        if (!stop)
                return 0;
        if (!json_is_array(stop))
                return add_stop(p, stop, e);
        if (json_array_size(stop) > STOP_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "stop", "Too many stop strings.",
                                          json_array_size(stop), STOP_MAX);
        json_array_foreach(stop, i, one) {
                int r = add_stop(p, one, e);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_bool(const json_t *root, const char *name, bool *ret, struct request_error *e) {
        json_t *v = field(root, name);

        if (!v)
                return 0;
        if (!json_is_boolean(v))
                return request_fail(e, ERROR_INVALID_INPUT, name, "The field must be a boolean.");
        *ret = json_is_true(v);
        return 0;
}

/* Unlike other servers' fields, ours are never ignored. */
static int check_own(json_t *bn, struct request_error *e) {
        static const char *const known[] = { "priority", "deadline_ms", "on_overflow", "receipt" };
        const char *overflow = json_string_value(json_object_get(bn, "on_overflow")), *key;
        json_t *v;

        json_object_foreach(bn, key, v) {
                bool found = false;

                for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                        found |= strcmp(key, known[i]) == 0;
                if (!found)
                        return request_fail(e, ERROR_UNSUPPORTED, "bn",
                                            "Its fields: priority, deadline_ms, on_overflow, "
                                            "receipt.");
        }
        if (field(bn, "on_overflow") && (!overflow || strcmp(overflow, "error") != 0))
                return request_fail(e, ERROR_UNSUPPORTED, "bn.on_overflow",
                                    "What is too long is always an error.");
        if (field(bn, "receipt") && !json_is_boolean(field(bn, "receipt")))
                return request_fail(e, ERROR_INVALID_INPUT, "bn.receipt",
                                    "The field must be a boolean.");
        return 0;
}

/* Our own fields, under one key: {"bn": {"priority": "background", "deadline_ms": 5000}}. */
static int parse_own(const json_t *root, struct gen_params *p, struct request_error *e) {
        json_t *bn = field(root, "bn"), *priority, *deadline;
        const char *name;

        if (!bn)
                return 0;
        if (!json_is_object(bn))
                return request_fail(e, ERROR_INVALID_INPUT, "bn", "The field must be an object.");
        if (check_own(bn, e) < 0)
                return -EBADMSG;
        p->receipt = json_is_true(field(bn, "receipt"));
        priority = field(bn, "priority");
        deadline = field(bn, "deadline_ms");
        name = json_string_value(priority);
        if (priority && name && strcmp(name, "background") == 0)
                p->priority = WIRE_PRIORITY_BACKGROUND;
        else if (priority && (!name || strcmp(name, "interactive") != 0))
                return request_fail(e, ERROR_INVALID_INPUT, "bn.priority",
                                    "The priority is interactive or background.");
        if (!deadline)
                return 0;
        if (!json_is_integer(deadline) || json_integer_value(deadline) < 1 ||
            json_integer_value(deadline) > 86400000)
                return request_fail_range(e, ERROR_INVALID_INPUT, "bn.deadline_ms",
                                          "The deadline must be a number of milliseconds.", 0,
                                          86400000);
        p->deadline_usec = (uint64_t)json_integer_value(deadline) * 1000;
        return 0;
}

/* OpenAI's response_format: text, json_object, or json_schema with the schema inside. */
static int parse_response_format(const json_t *format, struct gen_params *p,
                                 struct request_error *e) {
        const char *type = json_string_value(json_object_get(format, "type"));
        json_t *schema = field(format, "json_schema");

        if (type && strcmp(type, "text") == 0)
                return 0;
        if (type && strcmp(type, "json_object") == 0)
                return schema_any_object(&p->grammar);
        if (!type || strcmp(type, "json_schema") != 0)
                return request_fail(e, ERROR_INVALID_INPUT, "response_format.type",
                                    "The type is text, json_object or json_schema.");
        if (!field(schema, "schema"))
                return request_fail(e, ERROR_INVALID_INPUT, "response_format.json_schema",
                                    "The field must be an object with a schema.");
        return schema_compile(field(schema, "schema"), "response_format.json_schema.schema",
                              &p->grammar, e);
}

/* One of three spellings: OpenAI's, llama-server's, and the option of a bus job. */
static int parse_format(const json_t *root, struct gen_params *p, struct request_error *e) {
        static const char *const bare[] = { "json_schema", "json-schema" };
        json_t *format = field(root, "response_format");
        int r = format ? parse_response_format(format, p, e) : 0;

        for (size_t i = 0; i < ARRAY_SIZE(bare) && r >= 0; i++) {
                json_t *schema = field(root, bare[i]);

                if (schema && p->grammar)
                        return request_fail(e, ERROR_INVALID_INPUT, bare[i],
                                            "The request has two schemas.");
                if (schema)
                        r = schema_compile(schema, bare[i], &p->grammar, e);
        }
        return r;
}

static int parse_odds_count(const json_t *v, const char *name, uint32_t *ret,
                            struct request_error *e) {
        json_int_t n = json_integer_value(v);

        if (json_is_integer(v) && n >= 0 && n <= LOGPROBS_MAX) {
                *ret = (uint32_t)n;
                return 0;
        }
        return request_fail_range(e, ERROR_INVALID_INPUT, name,
                                  "The number must be whole, 0 to 20.", (uint64_t)MAX(n, 0),
                                  LOGPROBS_MAX);
}

/* A chat asks with "logprobs": true and "top_logprobs": N, a completion with "logprobs": N. */
static int parse_logprobs(const json_t *root, struct gen_params *p, struct request_error *e) {
        json_t *wanted = field(root, "logprobs"), *top = field(root, "top_logprobs");
        int r = 0;

        p->logprobs = wanted && !json_is_false(wanted);
        if (json_is_number(wanted))
                r = parse_odds_count(wanted, "logprobs", &p->top_logprobs, e);
        else if (wanted && !json_is_boolean(wanted))
                return request_fail(e, ERROR_INVALID_INPUT, "logprobs",
                                    "The field is a boolean or a number.");
        if (r < 0 || !top)
                return r;
        r = parse_odds_count(top, "top_logprobs", &p->top_logprobs, e);
        if (r == 0 && p->top_logprobs > 0 && !p->logprobs)
                return request_fail(e, ERROR_INVALID_INPUT, "top_logprobs",
                                    "The field needs logprobs to be true.");
        return r;
}

static int parse_tools(const json_t *root, struct gen_params *p, struct request_error *e) {
        struct grammar *calls = NULL;
        int r = tools_parse(root, &p->tools, &calls, e);

        if (calls && p->grammar) {
                grammar_free(calls);
                if (!p->tools.offered)
                        return r; /* the schema says enough */
                return request_fail(e, ERROR_UNSUPPORTED, "response_format",
                                    "A schema for the answer is not supported beside tools.");
        }
        if (calls)
                p->grammar = calls;
        return r;
}

/* What the answer must look like is part of what a receipt calls its input. */
static int copy_shape(const json_t *root, struct gen_params *p) {
        static const char *const names[] = { "response_format", "json_schema", "json-schema",
                                             "tools", "tool_choice" };

        for (size_t i = 0; i < ARRAY_SIZE(names) && p->receipt; i++)
                if (field(root, names[i])) {
                        secure_buf_puts(&p->shape, names[i]);
                        http_json(&p->shape, field(root, names[i]));
                }
        return p->shape.failed ? -ENOMEM : 0;
}

int params_parse(const json_t *root, struct gen_params *p, struct request_error *e) {
        json_t *options = field(root, "stream_options");
        int r;

        if ((r = check_refusals(root, e)) < 0 || (r = parse_numbers(root, p, e)) < 0 ||
            (r = parse_seed(root, p, e)) < 0 ||
            (r = parse_stop(root, p, e)) < 0 || (r = parse_own(root, p, e)) < 0 ||
            (r = copy_shape(root, p)) < 0 || (r = parse_format(root, p, e)) < 0 ||
            (r = parse_tools(root, p, e)) < 0 ||
            (field(root, "keep_alive") &&
             (r = keep_parse(field(root, "keep_alive"), &p->keep, e)) < 0) ||
            (r = parse_logprobs(root, p, e)) < 0 ||
            (r = parse_bool(root, "stream", &p->stream, e)) < 0)
                return r;
        if (options && !json_is_object(options))
                return request_fail(e, ERROR_INVALID_INPUT, "stream_options",
                                    "The field must be an object.");
        return parse_bool(options, "include_usage", &p->include_usage, e);
}

void params_done(struct gen_params *p) {
        stop_list_done(&p->stops);
        p->grammar = grammar_free(p->grammar);
        tools_done(&p->tools);
        secure_buf_done(&p->shape);
}

int params_model(const json_t *root, char *name, struct request_error *e) {
        json_t *v = field(root, "model");
        const char *s = json_string_value(v);

        name[0] = '\0';
        if (!v)
                return 0;
        if (!s)
                return request_fail(e, ERROR_INVALID_INPUT, "model", "The field must be a string.");
        if (s[0] == '\0' || strcmp(s, "default") == 0)
                return 0;
        if (strlen(s) >= WIRE_NAME_MAX || !wire_name_valid(s))
                return request_fail(e, ERROR_MODEL_NOT_FOUND, "model", NULL);
        snprintf(name, WIRE_NAME_MAX, "%s", s);
        return 0;
}
