/* enum and const: values become the bytes of their text. A number that is whole is written without
 * a point; a space may follow each comma and colon inside arrays and objects. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"

static bool is_whole(double d) {
        return d == trunc(d) && fabs(d) < 1e18;
}

void schema_number_text(const json_t *v, char *buf, size_t size) {
        double d = json_number_value(v);

        if (json_is_integer(v)) {
                snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
                return;
        }
        if (is_whole(d)) {
                snprintf(buf, size, "%.0f", d == 0 ? 0.0 : d);
                return;
        }
        for (int digits = 15; digits <= 17; digits++) { /* the shortest that reads back the same */
                snprintf(buf, size, "%.*g", digits, d);
                if (strtod(buf, NULL) == d)
                        return;
        }
}

unsigned schema_value_type(const json_t *v) {
        switch (json_typeof(v)) {
        case JSON_OBJECT:
                return TYPE_OBJECT;
        case JSON_ARRAY:
                return TYPE_ARRAY;
        case JSON_STRING:
                return TYPE_STRING;
        case JSON_INTEGER:
                return TYPE_INTEGER;
        case JSON_REAL:
                return json_real_value(v) == trunc(json_real_value(v)) ? TYPE_INTEGER
                                                                       : TYPE_FRACTION;
        case JSON_TRUE:
        case JSON_FALSE:
                return TYPE_BOOLEAN;
        case JSON_NULL:
                return TYPE_NULL;
        }
        return 0;
}

static bool numbers_equal(const json_t *a, const json_t *b) {
        if (json_is_integer(a) && json_is_integer(b))
                return json_integer_value(a) == json_integer_value(b);
        return json_number_value(a) == json_number_value(b);
}

/* As JSON Schema compares: 1 is 1.0. */
bool schema_value_equal(struct compiler *c, const json_t *a, const json_t *b) {
        const char *key;
        json_t *one;
        size_t i, n = json_string_length(a);

        if (!schema_spend(c, 1))
                return false;
        if (json_is_string(a) && json_is_string(b))
                return n == json_string_length(b) && schema_spend(c, n / 64) &&
                       memcmp(json_string_value(a), json_string_value(b), n) == 0;
        if (json_is_number(a) && json_is_number(b))
                return numbers_equal(a, b);
        if (json_is_array(a) && json_is_array(b)) {
                if (json_array_size(a) != json_array_size(b))
                        return false;
                json_array_foreach(a, i, one)
                        if (!schema_value_equal(c, one, json_array_get(b, i)))
                                return false;
                return true;
        }
        if (json_is_object(a) && json_is_object(b)) {
                if (json_object_size(a) != json_object_size(b))
                        return false;
                json_object_foreach((json_t *)a, key, one)
                        if (!schema_spend(c, schema_text_work(strlen(key))) ||
                            !json_object_get(b, key) ||
                            !schema_value_equal(c, one, json_object_get(b, key)))
                                return false;
                return true;
        }
        return json_equal(a, b);
}

/* --- text --- */

struct writer {
        struct nfa *n;
        uint32_t at;
};

static void put_byte(struct writer *w, uint8_t byte) {
        uint32_t next = nfa_state(w->n);

        nfa_edge(w->n, w->at, byte, byte, next);
        w->at = next;
}

static void put_mark(struct writer *w, char mark) {
        uint32_t before, after;

        put_byte(w, (uint8_t)mark);
        if (mark != ',' && mark != ':')
                return;
        before = w->at;
        after = nfa_state(w->n);
        nfa_edge(w->n, before, ' ', ' ', after);
        nfa_empty(w->n, before, after);
        w->at = after;
}

static void put_text(struct writer *w, const char *text) {
        for (; *text; text++)
                put_byte(w, (uint8_t)*text);
}

