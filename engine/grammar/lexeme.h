/* The inside of a literal, a number, a string or a member's name: the part of a grammar's state
 * that does not depend on where the value stands. Small, so that masks can be kept by it. */
#pragma once

#include "engine/grammar/grammar.h"

enum lexeme_kind {
        LEXEME_LITERAL,
        LEXEME_STRING,
        LEXEME_PATTERN,
        LEXEME_NAME,    /* of a member: one of the properties that are left, or perhaps another */
        LEXEME_OTHER,   /* of a member: no property, for certain */
};

enum escape {
        ESCAPE_NONE,
        ESCAPE_BEGUN,    /* \ */
        ESCAPE_U,        /* \u */
        ESCAPE_U0,       /* \u0 */
        ESCAPE_U00,      /* \u00 */
        ESCAPE_U000,     /* \u000 */
        ESCAPE_U001,     /* \u001 */
};

/* Compared byte by byte: no padding, unused fields 0. */
struct lexeme {
        uint8_t kind, escape, utf8, closed; /* enums; closed: after the last quotation mark */
        uint32_t state;        /* automaton; name: the first sorted name that fits so far; other:
                                * automaton or GRAMMAR_NONE */
        uint32_t last;         /* name: behind the last one that fits */
        uint32_t n;            /* name: bytes so far */
        uint32_t left, need;   /* string: characters that may, must still come */
        uint32_t rule;         /* name: object */
        uint32_t at, room;     /* name: properties before `at` are passed; levels for a value */
        uint32_t members;      /* name: members before this one */
        uint32_t class;        /* name, other: what it is when it is no property, or GRAMMAR_NONE */
};

/* The first byte of a value. False: the arm does not begin so. */
bool lexeme_begin(const struct grammar *g, const struct arm *arm, uint8_t byte,
                  struct lexeme *ret);
/* Where a member may come. */
struct member_place {
        uint32_t rule, at, members, room; /* as in struct lexeme */
};
/* The quotation mark of a name, in one of several ways: 0 is a property or any other name, i + 1 a
 * name of the i-th class. False: it cannot be read this way; *ret_ways is how many there are. */
bool lexeme_begin_name(const struct grammar *g, const struct member_place *place, uint32_t way,
                       struct lexeme *ret, uint32_t *ret_ways);
/* One more byte. False: it cannot follow, *l is void. */
bool lexeme_step(const struct grammar *g, struct lexeme *l, uint8_t byte);
/* Is it a whole value, or name? */
bool lexeme_whole(const struct grammar *g, const struct lexeme *l);
/* A closed name's property (its place in grammar.properties), or GRAMMAR_NONE. */
uint32_t lexeme_property(const struct grammar *g, const struct lexeme *l);
/* May a name end as that of another member than the properties? */
bool lexeme_may_be_other(const struct grammar *g, const struct lexeme *l);
/* No member is missing any more. */
bool lexeme_object_whole(const struct grammar *g, uint32_t rule, uint32_t at, uint32_t members);
