/* Can a value fit both of two schemas? Only simple reasons against it are seen: other types, other
 * values of enum and const, or a member that both require and for which one of these holds. False
 * means "perhaps". */
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "engine/base/macro.h"

enum { DISJOINT_DEPTH_MAX = 6 };

/* All that is certain about the values of a schema. */
struct glimpse {
        unsigned types;
        const json_t *schemas[SCHEMA_SET_MAX]; /* all of them hold */
        size_t n;
};

/* Choices are left out: what holds without them holds with them. */
static void look(struct compiler *c, const json_t *schema, struct glimpse *g) {
        struct request_error unused, *e = c->e;
        json_t *all = json_object_get(schema, "allOf"), *one;
        const json_t *target;
        unsigned allowed;
        size_t i;

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
        c->e = &unused; /* a reference that leads nowhere is refused when its turn comes */
        if (json_is_string(json_object_get(schema, "$ref")) &&
            schema_resolve(c, schema, &target) >= 0)
                look(c, target, g);
        c->e = e;
        json_array_foreach(all, i, one)
                look(c, one, g);
}

static bool value_fits(const json_t *v, const struct glimpse *g) {
        if (!(schema_value_type(v) & g->types))
                return false;
        for (size_t i = 0; i < g->n; i++) {
                json_t *values = json_object_get(g->schemas[i], "enum"), *one;
                json_t *constant = json_object_get(g->schemas[i], "const");
                bool found = !values;
                size_t j;

                json_array_foreach(values, j, one)
                        found |= schema_value_equal(one, v);
                if (!found || (constant && !schema_value_equal(constant, v)))
                        return false;
        }
        return true;
}

/* One schema lists its values, and none of them fits the other. */
static bool values_differ(const struct glimpse *a, const struct glimpse *b) {
        for (size_t i = 0; i < a->n; i++) {
                json_t *values = json_object_get(a->schemas[i], "enum"), *one;
                json_t *constant = json_object_get(a->schemas[i], "const");
                bool any = false;
                size_t j;

                if (constant && !value_fits(constant, b))
                        return true;
                json_array_foreach(values, j, one)
                        any |= value_fits(one, b);
                if (values && !any)
                        return true;
        }
        return false;
}

static bool requires(const struct glimpse *g, const char *name) {
        for (size_t i = 0; i < g->n; i++) {
                json_t *required = json_object_get(g->schemas[i], "required"), *one;
                size_t j;

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

                        json_object_foreach(ours, name, one)
                                if (requires(a, name) && requires(b, name) &&
                                    json_object_get(theirs, name) &&
                                    schema_disjoint(c, one, json_object_get(theirs, name), depth))
                                        return true;
                }
        return false;
}

bool schema_disjoint(struct compiler *c, const json_t *a, const json_t *b, unsigned depth) {
        struct glimpse x = { .types = TYPE_ANY }, y = { .types = TYPE_ANY };

        c->work += SCHEMA_SET_MAX;
        if (c->work > SCHEMA_WORK_MAX)
                return false;
        look(c, a, &x);
        look(c, b, &y);
        if (!(x.types & y.types) || values_differ(&x, &y) || values_differ(&y, &x))
                return true;
        return (x.types & y.types) == TYPE_OBJECT && depth < DISJOINT_DEPTH_MAX &&
               members_differ(c, &x, &y, depth + 1);
}
