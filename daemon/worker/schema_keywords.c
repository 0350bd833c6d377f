/* Keywords: which are understood, whether their values are well-formed, and where they stand. One
 * table row per keyword. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"

/* --- places --- */

struct place {
        char text[REQUEST_PARAM_MAX];
};

static bool is_keyword(const char *name);

/* Search for the schema and put the way to it into the place. Only for errors, so that no schema
 * carries its place along. */
static bool find_place(const json_t *at, const json_t *what, bool names, size_t n,
                       struct place *p) {
        const char *key;
        json_t *v;
        size_t i = 0;

        p->text[n] = '\0';
        if (at == what)
                return true;
        if (json_is_array(at))
                json_array_foreach(at, i, v) {
                        int m = snprintf(p->text + n, sizeof(p->text) - n, "/%zu", i);

                        if (m >= 0 && find_place(v, what, false,
                                                 MIN(n + (size_t)m, sizeof(p->text) - 1), p))
                                return true;
                }
        if (json_is_object(at))
                json_object_foreach((json_t *)at, key, v) {
                        int m = names || !is_keyword(key)
                                        ? snprintf(p->text + n, sizeof(p->text) - n, "/#%zu", i)
                                        : snprintf(p->text + n, sizeof(p->text) - n, "/%s", key);

                        i++;
                        if (m >= 0 && find_place(v, what,
                                                 !names && schema_holds(key) == HOLDS_NAMES,
                                                 MIN(n + (size_t)m, sizeof(p->text) - 1), p))
                                return true;
                }
        return false;
}

int schema_refuse(struct compiler *c, const json_t *schema, const char *keyword,
                  enum error_code code, const char *detail) {
        char param[REQUEST_PARAM_MAX];
        struct place p = { "" };

        find_place(c->root, schema, false, 0, &p);
        snprintf(param, sizeof(param), "%s%s%s%s", c->where, p.text, keyword ? "/" : "",
                 keyword ? keyword : "");
        return request_fail(c->e, code, param, detail);
}

int schema_too_big(struct compiler *c, const json_t *schema, int error) {
        const struct grammar *g = c->g;
        int r;

        if (error != -E2BIG)
                return error;
        if (g->dfa.work > DFA_WORK_MAX) {
                r = schema_refuse(c, schema, NULL, ERROR_INVALID_INPUT,
                                  "Patterns, numbers and values of the schema need too much work.");
                c->e->value = g->dfa.work;
                c->e->limit = DFA_WORK_MAX;
        } else if (g->nodes.n >= GRAMMAR_NODES_MAX) {
                r = schema_refuse(c, schema, NULL, ERROR_INVALID_INPUT,
                                  "The schema has too many different parts; alternatives beside "
                                  "each other multiply.");
                c->e->value = g->nodes.n + 1;
                c->e->limit = GRAMMAR_NODES_MAX;
        } else {
                r = schema_refuse(c, schema, NULL, ERROR_INVALID_INPUT,
                                  "Patterns, numbers and values of the schema need too many "
                                  "states.");
                c->e->value = MAX(g->dfa.states.n, (size_t)NFA_STATES_MAX) + 1;
                c->e->limit = g->dfa.states.n > NFA_STATES_MAX ? DFA_STATES_MAX : NFA_STATES_MAX;
        }
        return r;
}

/* --- types --- */

enum { N_TYPES = 7 }; /* an array of them names none twice */

static unsigned type_named(const char *name) {
        static const struct {
                const char *name;
                unsigned type;
        } types[] = {
                { "null", TYPE_NULL }, { "boolean", TYPE_BOOLEAN }, { "string", TYPE_STRING },
                { "integer", TYPE_INTEGER }, { "number", TYPE_NUMBER }, { "object", TYPE_OBJECT },
                { "array", TYPE_ARRAY },
        };

        for (size_t i = 0; name && i < ARRAY_SIZE(types); i++)
                if (strcmp(name, types[i].name) == 0)
                        return types[i].type;
        return 0;
}

