/* How fast the jobs of one uid get on, and when one that waits will start: an estimate from what
 * was measured, and nothing when nothing was. Work is in weighted tokens (quota.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pace {
        uint64_t since;          /* counted up to here; 0: nothing runs */
        uint64_t usec;           /* in which something ran, the past halved again and again */
        uint64_t work;           /* done in it */
        uint64_t promised, used; /* of jobs that have ended: reserved, and done in the end */
};

/* So much was done since the last call, and from now on something runs or nothing does. */
void pace_count(struct pace *p, uint64_t work, bool running, uint64_t now);
/* A job has ended that was admitted for so much and did so much. */
void pace_ended(struct pace *p, uint64_t promised, uint64_t used);
/* What a job of which so much was promised is expected to do. */
uint64_t pace_expected(const struct pace *p, uint64_t promised);
/* Microseconds for so much work; 0: not known. */
uint64_t pace_usec(const struct pace *p, uint64_t work);

/* Jobs that run side by side at the same speed, by what is left of them; the next one that waits
 * takes the place of the one that ends first. Of more places than these the last are left out. */
enum { PACE_PLACES = 64 };
struct pace_places {
        uint64_t left[PACE_PLACES];
        uint32_t n;
};
void pace_place(struct pace_places *p, uint64_t left);
/* Work done by all of them before the next one that waits can start. */
uint64_t pace_next(const struct pace_places *p);
/* It waits before others: they start when it, too, has had its place. */
void pace_wait(struct pace_places *p, uint64_t work);
