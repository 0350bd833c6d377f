/* JSON Schema to a grammar.
 *
 * Keywords beside each other, $ref and allOf all say "and", so the unit of work is not a schema but
 * the set of schemas that hold for one value: what they say about a type is put together, a member
 * has to fit the set of what each of them says about it. anyOf says "or": a set with an open choice
 * becomes the union of one set per alternative. Sets are numbered as they are met and compiled
 * once, in order, so recursion in the schema is a number that is known already, and there is none
 * here.
 *
 * Alternatives beside each other multiply; the number of sets is bounded (GRAMMAR_NODES_MAX), as is
 * the size of each. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"

/* --- sets --- */

static bool contains(const struct set *s, const json_t *schema, enum part part) {
        for (size_t i = 0; i < s->n; i++)
                if (s->atoms[i].schema == schema && s->atoms[i].part == part)
                        return true;
        return false;
}

static int add_atom(struct compiler *c, struct set *s, const json_t *schema, enum part part) {
        int r;

        if (s->n < SCHEMA_SET_MAX) {
                s->atoms[s->n++] = (struct atom){ .schema = schema, .part = part };
                return 0;
        }
        r = schema_refuse(c, schema, NULL, ERROR_INVALID_INPUT,
                          "Too many schemas hold for one value.");
        c->e->value = s->n + 1;
        c->e->limit = SCHEMA_SET_MAX;
        return r;
}

/* Count comparisons; refuse when they become too many. */
int schema_worked(struct compiler *c, size_t n) {
        int r;

        if (schema_spend(c, n))
                return 0;
        r = schema_refuse(c, c->root, NULL, ERROR_INVALID_INPUT,
                          "The schema needs too many comparisons.");
        c->e->value = c->g->work;
        c->e->limit = SCHEMA_WORK_MAX;
        return r;
}

/* The alternatives of oneOf must not overlap: an automaton that goes forward cannot count them. */
static int check_one_of(struct compiler *c, const json_t *schema) {
        json_t *all = json_object_get(schema, "oneOf");

        for (size_t i = 0; i < json_array_size(all); i++)
                for (size_t j = 0; j < i; j++) {
                        if (schema_disjoint(c, json_array_get(all, i), json_array_get(all, j), 0))
                                continue;
                        if (schema_worked(c, 0) < 0)
                                return -EBADMSG;
                        return schema_refuse(c, schema, "oneOf", ERROR_UNSUPPORTED,
                                             "Alternatives of oneOf must differ in type, in enum "
                                             "or const, or in those of a required member; anyOf "
                                             "may overlap.");
                }
        return 0;
}

/* Once for each schema, however many sets it is in. */
static int check_once(struct compiler *c, const json_t *schema) {
        struct known *k;
        int r = schema_known(c, schema, &k);

        if (r < 0 || k->checked)
                return r;
        k->checked = true;
        r = schema_check(c, schema);
        return r < 0 ? r : check_one_of(c, schema);
}

static int add_own(struct compiler *c, struct set *s, const json_t *schema) {
        json_t *all = json_object_get(schema, "allOf"), *one;
        const json_t *target;
        size_t i;
        int r = check_once(c, schema);

        if (r >= 0)
                r = add_atom(c, s, schema, PART_OWN);
        if (r >= 0 && json_object_get(schema, "anyOf"))
                r = add_atom(c, s, schema, PART_ANY_OF);
        if (r >= 0 && json_object_get(schema, "oneOf"))
                r = add_atom(c, s, schema, PART_ONE_OF);
        if (r >= 0 && json_object_get(schema, "$ref")) {
                r = schema_resolve(c, schema, &target);
                if (r >= 0)
                        r = schema_set_add(c, s, target);
        }
        json_array_foreach(all, i, one)
                if (r >= 0)
                        r = schema_set_add(c, s, one);
        return r;
}

int schema_set_add(struct compiler *c, struct set *s, const json_t *schema) {
        int r = schema_worked(c, s->n + 1);

        if (r < 0)
                return r;
        if (json_is_boolean(schema)) {
                s->empty |= json_is_false(schema);
                return 0;
        }
        return contains(s, schema, PART_OWN) ? 0 : add_own(c, s, schema);
}

static uint64_t hash_of(const struct set *s) {
        uint64_t hash = s->empty;

        for (size_t i = 0; i < s->n; i++) {
                hash = (hash ^ (uintptr_t)s->atoms[i].schema) * UINT64_C(0x9e3779b97f4a7c15);
                hash = (hash ^ (hash >> 29)) + s->atoms[i].part;
        }
        return hash;
}

static bool sets_equal(const struct set *a, const struct set *b) {
        if (a->n != b->n || a->empty != b->empty)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (a->atoms[i].schema != b->atoms[i].schema ||
                    a->atoms[i].part != b->atoms[i].part)
                        return false;
        return true;
}