unsigned schema_types(const json_t *schema) {
        json_t *type = json_object_get(schema, "type"), *one;
        unsigned types = 0;
        size_t i;

        if (!type)
                return TYPE_ANY;
        if (json_is_string(type))
                return type_named(json_string_value(type));
        if (json_array_size(type) > N_TYPES)
                return TYPE_ANY; /* refused when its turn comes */
        json_array_foreach(type, i, one)
                types |= type_named(json_string_value(one));
        return types;
}

static bool is_schema(const json_t *schema, const json_t *v) {
        return json_is_boolean(v) || json_is_object(v);
}

static bool is_type(const json_t *schema, const json_t *v);

bool schema_not_types(const json_t *schema, unsigned *ret_types) {
        json_t *not = json_object_get(schema, "not"), *type = json_object_get(not, "type");

        if (json_is_boolean(not))
                *ret_types = json_is_true(not) ? 0 : TYPE_ANY;
        else if (json_object_size(not) == 0)
                *ret_types = 0;
        else if (json_object_size(not) == 1 && type && is_type(not, type))
                *ret_types = TYPE_ANY & ~schema_types(not);
        else
                return false;
        return true;
}

/* --- the table --- */

static bool is_string(const json_t *schema, const json_t *v) { return json_is_string(v); }
static bool is_number(const json_t *schema, const json_t *v) { return json_is_number(v); }
static bool anything(const json_t *schema, const json_t *v) { return true; }

static bool is_count(const json_t *schema, const json_t *v) {
        double d = json_number_value(v);

        return json_is_number(v) && d >= 0 && d <= 4e9 && (double)(uint64_t)d == d;
}

static bool is_type(const json_t *schema, const json_t *v) {
        json_t *one;
        size_t i;

        if (json_is_string(v))
                return type_named(json_string_value(v)) != 0;
        json_array_foreach(v, i, one)
                if (type_named(json_string_value(one)) == 0)
                        return false;
        return json_array_size(v) > 0 && json_array_size(v) <= N_TYPES;
}

static bool is_names(const json_t *schema, const json_t *v) {
        json_t *one;
        size_t i;

        json_array_foreach(v, i, one)
                if (!json_is_string(one))
                        return false;
        return json_is_array(v);
}

static bool is_values(const json_t *schema, const json_t *v) { return json_is_array(v); }

static bool is_schemas(const json_t *schema, const json_t *v) {
        json_t *one;
        size_t i;

        json_array_foreach(v, i, one)
                if (!is_schema(schema, one))
                        return false;
        return json_array_size(v) > 0;
}

static bool is_named_schemas(const json_t *schema, const json_t *v) {
        const char *key;
        json_t *one;

        json_object_foreach((json_t *)v, key, one)
                if (!is_schema(schema, one))
                        return false;
        return json_is_object(v);
}

static bool is_not(const json_t *schema, const json_t *v) {
        unsigned types;

        return schema_not_types(schema, &types);
}

static bool is_false(const json_t *schema, const json_t *v) { return json_is_false(v); }
static bool is_true(const json_t *schema, const json_t *v) { return json_is_true(v); }
static bool never(const json_t *schema, const json_t *v) { return false; }
static bool without_contains(const json_t *schema, const json_t *v) {
        return !json_object_get(schema, "contains");
}
static bool without_if(const json_t *schema, const json_t *v) {
        return !json_object_get(schema, "if");
}
static bool without_then(const json_t *schema, const json_t *v) {
        return !json_object_get(schema, "then") && !json_object_get(schema, "else");
}
static bool is_empty(const json_t *schema, const json_t *v) {
        return json_is_object(v) && json_object_size(v) == 0;
}

static const char misfit[] = "The keyword's value is not what JSON Schema says, or too large.";
static const char unsupported[] =
        "This keyword, or this value of it, is not supported in a schema.";

