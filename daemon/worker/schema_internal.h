/* The inside of the schema compiler, shared by its files only. */
#pragma once

#include "daemon/worker/schema.h"

/* Types as bits; a number is an integer or a fraction. */
enum {
        TYPE_NULL = 1 << 0,
        TYPE_BOOLEAN = 1 << 1,
        TYPE_STRING = 1 << 2,
        TYPE_INTEGER = 1 << 3,
        TYPE_FRACTION = 1 << 4,
        TYPE_OBJECT = 1 << 5,
        TYPE_ARRAY = 1 << 6,
        TYPE_NUMBER = TYPE_INTEGER | TYPE_FRACTION,
        TYPE_ANY = (1 << 7) - 1,
};

/* One schema of those that hold for a value: its own keywords, or a choice that is still open. */
enum part { PART_OWN, PART_ANY_OF, PART_ONE_OF };

struct atom {
        const json_t *schema;
        enum part part;
};

/* All schemas that hold for a value. */
struct set {
        struct atom atoms[SCHEMA_SET_MAX];
        size_t n;
        bool empty;      /* `false` is among them */
};

/* What is remembered of a schema. */
struct known {
        const json_t *schema;
        const json_t *target;    /* of its $ref, when that is resolved and leads to a schema */
        bool resolved, checked;
};

struct compiler {
        struct grammar *g;
        const json_t *root;
        const char *where;
        struct request_error *e;
        VEC(struct set *) sets;          /* met so far; the number is not the node's */
        VEC(uint32_t) nodes;             /* of each */
        VEC(uint64_t) hashes;            /* of each */
        struct known *known;             /* a hash table; known_room is a power of two */
        size_t n_known, known_room;
        json_t *anchors;                 /* name: schema; NULL until the first is looked for */
        uint32_t null, boolean, integer, number; /* automata that many share, or GRAMMAR_NONE */
};

/* schema_keywords.c */
int schema_refuse(struct compiler *c, const json_t *schema, const char *keyword,
                  enum error_code code, const char *detail);
int schema_too_big(struct compiler *c, const json_t *schema, int error);
/* The schema's keywords are known and well-formed. */
int schema_check(struct compiler *c, const json_t *schema);
unsigned schema_types(const json_t *schema);
/* Does `not` leave types only: *ret_types those that it allows. */
bool schema_not_types(const json_t *schema, unsigned *ret_types);

/* schema_references.c */
/* What is remembered of a schema; valid until the next call. */
int schema_known(struct compiler *c, const json_t *schema, struct known **ret);
/* Where its $ref leads; *ret is NULL when it leads nowhere. -ENOMEM, -E2BIG (SCHEMA_WORK_MAX). */
int schema_target(struct compiler *c, const json_t *schema, const json_t **ret);
/* The same; a reference that leads nowhere is refused. */
int schema_resolve(struct compiler *c, const json_t *schema, const json_t **ret);
/* The schemas in a keyword's value. */
enum holding { HOLDS_NOTHING, HOLDS_ONE, HOLDS_LIST, HOLDS_NAMES };
enum holding schema_holds(const char *keyword);

/* Count work: one for each value, schema or name that is looked at, and for each 64 bytes of a
 * text. False when it has become too much: whatever is found then is void, and the next
 * schema_worked refuses. */
static inline bool schema_spend(struct compiler *c, size_t n) {
        c->g->work += n;
        return c->g->work <= SCHEMA_WORK_MAX;
}

static inline size_t schema_text_work(size_t bytes) {
        return 1 + bytes / 64;
}

/* schema.c */
int schema_worked(struct compiler *c, size_t n);
int schema_set_add(struct compiler *c, struct set *s, const json_t *schema);
int schema_node(struct compiler *c, const struct set *s, uint32_t *ret);

/* schema_values.c */
bool schema_value_equal(struct compiler *c, const json_t *a, const json_t *b);
unsigned schema_value_type(const json_t *v);
bool schema_has_values(const struct set *s);
/* The values of enum and const that fit the whole set, as literals of the node. */
int schema_add_values(struct compiler *c, const struct set *s, uint32_t node);
/* The text of a number, as it is written here. */
void schema_number_text(const json_t *v, char *buf, size_t size);

/* schema_types.c: arms for each type that is left. */
int schema_add_types(struct compiler *c, const struct set *s, uint32_t node);
/* The automaton of the set's patterns and formats, with its lengths when there are any of these (or
 * in any case); GRAMMAR_NONE: there is nothing to hold to. */
enum lengths { LENGTHS_NONE, LENGTHS_TOO, LENGTHS_ALSO_ALONE };
int schema_pattern(struct compiler *c, const struct set *s, enum lengths lengths, uint32_t *ret);

/* The automaton of one pattern, which the keyword of the schema has. */
int schema_match(struct compiler *c, const json_t *schema, const char *keyword, struct view text,
                 uint32_t *ret);

/* schema_names.c */
/* What patternProperties and propertyNames of one schema say about a name: 1 when a pattern
 * matches, so that additionalProperties says nothing; 0 when none does. */
int schema_name_matches(struct compiler *c, const json_t *schema, const char *name,
                        struct set *ret);
bool schema_has_patterns(const struct set *s);
/* The classes of other names; properties: automaton of the names that are listed, needed when the
 * set has patterns. */
int schema_add_classes(struct compiler *c, const struct set *s, uint32_t properties,
                       uint32_t *ret_n);

/* schema_numbers.c */
enum { NUMBER_TEXT_MAX = 64 };
/* The automaton of the set's bounds and multiples; GRAMMAR_NONE: there are none. */
int schema_number(struct compiler *c, const struct set *s, bool whole, uint32_t *ret);
/* Without an exponent. False: that has too many digits. */
bool schema_plain_number(const json_t *v, char ret[NUMBER_TEXT_MAX]);

/* schema_disjoint.c: can no value fit both, for certain? */
bool schema_disjoint(struct compiler *c, const json_t *a, const json_t *b, unsigned depth);
