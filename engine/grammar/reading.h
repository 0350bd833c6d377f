/* Where a text stands in a grammar. When alternatives begin alike, a text has several readings
 * until one byte decides; a set of readings is the whole state. */
#pragma once

#include "engine/grammar/names.h"

enum {
        READINGS_MAX = 64,      /* at a time; those beyond are given up (the answer stays valid) */
        READING_INDENT_MAX = 32 /* spaces after a line break */
};

enum phase {
        PHASE_VALUE,    /* a value of `node` follows */
        PHASE_INSIDE,   /* in a literal, number or string */
        PHASE_NAME,     /* in a member's name */
        PHASE_COLON,    /* after it */
        PHASE_MEMBER,   /* after the colon; a value of `node` follows */
        PHASE_FIRST,    /* after { or [ */
        PHASE_NEXT,     /* after a member or item */
        PHASE_COMMA,    /* after a comma */
        PHASE_DONE,
        PHASE_TEXT_BEGINS, PHASE_TEXT, /* ARM_TEXT: only white space so far; anything */
};

struct frame {
        uint32_t rule;          /* object or array */
        bool array;
        uint32_t at;            /* object: properties passed; array: items so far, as far as it
                                 * matters */
        uint32_t members;       /* object: so far, as far as it matters */
        uint32_t used;          /* object: the last of its names that are no properties, or 0 */
};

struct reading {
        uint8_t phase;          /* enum phase */
        uint8_t space;          /* white space so far: 0 none, 1 no more may come, 2 + spaces
                                 * after a line break */
        uint16_t depth;
        uint32_t node;
        uint32_t name;          /* in a member's name: where in the text it begins */
        struct lexeme lexeme;
        struct frame frames[GRAMMAR_DEPTH];
};

struct readings {
        VEC(struct reading) list;
        struct names *names;    /* borrowed; many lists share them */
};

/* A settled grammar's beginning. 0 or -ENOMEM. */
int readings_begin(struct readings *r, const struct grammar *g);
/* Append the readings after one byte more than `from`, which may be part of the list. The byte is
 * the last of the names' text. 0 or -ENOMEM. */
int reading_step(struct readings *r, const struct grammar *g, const struct reading *from,
                 uint8_t byte);
/* A copy at the end of the list. 0 or -ENOMEM. */
int readings_add(struct readings *r, const struct reading *from);
/* After the lexeme that has become whole: the reading without it. 0 or -ENOMEM. */
int reading_leave(const struct grammar *g, struct names *names, struct reading *r);
/* After a name: property as of lexeme_property. 0 or -ENOMEM. */
int reading_leave_name(const struct grammar *g, struct names *names, struct reading *r,
                       uint32_t property);
/* Is the text a whole value? May anything follow? */
bool reading_whole(const struct grammar *g, const struct reading *r);
bool reading_extends(const struct grammar *g, const struct reading *r);
bool reading_equal(const struct reading *a, const struct reading *b);
void readings_done(struct readings *r);
