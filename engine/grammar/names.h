/* Names that an object's members have already, so that none comes twice. Kept as places in the text
 * that was read: characters are written in one way only, so names are the same when their bytes
 * are. Lists share their beginnings, since readings of one text go apart and end. */
#pragma once

#include "engine/grammar/lexeme.h"

struct used_name {
        uint32_t before;       /* of the same object: number of the name before, 0: none */
        uint32_t first, n;     /* bytes of the text, with the closing quotation mark */
};

struct names {
        VEC(uint8_t) text;     /* n: behind the byte that is looked at */
        VEC(struct used_name) list;
};

/* The text goes on with this byte at this place, what stood there and later is void. 0, -ENOMEM. */
int names_put(struct names *s, size_t at, uint8_t byte);
/* The name that begins at `first` and is closed, after the one with the number `before`. *ret: its
 * number, from 1 on; the same for the same name. 0 or -ENOMEM. */
int names_add(struct names *s, uint32_t before, uint32_t first, uint32_t *ret);
/* The next name, from the number *at on, that begins with the text from `first` on, or NULL; *at
 * goes on. Is there one? */
const struct used_name *names_next(const struct names *s, uint32_t *at, uint32_t first);
bool names_begin(const struct names *s, uint32_t last, uint32_t first);
/* Can the name that begins at `first`, and is the lexeme at the end of the text, become one that is
 * not in the list? */
bool names_possible(struct names *s, const struct grammar *g, uint32_t last, uint32_t first,
                    const struct lexeme *l);
/* The same when it is known that a name of the list begins so. */
bool names_avoidable(struct names *s, const struct grammar *g, uint32_t last, uint32_t first,
                     const struct lexeme *l);
void names_done(struct names *s);