static void put_string(struct writer *w, const char *p, size_t n) {
        char escape[8];

        put_byte(w, '"');
        for (size_t i = 0; i < n; i++) {
                uint8_t c = (uint8_t)p[i];
                uint8_t letter = grammar_escape(c);

                if (letter)
                        snprintf(escape, sizeof(escape), "\\%c", letter);
                else
                        snprintf(escape, sizeof(escape), "\\u%04x", c);
                if (letter || c < 0x20)
                        put_text(w, escape);
                else
                        put_byte(w, c);
        }
        put_byte(w, '"');
}

static void put_value(struct writer *w, const json_t *v) {
        char number[64];
        const char *key;
        json_t *one;
        size_t i = 0;

        if (json_is_object(v)) {
                put_mark(w, '{');
                json_object_foreach((json_t *)v, key, one) {
                        if (i++ > 0)
                                put_mark(w, ',');
                        put_string(w, key, strlen(key));
                        put_mark(w, ':');
                        put_value(w, one);
                }
                put_mark(w, '}');
        } else if (json_is_array(v)) {
                put_mark(w, '[');
                json_array_foreach(v, i, one) {
                        if (i > 0)
                                put_mark(w, ',');
                        put_value(w, one);
                }
                put_mark(w, ']');
        } else if (json_is_string(v)) {
                put_string(w, json_string_value(v), json_string_length(v));
        } else if (json_is_number(v)) {
                schema_number_text(v, number, sizeof(number));
                put_text(w, number);
        } else {
                put_text(w, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
        }
}

/* --- which values fit --- */

enum { FIT_WORK = 4 }; /* keywords of a schema that a value is held against */

static bool among(struct compiler *c, const json_t *values, const json_t *v) {
        json_t *one;
        size_t i;

        json_array_foreach(values, i, one)
                if (schema_value_equal(c, one, v))
                        return true;
        return false;
}

/* Not held against the list that it is taken from. */
static bool own_keywords_fit(struct compiler *c, const json_t *schema, const json_t *v,
                             const json_t *list) {
        json_t *values = json_object_get(schema, "enum");
        json_t *constant = json_object_get(schema, "const");
        unsigned type = schema_value_type(v), allowed;

        if (!(schema_types(schema) & type) ||
            (values && values != list && !among(c, values, v)) ||
            (constant && !schema_value_equal(c, constant, v)))
                return false;
        return !json_object_get(schema, "not") || !schema_not_types(schema, &allowed) ||
               (allowed & type);
}

/* Keywords that look into arrays and objects; values of enum are not held against them. */
static const char *compound_keyword(const json_t *schema, unsigned type) {
        static const char *const of_object[] = { "properties", "required", "additionalProperties",
                                                 "patternProperties", "propertyNames",
                                                 "minProperties", "maxProperties" };
        static const char *const of_array[] = { "items", "prefixItems", "minItems", "maxItems" };

        for (size_t i = 0; type == TYPE_OBJECT && i < ARRAY_SIZE(of_object); i++)
                if (json_object_get(schema, of_object[i]))
                        return of_object[i];
        for (size_t i = 0; type == TYPE_ARRAY && i < ARRAY_SIZE(of_array); i++)
                if (json_object_get(schema, of_array[i]))
                        return of_array[i];
        return NULL;
}

static bool length_fits(const struct set *s, const json_t *v) {
        size_t characters = 0;

        for (size_t i = 0; i < json_string_length(v); i++)
                characters += ((uint8_t)json_string_value(v)[i] & 0xc0) != 0x80;
        for (size_t i = 0; i < s->n; i++) {
                json_t *min = json_object_get(s->atoms[i].schema, "minLength");
                json_t *max = json_object_get(s->atoms[i].schema, "maxLength");

                if ((min && (double)characters < json_number_value(min)) ||
                    (max && (double)characters > json_number_value(max)))
                        return false;
        }
        return true;
}

/* What strings and numbers of the set have to pass, made when the first of them comes. */
struct filter {
        const struct set *set;
        const json_t *list;         /* enum that the values are taken from, or NULL */
        uint32_t pattern, number;   /* automata, or GRAMMAR_NONE */
        bool has_pattern, has_number;
};

static int string_fits(struct compiler *c, struct filter *f, const json_t *v, bool *ret) {
        struct view text = { .p = (const uint8_t *)json_string_value(v),
                             .n = json_string_length(v) };
        int r = f->has_pattern ? 0 : schema_pattern(c, f->set, LENGTHS_NONE, &f->pattern);

        if (r < 0)
                return r;
        f->has_pattern = true;
        *ret = length_fits(f->set, v) &&
               (f->pattern == GRAMMAR_NONE || dfa_accepts(&c->g->dfa, f->pattern, text));
        return 0;
}

static int number_fits(struct compiler *c, struct filter *f, const json_t *v, bool *ret) {
        char text[NUMBER_TEXT_MAX];
        int r = f->has_number ? 0 : schema_number(c, f->set, false, &f->number);

        if (r < 0)
                return r;
        f->has_number = true;
        if (f->number == GRAMMAR_NONE)
                *ret = true;
        else
                *ret = schema_plain_number(v, text) &&
                       dfa_accepts(&c->g->dfa, f->number,
                                   (struct view){ (const uint8_t *)text, strlen(text) });
        return 0;
}

static int value_fits(struct compiler *c, struct filter *f, const json_t *v, bool *ret) {
        const struct set *s = f->set;
        unsigned type = schema_value_type(v);

        int r = schema_worked(c, s->n * FIT_WORK);

        *ret = false;
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->n; i++)
                if (!own_keywords_fit(c, s->atoms[i].schema, v, f->list))
                        return 0;
        for (size_t i = 0; i < s->n; i++) {
                const char *keyword = compound_keyword(s->atoms[i].schema, type);

                if (keyword)
                        return schema_refuse(c, s->atoms[i].schema, keyword, ERROR_UNSUPPORTED,
                                             "This keyword is not supported beside enum or const "
                                             "with an array or object.");
        }
        if (type == TYPE_STRING)
                return string_fits(c, f, v, ret);
        if (type & TYPE_NUMBER)
                return number_fits(c, f, v, ret);
        *ret = true;
        return 0;
}