/* The node of a set: a known one, or a new one that is compiled later. */
int schema_node(struct compiler *c, const struct set *s, uint32_t *ret) {
        uint64_t hash = hash_of(s);
        struct set *copy;
        int r = schema_worked(c, s->n + c->sets.n / 64 + 1);

        if (r < 0)
                return r;
        for (size_t i = 0; i < c->sets.n; i++)
                if (c->hashes.p[i] == hash && sets_equal(c->sets.p[i], s)) {
                        *ret = c->nodes.p[i];
                        return 0;
                }
        r = grammar_add_node(c->g, ret);
        if (r >= 0)
                r = VEC_PUSH(&c->nodes, *ret);
        if (r >= 0)
                r = VEC_PUSH(&c->hashes, hash);
        if (r < 0)
                return schema_too_big(c, s->n ? s->atoms[0].schema : c->root, r);
        copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        *copy = *s;
        r = VEC_PUSH(&c->sets, copy);
        if (r < 0)
                free(copy);
        return r;
}

/* --- compiling --- */

static const char *choice_keyword(enum part part) {
        return part == PART_ANY_OF ? "anyOf" : "oneOf";
}

/* The first open choice is made: one set for each alternative. */
static int add_alternatives(struct compiler *c, const struct set *s, size_t open, uint32_t node) {
        const struct atom *atom = &s->atoms[open];
        json_t *all = json_object_get(atom->schema, choice_keyword(atom->part));
        uint32_t other;
        int r = 0;

        for (size_t i = 0; i < json_array_size(all) && r >= 0; i++) {
                struct set rest = *s;

                r = schema_worked(c, s->n + 1);
                if (r < 0)
                        break;
                memmove(&rest.atoms[open], &rest.atoms[open + 1],
                        (rest.n - open - 1) * sizeof(rest.atoms[0]));
                rest.n--;
                r = schema_set_add(c, &rest, json_array_get(all, i));
                if (r < 0 || rest.empty)
                        continue;
                r = schema_node(c, &rest, &other);
                if (r >= 0)
                        r = schema_too_big(c, atom->schema,
                                           grammar_add_arm(c->g, node, ARM_NODE, other));
        }
        return r;
}

static int compile_set(struct compiler *c, const struct set *s, uint32_t node) {
        if (s->empty)
                return 0;
        for (size_t i = 0; i < s->n; i++)
                if (s->atoms[i].part != PART_OWN)
                        return add_alternatives(c, s, i, node);
        if (schema_has_values(s))
                return schema_add_values(c, s, node);
        return schema_add_types(c, s, node);
}

static void compiler_done(struct compiler *c) {
        for (size_t i = 0; i < c->sets.n; i++)
                free(c->sets.p[i]);
        VEC_DONE(&c->sets);
        VEC_DONE(&c->nodes);
        VEC_DONE(&c->hashes);
        free(c->known);
        json_decref(c->anchors);
}

int schema_add(struct grammar *g, const json_t *schema, const char *where, uint32_t *ret,
               struct request_error *e) {
        struct compiler c = { .g = g, .root = schema, .where = where, .e = e,
                              .null = GRAMMAR_NONE, .boolean = GRAMMAR_NONE,
                              .integer = GRAMMAR_NONE, .number = GRAMMAR_NONE };
        struct set first = { .n = 0 };
        int r = schema_set_add(&c, &first, schema);

        if (r >= 0)
                r = schema_node(&c, &first, ret);
        for (size_t i = 0; i < c.sets.n && r >= 0; i++)
                r = compile_set(&c, c.sets.p[i], c.nodes.p[i]);
        if (r >= 0)
                r = schema_worked(&c, 0);
        compiler_done(&c);
        return r;
}

int schema_settle(struct grammar *g, const char *where, struct request_error *e) {
        static const bool all[256] = { [0 ... 255] = true };
        int r = grammar_settle(g, all);

        if (r == -EDOM)
                return request_fail_range(e, ERROR_INVALID_INPUT, where,
                                          "No value fits the schema within so many levels of "
                                          "arrays and objects.", 0, GRAMMAR_DEPTH);
        if (r == -E2BIG)
                return request_fail_range(e, ERROR_INVALID_INPUT, where,
                                          "The schema has too many alternatives.",
                                          GRAMMAR_ARMS_MAX + 1, GRAMMAR_ARMS_MAX);
        return r;
}

int schema_compile(const json_t *schema, const char *where, struct grammar **ret,
                   struct request_error *e) {
        struct grammar *g;
        int r;

        if (!json_is_object(schema) && !json_is_boolean(schema))
                return request_fail(e, ERROR_INVALID_INPUT, where,
                                    "The schema must be an object or a boolean.");
        r = grammar_new(&g);
        if (r < 0)
                return r;
        r = schema_add(g, schema, where, &g->root, e);
        if (r >= 0)
                r = schema_settle(g, where, e);
        if (r < 0)
                grammar_free(g);
        else
                *ret = g;
        return r;
}

int schema_any_object(struct grammar **ret) {
        json_t *schema = json_pack("{s:s}", "type", "object");
        struct request_error e = {};
        int r = schema ? schema_compile(schema, "", ret, &e) : -ENOMEM;

        json_decref(schema);
        return r;
}
