/* What a schema's $ref points to, and what is remembered of each schema: a schema that many sets
 * share is checked and resolved once. The remembered ones are found by their address, which is
 * theirs alone while the request's JSON lives. Anchors are collected once, from the places that
 * hold schemas; the first of those with the same name counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/schema_internal.h"
#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"

/* --- schemas that were met --- */

static size_t place_of(const struct compiler *c, const json_t *schema) {
        uint64_t hash = (uint64_t)(uintptr_t)schema * UINT64_C(0x9e3779b97f4a7c15);
        size_t i = (size_t)(hash >> 32) & (c->known_room - 1);

        while (c->known[i].schema && c->known[i].schema != schema)
                i = (i + 1) & (c->known_room - 1);
        return i;
}

static int grow(struct compiler *c) {
        struct known *old = c->known;
        size_t room = c->known_room;

        c->known = calloc(room ? 2 * room : 64, sizeof(*c->known));
        if (!c->known) {
                c->known = old;
                return -ENOMEM;
        }
        c->known_room = room ? 2 * room : 64;
        for (size_t i = 0; i < room; i++)
                if (old[i].schema)
                        c->known[place_of(c, old[i].schema)] = old[i];
        free(old);
        return 0;
}

int schema_known(struct compiler *c, const json_t *schema, struct known **ret) {
        int r = 2 * (c->n_known + 1) > c->known_room ? grow(c) : 0;

        if (r < 0)
                return r;
        *ret = &c->known[place_of(c, schema)];
        c->n_known += !(*ret)->schema;
        (*ret)->schema = schema;
        return 0;
}

/* --- places --- */

enum holding schema_holds(const char *keyword) {
        static const struct {
                const char *keyword;
                enum holding what;
        } rows[] = {
                { "properties", HOLDS_NAMES }, { "patternProperties", HOLDS_NAMES },
                { "$defs", HOLDS_NAMES }, { "definitions", HOLDS_NAMES },
                { "dependentSchemas", HOLDS_NAMES }, { "prefixItems", HOLDS_LIST },
                { "anyOf", HOLDS_LIST }, { "oneOf", HOLDS_LIST }, { "allOf", HOLDS_LIST },
                { "items", HOLDS_ONE }, { "additionalProperties", HOLDS_ONE },
                { "propertyNames", HOLDS_ONE }, { "not", HOLDS_ONE }, { "contains", HOLDS_ONE },
                { "if", HOLDS_ONE }, { "then", HOLDS_ONE }, { "else", HOLDS_ONE },
                { "unevaluatedItems", HOLDS_ONE }, { "unevaluatedProperties", HOLDS_ONE },
                { "contentSchema", HOLDS_ONE },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(rows[i].keyword, keyword) == 0)
                        return rows[i].what;
        return HOLDS_NOTHING;
}

/* --- references --- */

static int hex_pair(const char *p) {
        char pair[3] = { p[0], p[0] ? p[1] : '\0', '\0' }, *end;
        long v = strtol(pair, &end, 16);

        return end == pair + 2 ? (int)v : -1;
}

/* One step of a JSON pointer in a URI fragment, decoded in place; the rest follows its end. */
static char *next_token(char **at) {
        char *token = *at, *to = token, *p = token;

        for (; *p && *p != '/'; p++) {
                char c = *p;

                if (c == '%' && hex_pair(p + 1) > 0) {
                        c = (char)hex_pair(p + 1);
                        p += 2;
                }
                *to++ = c;
        }
        *at = *p ? p + 1 : NULL;
        *to = '\0';
        for (p = to = token; *p; p++) {
                if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
                        *to++ = *++p == '0' ? '~' : '/';
                else
                        *to++ = *p;
        }
        *to = '\0';
        return token;
}

static const json_t *follow(const json_t *v, char *pointer) {
        while (v && pointer) {
                char *token = next_token(&pointer), *end;

                if (json_is_object(v)) {
                        v = json_object_get(v, token);
                } else {
                        size_t i = strtoul(token, &end, 10);

                        v = *token && !*end ? json_array_get(v, i) : NULL;
                }
        }
        return v;
}

static int take_anchors(struct compiler *c, const json_t *schema) {
        const char *key, *name, *anchor = json_string_value(json_object_get(schema, "$anchor"));
        json_t *v, *one;
        size_t i;
        int r = schema_spend(c, 1) ? 0 : -E2BIG;

        if (r >= 0 && anchor && !json_object_get(c->anchors, anchor) &&
            json_object_set(c->anchors, anchor, (json_t *)schema) < 0)
                r = -ENOMEM;
        json_object_foreach((json_t *)schema, key, v) {
                enum holding what = schema_holds(key);

                if (r >= 0 && what == HOLDS_ONE)
                        r = take_anchors(c, v);
                if (what == HOLDS_LIST)
                        json_array_foreach(v, i, one)
                                r = r < 0 ? r : take_anchors(c, one);
                if (what == HOLDS_NAMES)
                        json_object_foreach(v, name, one)
                                r = r < 0 ? r : take_anchors(c, one);
        }
        return r;
}

static int find_anchor(struct compiler *c, const char *name, const json_t **ret) {
        int r = 0;

        if (!c->anchors) {
                c->anchors = json_object();
                r = c->anchors ? take_anchors(c, c->root) : -ENOMEM;
        }
        *ret = json_object_get(c->anchors, name);
        return r;
}

/* *ret: NULL when it leads to no schema of this one. */
static int find(struct compiler *c, const char *ref, const json_t **ret) {
        char *copy;
        int r = 0;

        *ret = NULL;
        if (ref[0] != '#')
                return 0;
        copy = strdup(ref);
        if (!copy)
                return -ENOMEM;
        if (copy[1] == '\0')
                *ret = c->root;
        else if (copy[1] == '/')
                *ret = follow(c->root, copy + 2);
        else
                r = find_anchor(c, copy + 1, ret);
        secure_free(copy);
        if (*ret && !json_is_object(*ret) && !json_is_boolean(*ret))
                *ret = NULL;
        return r;
}

int schema_target(struct compiler *c, const json_t *schema, const json_t **ret) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        struct known *k;
        int r = schema_known(c, schema, &k);

        if (r < 0)
                return r;
        if (ref && !k->resolved) {
                r = find(c, ref, &k->target);
                k->resolved = r >= 0;
        }
        *ret = k->target;
        return r;
}

int schema_resolve(struct compiler *c, const json_t *schema, const json_t **ret) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        int r = schema_target(c, schema, ret);

        if (r == -E2BIG)
                return schema_worked(c, 0);
        if (r < 0 || *ret)
                return r;
        if (ref[0] != '#')
                return schema_refuse(c, schema, "$ref", ERROR_UNSUPPORTED,
                                     "Only references into the same schema are followed.");
        return schema_refuse(c, schema, "$ref", ERROR_INVALID_INPUT,
                             "The reference leads to no schema.");
}
