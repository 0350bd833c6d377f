/* What may be written: sets of JSON values, as a pushdown automaton over bytes.
 *
 * A node is a set of values: the union of its arms. An arm is a literal text or number (an
 * automaton), a string, an object or an array; members and items are nodes again, so that a grammar
 * can be recursive. Strings are written in one way only: characters as UTF-8, \" \\ \b \f \n \r \t,
 * and \u00xx in small letters for other control characters. No object has two members with the
 * same name. */
#pragma once

#include "engine/grammar/automaton.h"

enum {
        GRAMMAR_NODES_MAX = 4096,
        GRAMMAR_ARMS_MAX = 1 << 16,
        GRAMMAR_PROPERTIES_MAX = 256,  /* of one object */
        GRAMMAR_DEPTH = 64,            /* of objects and arrays in each other */
};

#define GRAMMAR_NONE UINT32_MAX        /* no node; no limit */

enum arm_kind {
        ARM_LITERAL,  /* index: the first state of an automaton over the JSON text */
        ARM_STRING,   /* index: string rule */
        ARM_PATTERN,  /* index: the first state of an automaton over the string's characters */
        ARM_OBJECT,   /* index: object rule */
        ARM_ARRAY,    /* index: array rule */
        ARM_NODE,     /* index: node; only until grammar_settle */
        ARM_TEXT,     /* any text that does not begin with a brace, perhaps after white space */
};

struct arm {
        enum arm_kind kind;
        uint32_t index;
        uint32_t next;    /* of the same node, or GRAMMAR_NONE */
        uint32_t height;  /* levels of objects and arrays that it needs; GRAMMAR_NONE: it cannot
                           * be written */
};

struct node {
        uint32_t first, last;  /* arms */
        uint32_t height;       /* the least of its arms' */
};

struct string_rule {
        uint32_t min, max;     /* characters; max GRAMMAR_NONE: no limit */
};

struct property {
        uint32_t name, name_n; /* bytes in grammar.names; UTF-8, decoded */
        uint32_t value;        /* node */
        bool required;
        bool writable;         /* the vocabulary can spell the name */
};

/* Members come in the order of the properties, then those with other names, which belong to
 * classes. */
struct object_rule {
        uint32_t first, n;              /* in grammar.properties */
        uint32_t first_class, n_classes;
        uint32_t min, max;              /* members */
};

/* Names that an automaton accepts (no two classes accept the same one, none accepts a property's),
 * or all that are no properties. */
struct name_class {
        uint32_t pattern;      /* first state, or GRAMMAR_NONE: all; then it is the only class */
        uint32_t value;        /* node */
};

struct array_rule {
        uint32_t first, n;     /* the nodes of the first items, in grammar.items */
        uint32_t others;       /* node of the items after them, or GRAMMAR_NONE */
        uint32_t min, max;     /* items */
};

/* What is awaited of a UTF-8 character. */
enum utf8_state {
        UTF8_BROKEN,
        UTF8_NONE,   /* a character begins */
        UTF8_ONE, UTF8_TWO, UTF8_THREE,
        UTF8_AFTER_E0, UTF8_AFTER_ED, UTF8_AFTER_F0, UTF8_AFTER_F4,
        _UTF8_STATE_MAX,
};

struct decoded {
        uint32_t first, last;
};

struct grammar {
        struct dfa dfa;
        VEC(struct node) nodes;
        VEC(struct arm) arms;
        VEC(struct string_rule) strings;
        VEC(struct object_rule) objects;
        VEC(struct array_rule) arrays;
        VEC(struct property) properties;
        VEC(uint32_t) sorted;  /* the same numbers as properties, within an object by name */
        VEC(struct name_class) classes;
        VEC(uint32_t) items;
        VEC(uint8_t) names;
        VEC(struct decoded) decoded; /* states over characters of strings, not over JSON text */
        size_t work;           /* of those who build it, as they count it */
        uint32_t root;
        bool settled;
        bool utf8_live[_UTF8_STATE_MAX]; /* the vocabulary can end such a character */
};

int grammar_new(struct grammar **ret);
/* Everything is wiped. */
struct grammar *grammar_free(struct grammar *g);

/* Building. All return 0, -ENOMEM, or -E2BIG beyond a limit. */
int grammar_add_node(struct grammar *g, uint32_t *ret); /* empty */
int grammar_add_arm(struct grammar *g, uint32_t node, enum arm_kind kind, uint32_t index);
int grammar_add_literal(struct grammar *g, uint32_t node, const struct nfa *n, uint32_t start,
                        uint32_t end);
int grammar_add_string(struct grammar *g, uint32_t node, struct string_rule rule);
/* Properties, classes and first items are those added last, as many as the rule says (where they
 * begin is filled in). */
int grammar_add_property(struct grammar *g, struct view name, uint32_t value, bool required);
int grammar_add_class(struct grammar *g, uint32_t pattern, uint32_t value);
int grammar_add_object(struct grammar *g, uint32_t node, struct object_rule rule);
int grammar_add_item(struct grammar *g, uint32_t node);
int grammar_add_array(struct grammar *g, uint32_t node, struct array_rule rule);
/* All automata made since there were so many states are over the characters of strings. */
int grammar_mark_decoded(struct grammar *g, size_t first);

/* Once built: find out what can be written with these bytes. 0; -EDOM: no value can, within
 * GRAMMAR_DEPTH levels; -E2BIG, -ENOMEM. May be called again with other bytes. */
int grammar_settle(struct grammar *g, const bool usable[256]);

/* What grammar_settle does about characters, alone. */
void grammar_settle_utf8(struct grammar *g, const bool usable[256]);
/* The state after one more byte of a string; UTF8_BROKEN when it may not follow. */
enum utf8_state grammar_utf8(const struct grammar *g, enum utf8_state at, uint8_t byte);

/* Characters that are written as a backslash and a letter: the letter, and back. 0: it is none. */
#define GRAMMAR_LETTERS "\"\\bfnrt"
uint8_t grammar_escape(uint8_t character);
uint8_t grammar_unescape(uint8_t letter);

/* Levels that the value of such a member needs; GRAMMAR_NONE: there is no such member. */
uint32_t grammar_class_height(const struct grammar *g, uint32_t class);
/* How many members with other names than the properties' an object can have, within so many
 * levels; DFA_ENDLESS: no end of them. */
uint32_t grammar_others(const struct grammar *g, const struct object_rule *rule, uint32_t room);

static inline struct view grammar_name(const struct grammar *g, const struct property *p) {
        return (struct view){ .p = g->names.p + p->name, .n = p->name_n };
}
