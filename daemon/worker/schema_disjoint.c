/* Can a value fit both of two schemas? Only simple reasons against it are seen: other types, other
 * values of enum and const, or a member that both require and for which one of these holds. False
 * means "perhaps", or that the work has become too much. */
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"

enum {
        DISJOINT_DEPTH_MAX = 6,
        LOOK_WORK = 4, /* keywords of a schema that are looked at */
};

/* All that is certain about the values of a schema. */
struct glimpse {
        unsigned types;
        const json_t *schemas[SCHEMA_SET_MAX]; /* all of them hold */
        size_t n;
};

/* Choices are left out: what holds without them holds with them. */
static void look(struct compiler *c, const json_t *schema, struct glimpse *g) {
        json_t *all = json_object_get(schema, "allOf"), *one;
        const json_t *target;
        unsigned allowed;
        size_t i;

        if (!schema_spend(c, LOOK_WORK + g->n))
                return;
        if (json_is_false(schema))
                g->types = 0;
        for (i = 0; i < g->n; i++)
                if (g->schemas[i] == schema)
                        return;
        if (!json_is_object(schema) || g->n == SCHEMA_SET_MAX)
                return;
        g->schemas[g->n++] = schema;
        g->types &= schema_types(schema);
        if (json_object_get(schema, "not") && schema_not_types(schema, &allowed))
                g->types &= allowed;
        /* a reference that leads nowhere is refused when its turn comes */
        if (json_object_get(schema, "$ref") && schema_target(c, schema, &target) >= 0 && target)
                look(c, target, g);
        json_array_foreach(all, i, one)
                look(c, one, g);
}

/* "True" is the careful answer here. */
static bool value_fits(struct compiler *c, const json_t *v, const struct glimpse *g) {
        if (!(schema_value_type(v) & g->types))
                return false;
        for (size_t i = 0; i < g->n; i++) {
                json_t *values = json_object_get(g->schemas[i], "enum"), *one;
                json_t *constant = json_object_get(g->schemas[i], "const");
                bool found = !values;
                size_t j;

                if (!schema_spend(c, 1))
                        return true;
                for (j = 0; !found && (one = json_array_get(values, j)); j++)
                        found = schema_value_equal(c, one, v);
                if (!found || (constant && !schema_value_equal(c, constant, v)))
                        return !schema_spend(c, 0);
        }
        return true;
}

/* One schema lists its values, and none of them fits the other. */
static bool values_differ(struct compiler *c, const struct glimpse *a, const struct glimpse *b) {
        for (size_t i = 0; i < a->n; i++) {
                json_t *values = json_object_get(a->schemas[i], "enum"), *one;
                json_t *constant = json_object_get(a->schemas[i], "const");
                bool any = false;
                size_t j;

                if (constant && !value_fits(c, constant, b))
                        return true;
                for (j = 0; !any && (one = json_array_get(values, j)); j++)
                        any = value_fits(c, one, b);
                if (values && !any)
                        return true;
        }
        return false;
}

static bool requires(struct compiler *c, const struct glimpse *g, const char *name) {
        size_t each = schema_text_work(strlen(name));

        for (size_t i = 0; i < g->n; i++) {
                json_t *required = json_object_get(g->schemas[i], "required"), *one;
                size_t j;

                if (!schema_spend(c, 1 + json_array_size(required) * each))
                        return false;
                json_array_foreach(required, j, one)
                        if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
                                return true;
        }
        return false;
}

/* A member that both require, and that cannot be the same in both. */
static bool members_differ(struct compiler *c, const struct glimpse *a, const struct glimpse *b,
                           unsigned depth) {
        for (size_t i = 0; i < a->n; i++)
                for (size_t j = 0; j < b->n; j++) {
                        json_t *ours = json_object_get(a->schemas[i], "properties"), *one;
                        json_t *theirs = json_object_get(b->schemas[j], "properties");
                        const char *name;

                        json_object_foreach(ours, name, one) {
                                if (!schema_spend(c, schema_text_work(strlen(name))))
                                        return false;
                                if (json_object_get(theirs, name) && requires(c, a, name) &&
                                    requires(c, b, name) &&
                                    schema_disjoint(c, one, json_object_get(theirs, name), depth))
                                        return true;
                        }
                }
        return false;
}

bool schema_disjoint(struct compiler *c, const json_t *a, const json_t *b, unsigned depth) {
        struct glimpse x = { .types = TYPE_ANY }, y = { .types = TYPE_ANY };

        look(c, a, &x);
        look(c, b, &y);
        if (!schema_spend(c, 1))
                return false;
        if (!(x.types & y.types) || values_differ(c, &x, &y) || values_differ(c, &y, &x))
                return true;
        return (x.types & y.types) == TYPE_OBJECT && depth < DISJOINT_DEPTH_MAX &&
               members_differ(c, &x, &y, depth + 1);
}
