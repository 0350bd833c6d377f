/* Tokens that are found in a text as they are written, before anything else looks at it: control,
 * unknown and user-defined ones. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

enum { SPECIAL_TEXT_MAX = 256 }; /* bytes; bounds the time of a search */

struct special {
        struct view text; /* not owned, not empty */
        int32_t id;
};

struct specials {
        struct special *list; /* sorted by text, then id */
        size_t n, room;
};

/* Collect with specials_add, then sort once. 0 or -ENOMEM. */
int specials_add(struct specials *s, struct special one);
void specials_sort(struct specials *s);
void specials_done(struct specials *s);

/* Token with exactly this text, or TOKEN_NONE. */
int32_t specials_exact(const struct specials *s, struct view text);

/* The first occurrence in text at or after `from`; of those that start there, the longest. Returns
 * false when there is none. */
bool specials_find(const struct specials *s, struct view text, size_t from, size_t *ret_at,
                   struct special *ret);
