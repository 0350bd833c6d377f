/* What was changed between two texts: ranges of the first one and what stands there in the second,
 * so that applying all of them gives the second, byte for byte. By words, white space and single
 * other characters, as a person would mark them. */
#pragma once

#include <stddef.h>

#include "daemon/worker/secure_buf.h"

enum { CORRECTIONS_PARTS_MAX = 2048 }; /* of one text; with more there is one range for all */

struct correction {
        size_t start, end;   /* bytes of the first text; start == end: something was put in */
        size_t from, n;      /* bytes of the second text */
};

struct corrections {
        struct correction *items; /* in order; two of them never touch */
        size_t n;
        size_t kept;              /* bytes of the first text that are in none of them */
};
void corrections_done(struct corrections *c);

/* 0 or -ENOMEM. */
int corrections_find(const char *a, size_t a_n, const char *b, size_t b_n,
                     struct corrections *ret);