/* --- literals --- */

static int add_value(struct compiler *c, struct filter *f, const json_t *v, struct writer *w,
                     uint32_t start, uint32_t end, bool *any) {
        bool fits;
        int r = value_fits(c, f, v, &fits);

        if (r < 0 || !fits)
                return r;
        w->at = start;
        put_value(w, v);
        nfa_empty(w->n, w->at, end);
        *any = true;
        return w->n->error;
}

static const json_t *with_values(const struct set *s) {
        for (size_t i = 0; i < s->n; i++)
                if (json_object_get(s->atoms[i].schema, "enum") ||
                    json_object_get(s->atoms[i].schema, "const"))
                        return s->atoms[i].schema;
        return NULL;
}

/* The values of one schema; the others only sort out. */
int schema_add_values(struct compiler *c, const struct set *s, uint32_t node) {
        _cleanup_(nfa_done) struct nfa n = {};
        const json_t *schema = with_values(s), *constant = json_object_get(schema, "const"), *v;
        const json_t *values = json_object_get(schema, "enum");
        uint32_t start = nfa_state(&n), end = nfa_state(&n);
        struct filter f = { .set = s, .list = constant ? NULL : values };
        struct writer w = { .n = &n };
        bool any = false;
        int r = constant ? add_value(c, &f, constant, &w, start, end, &any) : 0;

        for (size_t i = 0; r >= 0 && !constant && (v = json_array_get(values, i)); i++)
                r = add_value(c, &f, v, &w, start, end, &any);
        if (r >= 0 && any)
                r = grammar_add_literal(c->g, node, &n, start, end);
        return schema_too_big(c, schema, r);
}

bool schema_has_values(const struct set *s) {
        return with_values(s);
}
