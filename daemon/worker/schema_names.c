/* Names of members that properties does not list. additionalProperties speaks about all of them,
 * patternProperties about those that match, propertyNames restricts them (and those that are
 * listed). So the names are divided into classes, each an automaton with the set of schemas that
 * hold for its members: at first all names in one class, then every pattern divides each class in
 * two. Most schemas have no pattern, and one class without an automaton. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"

enum { CLASSES_MAX = 16 };

struct class {
        uint32_t names;                /* automaton */
        uint64_t matched;              /* schemas of the set of which a pattern matches */
        struct set value;
};

struct classes {
        struct compiler *c;
        const struct set *s;
        struct class list[CLASSES_MAX];
        size_t n;
};

bool schema_has_patterns(const struct set *s) {
        for (size_t i = 0; i < s->n; i++) {
                const json_t *schema = s->atoms[i].schema;

                if (json_object_size(json_object_get(schema, "patternProperties")) > 0 ||
                    json_object_get(schema, "propertyNames"))
                        return true;
        }
        return false;
}

static struct view view_of(const char *text) {
        return (struct view){ .p = (const uint8_t *)text, .n = strlen(text) };
}

/* --- automata over names --- */

static int all_names(struct compiler *c, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t at = nfa_state(&n);

        nfa_characters(&n, at, 0, 0x10ffff, at);
        return dfa_add(&c->g->dfa, &n, at, at, ret);
}

/* Exactly the strings of enum and const, which one may lack. */
static int listed_names(struct compiler *c, const json_t *values, const json_t *constant,
                        uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        uint32_t start = nfa_state(&n), end = nfa_state(&n);
        const json_t *v;

        for (size_t i = 0; values && (v = json_array_get(values, i)); i++)
                if (json_is_string(v) && (!constant || schema_value_equal(c, v, constant)))
                        nfa_text(&n, start, view_of(json_string_value(v)), end);
        if (!values && json_is_string(constant))
                nfa_text(&n, start, view_of(json_string_value(constant)), end);
        if (!schema_spend(c, json_array_size(values)))
                return schema_worked(c, 0);
        return dfa_add(&c->g->dfa, &n, start, end, ret);
}

/* The names that one schema allows as a string: by its values, pattern, format and length. */
static int allowed_names(struct compiler *c, const json_t *schema, uint32_t *ret) {
        struct set s = { .n = 0 };
        uint32_t names, pattern;
        int r = schema_set_add(c, &s, schema);

        if (r >= 0)
                r = all_names(c, &names);
        for (size_t i = 0; i < s.n && r >= 0; i++) {
                json_t *values = json_object_get(s.atoms[i].schema, "enum");
                json_t *constant = json_object_get(s.atoms[i].schema, "const");
                unsigned allowed = TYPE_ANY;

                if (s.atoms[i].part != PART_OWN)
                        return schema_refuse(c, schema, NULL, ERROR_UNSUPPORTED,
                                             "Alternatives are not supported for names.");
                if (json_object_get(s.atoms[i].schema, "not"))
                        schema_not_types(s.atoms[i].schema, &allowed);
                s.empty |= !(schema_types(s.atoms[i].schema) & allowed & TYPE_STRING);
                if (values || constant)
                        r = listed_names(c, values, constant, &pattern);
                if (r >= 0 && (values || constant))
                        r = dfa_intersect(&c->g->dfa, names, pattern, &names);
        }
        if (r >= 0)
                r = schema_pattern(c, &s, LENGTHS_ALSO_ALONE, &pattern);
        if (r >= 0 && pattern != GRAMMAR_NONE)
                r = dfa_intersect(&c->g->dfa, names, pattern, &names);
        if (r >= 0 && s.empty)
                r = dfa_subtract(&c->g->dfa, names, names, &names);
        *ret = names;
        return r;
}

/* --- names that are listed --- */

int schema_name_matches(struct compiler *c, const json_t *schema, const char *name,
                        struct set *ret) {
        json_t *patterns = json_object_get(schema, "patternProperties"), *v;
        json_t *names = json_object_get(schema, "propertyNames");
        const char *pattern;
        uint32_t automaton;
        bool any = false;
        int r = 0;

        json_object_foreach(patterns, pattern, v) {
                r = schema_worked(c, strlen(pattern) + 1);
                if (r < 0)
                        return r;
                r = schema_match(c, schema, "patternProperties", view_of(pattern), &automaton);
                if (r < 0)
                        return r;
                if (!dfa_accepts(&c->g->dfa, automaton, view_of(name)))
                        continue;
                any = true;
                r = schema_set_add(c, ret, v);
                if (r < 0)
                        return r;
        }
        if (names) {
                r = allowed_names(c, names, &automaton);
                if (r < 0)
                        return schema_too_big(c, schema, r);
                ret->empty |= !dfa_accepts(&c->g->dfa, automaton, view_of(name));
        }
        return any;
}

/* --- classes --- */

