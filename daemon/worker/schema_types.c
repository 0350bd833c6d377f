/* What a set without open choices and without enumerated values allows: for each type that all its
 * schemas allow, one arm with their limits put together. Members are those that any of them names,
 * in the order in which they are met; a schema that does not name a member says about it what its
 * additionalProperties says. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"
#include "engine/grammar/number.h"
#include "engine/grammar/regex.h"

static unsigned types_of(const struct set *s) {
        unsigned types = TYPE_ANY, allowed;

        for (size_t i = 0; i < s->n; i++) {
                types &= schema_types(s->atoms[i].schema);
                if (json_object_get(s->atoms[i].schema, "not") &&
                    schema_not_types(s->atoms[i].schema, &allowed))
                        types &= allowed;
        }
        return types;
}

/* The largest of a lower limit, or the smallest of an upper one. */
static uint32_t limit_of(const struct set *s, const char *keyword, bool upper) {
        uint32_t limit = upper ? GRAMMAR_NONE : 0;

        for (size_t i = 0; i < s->n; i++) {
                json_t *v = json_object_get(s->atoms[i].schema, keyword);
                uint32_t n = (uint32_t)json_number_value(v);

                if (v)
                        limit = upper ? MIN(limit, n) : MAX(limit, n);
        }
        return limit;
}

/* --- strings --- */

/* Formats that are kept to; each allows some valid texts, not always all of them. */
#define LONG_MONTH "(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])"
#define SHORT_MONTH "(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)"
#define FEBRUARY "02-(?:0[1-9]|1\\d|2[0-8])"
#define LEAP_YEAR                                                                                  \
        "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#define DATE                                                                                       \
        "(?:\\d{4}-(?:" LONG_MONTH "|" SHORT_MONTH "|" FEBRUARY ")|" LEAP_YEAR "-02-29)"
#define TIME                                                                                       \
        "(?:(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):"   \
        "[0-5]\\d))"
#define BYTE "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])?"
#define ATOM "[A-Za-z0-9_~+-]+"
#define HEX "[0-9A-Fa-f]"

