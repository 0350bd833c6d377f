/* A budget of a minute that refills continuously: full it holds what a minute brings. Pure: the
 * caller has the clock (monotonic microseconds).
 *
 * Whole numbers throughout: one thing counts BUCKET_UNIT, and a microsecond brings exactly
 * per_minute of those. What is taken beyond the level is debt, which is paid before anything is
 * filled; so a level is never negative, and something larger than the whole bucket is possible, but
 * only when the bucket is full. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BUCKET_UNIT UINT64_C(60000000)
/* The most that is counted for one thing. */
#define BUCKET_MOST UINT64_C(10000000000)

struct bucket {
        uint64_t per_minute; /* QUOTA_INFINITY: no limit, nothing is counted */
        uint64_t level;      /* units, at most per_minute * BUCKET_UNIT */
        uint64_t debt;       /* units; 0 unless level is 0 */
        uint64_t at;         /* when that was so */
        uint32_t era;        /* another one: what was taken before is not known any more */
};

/* Full. */
void bucket_init(struct bucket *b, uint64_t per_minute);
/* Another size: what is in it stays, as far as it fits. From or to no limit, it begins anew. */
void bucket_resize(struct bucket *b, uint64_t per_minute, uint64_t now);

/* Microseconds until n may be taken, 0: now. */
uint64_t bucket_wait(struct bucket *b, uint64_t n, uint64_t now);
/* Whether or not there is enough. */
void bucket_take(struct bucket *b, uint64_t n, uint64_t now);
/* What was taken and not used. */
void bucket_give(struct bucket *b, uint64_t n, uint64_t now);

/* Whole things left; QUOTA_INFINITY. */
uint64_t bucket_left(struct bucket *b, uint64_t now);
/* Microseconds until it is full. */
uint64_t bucket_until_full(struct bucket *b, uint64_t now);