static int too_many(struct classes *k, const json_t *schema) {
        int r = schema_refuse(k->c, schema, "patternProperties", ERROR_INVALID_INPUT,
                              "The patterns divide the names into too many classes.");

        k->c->e->value = k->n + 1;
        k->c->e->limit = CLASSES_MAX;
        return r;
}

static bool is_live(const struct classes *k, uint32_t state) {
        return k->c->g->dfa.states.p[state].live;
}

/* Those names of class i that match become a class of their own. */
static int divide(struct classes *k, size_t i, size_t atom, uint32_t pattern, const json_t *v) {
        struct dfa *d = &k->c->g->dfa;
        struct class *old = &k->list[i], matching = *old;
        int r = dfa_intersect(d, old->names, pattern, &matching.names);

        if (r >= 0)
                r = dfa_subtract(d, old->names, pattern, &old->names);
        if (r < 0 || !is_live(k, matching.names))
                return r;
        if (k->n == CLASSES_MAX)
                return too_many(k, k->s->atoms[atom].schema);
        matching.matched |= UINT64_C(1) << atom;
        r = schema_set_add(k->c, &matching.value, v);
        k->list[k->n++] = matching;
        return r;
}

static int divide_all(struct classes *k, size_t atom) {
        const json_t *schema = k->s->atoms[atom].schema;
        json_t *patterns = json_object_get(schema, "patternProperties"), *v;
        const char *pattern;
        uint32_t automaton;
        int r = 0;

        json_object_foreach(patterns, pattern, v) {
                size_t n = k->n;

                r = schema_match(k->c, schema, "patternProperties", view_of(pattern), &automaton);
                for (size_t i = 0; i < n && r >= 0; i++)
                        r = divide(k, i, atom, automaton, v);
                if (r < 0)
                        break;
        }
        return r;
}

static int restrict_names(struct classes *k, const json_t *schema) {
        json_t *names = json_object_get(schema, "propertyNames");
        uint32_t automaton;
        int r = names ? allowed_names(k->c, names, &automaton) : 0;

        for (size_t i = 0; names && i < k->n && r >= 0; i++)
                r = dfa_intersect(&k->c->g->dfa, k->list[i].names, automaton, &k->list[i].names);
        return r;
}

/* additionalProperties holds where no pattern of the same schema matches. */
static int add_additional(struct classes *k, struct class *class) {
        for (size_t i = 0; i < k->s->n; i++) {
                json_t *v = json_object_get(k->s->atoms[i].schema, "additionalProperties");
                bool matched = class->matched >> i & 1;
                int r = v && !matched ? schema_set_add(k->c, &class->value, v) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

/* The classes of a set with patterns. Names of properties are in none of them. */
static int make_classes(struct classes *k, uint32_t properties) {
        struct class all = { .matched = 0 };
        int r = all_names(k->c, &all.names);

        if (r >= 0)
                r = dfa_subtract(&k->c->g->dfa, all.names, properties, &all.names);
        k->list[k->n++] = all;
        for (size_t i = 0; i < k->s->n && r >= 0; i++)
                r = divide_all(k, i);
        for (size_t i = 0; i < k->s->n && r >= 0; i++)
                r = restrict_names(k, k->s->atoms[i].schema);
        for (size_t i = 0; i < k->n && r >= 0; i++)
                r = add_additional(k, &k->list[i]);
        return r;
}

struct chosen {
        uint32_t pattern, node;
};

static int add_classes(struct compiler *c, const struct chosen *chosen, uint32_t n) {
        int r = 0;

        for (uint32_t i = 0; i < n && r >= 0; i++)
                r = grammar_add_class(c->g, chosen[i].pattern, chosen[i].node);
        return r;
}

int schema_add_classes(struct compiler *c, const struct set *s, uint32_t properties,
                       uint32_t *ret_n) {
        struct classes *k = calloc(1, sizeof(*k));
        struct chosen chosen[CLASSES_MAX];
        size_t first = c->g->dfa.states.n;
        uint32_t n = 0;
        int r = k ? 0 : -ENOMEM;

        if (!k)
                return r;
        *k = (struct classes){ .c = c, .s = s };
        if (schema_has_patterns(s)) {
                r = make_classes(k, properties);
        } else {
                k->list[k->n++] = (struct class){ .names = GRAMMAR_NONE };
                r = add_additional(k, &k->list[0]);
        }
        for (size_t i = 0; i < k->n && r >= 0; i++) {
                struct class *class = &k->list[i];

                if (class->value.empty ||
                    (class->names != GRAMMAR_NONE && !is_live(k, class->names)))
                        continue;
                chosen[n].pattern = class->names;
                r = schema_node(c, &class->value, &chosen[n++].node);
        }
        if (r >= 0)
                r = grammar_mark_decoded(c->g, first);
        if (r >= 0)
                r = add_classes(c, chosen, n);
        *ret_n = n;
        free(k);
        return schema_too_big(c, s->n ? s->atoms[0].schema : c->root, r);
}