/* `fits` false: refused, as misfit or as something unsupported. */
static const struct {
        const char *name;
        bool (*fits)(const json_t *schema, const json_t *v);
        const char *otherwise;
} keywords[] = {
        { "type", is_type, misfit },
        { "enum", is_values, misfit },
        { "const", anything, misfit },
        { "properties", is_named_schemas, misfit },
        { "required", is_names, misfit },
        { "additionalProperties", is_schema, misfit },
        { "patternProperties", is_named_schemas, misfit },
        { "propertyNames", is_schema, misfit },
        { "minProperties", is_count, misfit },
        { "maxProperties", is_count, misfit },
        { "items", is_schema, misfit },
        { "prefixItems", is_schemas, misfit },
        { "minItems", is_count, misfit },
        { "maxItems", is_count, misfit },
        { "minLength", is_count, misfit },
        { "maxLength", is_count, misfit },
        { "pattern", is_string, misfit },
        { "format", is_string, misfit },
        { "minimum", is_number, misfit },
        { "maximum", is_number, misfit },
        { "exclusiveMinimum", is_number, misfit },
        { "exclusiveMaximum", is_number, misfit },
        { "multipleOf", is_number, misfit },
        { "anyOf", is_schemas, misfit },
        { "oneOf", is_schemas, misfit },
        { "allOf", is_schemas, misfit },
        { "not", is_not, unsupported },
        { "$ref", is_string, misfit },
        { "$defs", is_named_schemas, misfit },
        { "definitions", is_named_schemas, misfit },
        { "$anchor", is_string, misfit },
        /* words about the schema */
        { "title", anything, NULL },
        { "description", anything, NULL },
        { "default", anything, NULL },
        { "examples", anything, NULL },
        { "deprecated", anything, NULL },
        { "readOnly", anything, NULL },
        { "writeOnly", anything, NULL },
        { "discriminator", anything, NULL },
        { "contentEncoding", anything, NULL },
        { "contentMediaType", anything, NULL },
        { "contentSchema", anything, NULL },
        { "$comment", anything, NULL },
        { "$schema", anything, NULL },
        { "$id", never, unsupported }, /* except at the root */
        /* refused, unless they say nothing */
        { "uniqueItems", is_false, unsupported },
        { "contains", never, unsupported },
        { "minContains", without_contains, unsupported },
        { "maxContains", without_contains, unsupported },
        { "if", without_then, unsupported },
        { "then", without_if, unsupported },
        { "else", without_if, unsupported },
        { "dependentRequired", is_empty, unsupported },
        { "dependentSchemas", is_empty, unsupported },
        { "dependencies", is_empty, unsupported },
        { "unevaluatedItems", is_true, unsupported },
        { "unevaluatedProperties", is_true, unsupported },
        { "additionalItems", is_true, unsupported },
        { "$dynamicRef", never, unsupported },
        { "$dynamicAnchor", never, unsupported },
        { "$recursiveRef", never, unsupported },
        { "$recursiveAnchor", never, unsupported },
        { "$vocabulary", never, unsupported },
        { "nullable", is_false, unsupported },
};

static bool is_keyword(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
                if (strcmp(keywords[i].name, name) == 0)
                        return true;
        return false;
}

static int check_keyword(struct compiler *c, const json_t *schema, const char *name,
                         const json_t *v, size_t place) {
        int r;

        if (schema == c->root && strcmp(name, "$id") == 0)
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
                if (strcmp(keywords[i].name, name) == 0) {
                        if (keywords[i].fits(schema, v))
                                return 0;
                        return schema_refuse(c, schema, keywords[i].name,
                                             keywords[i].otherwise == misfit ? ERROR_INVALID_INPUT
                                                                             : ERROR_UNSUPPORTED,
                                             keywords[i].otherwise);
                }
        r = schema_refuse(c, schema, NULL, ERROR_UNSUPPORTED,
                          "The schema has a keyword that JSON Schema does not know; the value is "
                          "its place, the limit the number of keywords there.");
        c->e->value = place;
        c->e->limit = json_object_size(schema);
        return r;
}

int schema_check(struct compiler *c, const json_t *schema) {
        const char *name;
        size_t place = 0;
        json_t *v;

        json_object_foreach((json_t *)schema, name, v) {
                int r = check_keyword(c, schema, name, v, ++place);

                if (r < 0)
                        return r;
        }
        return 0;
}