static const char *format_pattern(const char *name) {
        static const char *const formats[][2] = {
                { "date", "^" DATE "$" },
                { "time", "^" TIME "$" },
                { "date-time", "^" DATE "[Tt]" TIME "$" },
                { "uuid", "^" HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}$" },
                { "ipv4", "^" BYTE "\\." BYTE "\\." BYTE "\\." BYTE "$" },
                { "email", "^" ATOM "(?:\\." ATOM ")*@" LABEL "(?:\\." LABEL ")+$" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
                if (strcmp(name, formats[i][0]) == 0)
                        return formats[i][1];
        return NULL;
}

static int refuse_pattern(struct compiler *c, const json_t *schema, const char *keyword,
                          int error) {
        if (error == -EINVAL)
                return schema_refuse(c, schema, keyword, ERROR_INVALID_INPUT,
                                     "The pattern is no regular expression.");
        if (error == -EOPNOTSUPP)
                return schema_refuse(c, schema, keyword, ERROR_UNSUPPORTED,
                                     "The pattern has an assertion inside, a back reference or a "
                                     "character property.");
        return schema_too_big(c, schema, error);
}

int schema_match(struct compiler *c, const json_t *schema, const char *keyword, struct view text,
                 uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t start, end;
        int r = regex_build(&n, text, &start, &end);

        if (r >= 0)
                r = dfa_add(&c->g->dfa, &n, start, end, ret);
        return refuse_pattern(c, schema, keyword, r);
}

static struct view view_of(const char *text) {
        return (struct view){ .p = (const uint8_t *)text, .n = strlen(text) };
}

static struct view view_of_string(const json_t *v) {
        return (struct view){ .p = (const uint8_t *)json_string_value(v),
                              .n = json_string_length(v) };
}

/* Both automata must hold; *all is GRAMMAR_NONE at first. */
static int both(struct compiler *c, uint32_t *all, uint32_t one) {
        if (*all == GRAMMAR_NONE) {
                *all = one;
                return 0;
        }
        return dfa_intersect(&c->g->dfa, *all, one, all);
}

static int add_pattern(struct compiler *c, const json_t *schema, const char *keyword,
                       struct view text, uint32_t *all) {
        uint32_t state;
        int r = schema_match(c, schema, keyword, text, &state);

        return r < 0 ? r : schema_too_big(c, schema, both(c, all, state));
}

/* Texts of min to max characters. */
static int add_length(struct compiler *c, uint32_t min, uint32_t max, uint32_t *all) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t at = nfa_state(&n), start = at, end = nfa_state(&n), state;
        uint32_t most = max == GRAMMAR_NONE ? min : max;
        int r;

        for (uint32_t i = 0; i <= most && n.error == 0; i++) {
                uint32_t next = i < most ? nfa_state(&n) : at;

                if (i >= min)
                        nfa_empty(&n, at, end);
                if (i < most || max == GRAMMAR_NONE)
                        nfa_characters(&n, at, 0, 0x10ffff, next);
                at = next;
        }
        r = dfa_add(&c->g->dfa, &n, start, end, &state);
        return r < 0 ? r : both(c, all, state);
}

int schema_pattern(struct compiler *c, const struct set *s, enum lengths lengths, uint32_t *ret) {
        uint32_t min = limit_of(s, "minLength", false), max = limit_of(s, "maxLength", true);
        int r = 0;

        *ret = GRAMMAR_NONE;
        for (size_t i = 0; i < s->n && r >= 0; i++) {
                const json_t *schema = s->atoms[i].schema;
                json_t *pattern = json_object_get(schema, "pattern");
                json_t *format = json_object_get(schema, "format");
                const char *text = format ? format_pattern(json_string_value(format)) : NULL;

                if (format && !text)
                        return schema_refuse(c, schema, "format", ERROR_UNSUPPORTED,
                                             "Formats are date, time, date-time, uuid, ipv4 and "
                                             "email.");
                if (text)
                        r = add_pattern(c, schema, "format", view_of(text), ret);
                if (r >= 0 && pattern)
                        r = add_pattern(c, schema, "pattern", view_of_string(pattern), ret);
        }
        if (lengths == LENGTHS_NONE || (lengths == LENGTHS_TOO && *ret == GRAMMAR_NONE))
                return r;
        if (r >= 0 && (min > 0 || max != GRAMMAR_NONE))
                r = schema_too_big(c, s->atoms[0].schema, add_length(c, min, max, ret));
        return r;
}

static int add_string(struct compiler *c, const struct set *s, uint32_t node) {
        struct string_rule rule = { .min = limit_of(s, "minLength", false),
                                    .max = limit_of(s, "maxLength", true) };
        size_t first = c->g->dfa.states.n;
        uint32_t pattern;
        int r = schema_pattern(c, s, LENGTHS_TOO, &pattern);

        if (r >= 0)
                r = grammar_mark_decoded(c->g, first);
        if (r < 0)
                return r;
        return pattern == GRAMMAR_NONE ? grammar_add_string(c->g, node, rule)
                                       : grammar_add_arm(c->g, node, ARM_PATTERN, pattern);
}

/* --- objects --- */

/* What the set says about a member with this name. */
static int member_set(struct compiler *c, const struct set *s, const char *name, struct set *ret) {
        *ret = (struct set){ .n = 0 };
        for (size_t i = 0; i < s->n; i++) {
                const json_t *schema = s->atoms[i].schema;
                const json_t *v = json_object_get(json_object_get(schema, "properties"), name);
                int r = schema_name_matches(c, schema, name, ret);

                if (r == 0 && !v)
                        v = json_object_get(schema, "additionalProperties");
                if (r >= 0 && v)
                        r = schema_set_add(c, ret, v);
                if (r < 0)
                        return r;
        }
        return 0;
}

struct member {
        const char *name; /* of the schema */
        uint32_t node;
};

struct members {
        VEC(struct member) list;
};

static int add_member(struct compiler *c, const struct set *s, const char *name,
                      struct members *m) {
        struct member one = { .name = name };
        struct set set;
        size_t each = schema_text_work(strlen(name));
        int r = schema_worked(c, (m->list.n + s->n) * each);

        if (r < 0)
                return r;
        for (size_t i = 0; i < m->list.n; i++)
                if (strcmp(m->list.p[i].name, name) == 0)
                        return 0;
        if (m->list.n == GRAMMAR_PROPERTIES_MAX) {
                r = schema_refuse(c, s->atoms[0].schema, NULL, ERROR_INVALID_INPUT,
                                  "An object has too many properties.");
                c->e->value = m->list.n + 1;
                c->e->limit = GRAMMAR_PROPERTIES_MAX;
                return r;
        }
        r = member_set(c, s, name, &set);
        if (r >= 0)
                r = schema_node(c, &set, &one.node);
        return r < 0 ? r : VEC_PUSH(&m->list, one);
}

static int collect_members(struct compiler *c, const struct set *s, struct members *m) {
        int r = 0;

        for (size_t i = 0; i < s->n; i++) {
                const char *name;
                json_t *v;

                json_object_foreach(json_object_get(s->atoms[i].schema, "properties"), name, v)
                        if (r >= 0)
                                r = add_member(c, s, name, m);
        }
        for (size_t i = 0; i < s->n; i++) {
                json_t *required = json_object_get(s->atoms[i].schema, "required"), *v;
                size_t j;

                json_array_foreach(required, j, v)
                        if (r >= 0)
                                r = add_member(c, s, json_string_value(v), m);
        }
        return r;
}

static bool is_required(struct compiler *c, const struct set *s, const char *name) {
        for (size_t i = 0; i < s->n; i++) {
                json_t *required = json_object_get(s->atoms[i].schema, "required"), *v;
                size_t j, each = schema_text_work(strlen(name));

                if (!schema_spend(c, 1 + json_array_size(required) * each))
                        return false;
                json_array_foreach(required, j, v)
                        if (strcmp(json_string_value(v), name) == 0)
                                return true;
        }
        return false;
}

static int add_properties(struct compiler *c, const struct set *s, const struct members *m) {
        int r = 0;

        for (size_t i = 0; i < m->list.n && r >= 0; i++) {
                const char *name = m->list.p[i].name;

                r = schema_worked(c, strlen(name) + i); /* names are kept, and sorted */
                if (r < 0)
                        break;
                r = grammar_add_property(c->g, view_of(name),
                                         m->list.p[i].node, is_required(c, s, name));
        }
        return r;
}

static int names_automaton(struct compiler *c, const struct members *m, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t start = nfa_state(&n), end = nfa_state(&n);

        for (size_t i = 0; i < m->list.n; i++)
                nfa_text(&n, start, view_of(m->list.p[i].name), end);
        return dfa_add(&c->g->dfa, &n, start, end, ret);
}

static int add_object(struct compiler *c, const struct set *s, uint32_t node) {
        struct object_rule rule = { .min = limit_of(s, "minProperties", false),
                                    .max = limit_of(s, "maxProperties", true) };
        struct members m = {};
        uint32_t names = GRAMMAR_NONE;
        int r = collect_members(c, s, &m);

        if (r >= 0 && schema_has_patterns(s))
                r = names_automaton(c, &m, &names);
        if (r >= 0)
                r = schema_add_classes(c, s, names, &rule.n_classes);
        if (r >= 0)
                r = add_properties(c, s, &m);
        rule.n = (uint32_t)m.list.n;
        VEC_DONE(&m.list);
        return r < 0 ? r : grammar_add_object(c->g, node, rule);
}

/* --- arrays --- */

/* What the set says about the item with this number; all of them later ones when it is beyond
 * every prefixItems. */
static int item_set(struct compiler *c, const struct set *s, size_t number, struct set *ret) {
        *ret = (struct set){ .n = 0 };
        for (size_t i = 0; i < s->n; i++) {
                const json_t *schema = s->atoms[i].schema;
                const json_t *own = json_array_get(json_object_get(schema, "prefixItems"), number);
                const json_t *v = own ? own : json_object_get(schema, "items");
                int r = v ? schema_set_add(c, ret, v) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_array(struct compiler *c, const struct set *s, uint32_t node) {
        struct array_rule rule = { .others = GRAMMAR_NONE, .min = limit_of(s, "minItems", false),
                                   .max = limit_of(s, "maxItems", true) };
        struct set set;
        uint32_t item;
        int r = 0;

        for (size_t i = 0; i < s->n; i++)
                rule.n = MAX(rule.n, (uint32_t)json_array_size(json_object_get(
                                             s->atoms[i].schema, "prefixItems")));
        for (uint32_t i = 0; i < rule.n && r >= 0; i++) {
                r = schema_worked(c, s->n + 1);
                if (r >= 0)
                        r = item_set(c, s, i, &set);
                if (r >= 0)
                        r = schema_node(c, &set, &item);
                if (r >= 0)
                        r = grammar_add_item(c->g, item);
        }
        if (r >= 0)
                r = item_set(c, s, SIZE_MAX, &set);
        if (r >= 0 && !set.empty)
                r = schema_node(c, &set, &rule.others);
        return r < 0 ? r : grammar_add_array(c->g, node, rule);
}

/* --- all types --- */

/* A literal that every schema may use; made once. */
static int add_words(struct compiler *c, uint32_t node, uint32_t *kept,
                     const char *const words[2]) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t start, end;
        int r = 0;

        if (*kept == GRAMMAR_NONE) {
                start = nfa_state(&n);
                end = nfa_state(&n);
                for (size_t i = 0; i < 2 && words[i]; i++) {
                        uint32_t at = start, next;

                        for (const char *p = words[i]; *p; p++, at = next) {
                                next = p[1] ? nfa_state(&n) : end;
                                nfa_edge(&n, at, (uint8_t)*p, (uint8_t)*p, next);
                        }
                }
                r = dfa_add(&c->g->dfa, &n, start, end, kept);
        }
        return r < 0 ? r : grammar_add_arm(c->g, node, ARM_LITERAL, *kept);
}

/* Numbers without limits. */
static int add_any_number(struct compiler *c, uint32_t node, bool whole) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t *kept = whole ? &c->integer : &c->number, start, end;
        int r = 0;

        if (*kept == GRAMMAR_NONE) {
                if (whole)
                        number_build(&n, &(struct number_range){ .whole = true }, &start, &end);
                else
                        number_build_any(&n, &start, &end);
                r = dfa_add(&c->g->dfa, &n, start, end, kept);
        }
        return r < 0 ? r : grammar_add_arm(c->g, node, ARM_LITERAL, *kept);
}

static int add_number(struct compiler *c, const struct set *s, unsigned types, uint32_t node) {
        bool whole = !(types & TYPE_FRACTION);
        uint32_t state;
        int r;

        if (!(types & TYPE_INTEGER))
                return schema_refuse(c, s->atoms[0].schema, NULL, ERROR_UNSUPPORTED,
                                     "Numbers that are not whole cannot be asked for.");
        r = schema_number(c, s, whole, &state);
        if (r < 0)
                return r;
        return state == GRAMMAR_NONE ? add_any_number(c, node, whole)
                                     : grammar_add_arm(c->g, node, ARM_LITERAL, state);
}

int schema_add_types(struct compiler *c, const struct set *s, uint32_t node) {
        static const char *const null[2] = { "null", NULL };
        static const char *const boolean[2] = { "true", "false" };
        unsigned types = types_of(s);
        int r = 0;

        if (types & TYPE_OBJECT)
                r = add_object(c, s, node);
        if (r >= 0 && (types & TYPE_ARRAY))
                r = add_array(c, s, node);
        if (r >= 0 && (types & TYPE_STRING))
                r = add_string(c, s, node);
        if (r >= 0 && (types & TYPE_NUMBER))
                r = add_number(c, s, types, node);
        if (r >= 0 && (types & TYPE_BOOLEAN))
                r = add_words(c, node, &c->boolean, boolean);
        if (r >= 0 && (types & TYPE_NULL))
                r = add_words(c, node, &c->null, null);
        return r < 0 ? schema_too_big(c, s->n ? s->atoms[0].schema : c->root, r) : 0;
}
