/* Whose turn it is among the jobs of one worker: class, then user, then client (a connection or a
 * bus name), then job. Each has a virtual counter of what it was charged, and the least served goes
 * first at every level, so that many jobs of one client do not beat one job of another. Two classes
 * share 90 to 10 when both want; otherwise the one that wants has all.
 *
 * Whoever begins to want again is lifted to the least served of those that already do: idleness is
 * no savings account. (But for `credit`, without which a moment between two questions would give
 * the background a turn each time.)
 *
 * Pure: costs are the caller's unit (microseconds of measured time, tokens), and exact. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum turn_class { TURN_INTERACTIVE, TURN_BACKGROUND, _TURN_CLASS_MAX };
enum { TURN_USER, TURN_CLIENT, TURN_JOB, _TURN_LEVEL_MAX };

/* What a class is charged for a unit: inverse shares of 90 and 10. */
enum { TURN_INTERACTIVE_COST = 1, TURN_BACKGROUND_COST = 9 };

struct turn {
        struct turn *parent, *next, *first; /* next: of the same parent; first: its own */
        uint64_t key;
        uint64_t counter;    /* charged, and lifted */
        uint64_t floor;      /* counter of the child that was charged last */
        uint64_t age;        /* order of arrival: decides between equal counters */
        uint32_t users;      /* entered and not left */
        uint32_t weight;     /* of a user: who has twice as much gets twice the time */
        uint32_t remainder;  /* of the division by it: counters are exact */
        bool active, wants;  /* at the last look; at this one */
};

struct turns {
        struct turn class[_TURN_CLASS_MAX];
        uint64_t next_age;
        uint64_t credit;     /* interactive work that comes may be so far behind the background */
};

/* Zero is a valid beginning. The job with these keys (one per level), which is there until it is
 * left as often as it was entered. 0 or -ENOMEM. */
int turns_enter(struct turns *t, enum turn_class class, const uint64_t keys[_TURN_LEVEL_MAX],
                struct turn **ret);
/* Of the user of this job beside other users, 1..10000; 0 or LEASE_WEIGHT is usual (lease.h). */
void turn_set_weight(struct turn *job, uint32_t weight);
/* job may be NULL. */
void turns_leave(struct turn *job);

/* A look at who wants something: begin, name all jobs that do (in any order, also twice), end. */
void turns_look(struct turns *t);
void turn_wants(struct turn *job);
void turns_looked(struct turns *t);

/* Among the classes that want. False: none does. */
bool turns_next_class(const struct turns *t, enum turn_class *ret);
/* Does a come before b? Both of one class. False for the same job. */
bool turn_before(const struct turn *a, const struct turn *b);
void turns_charge(struct turns *t, struct turn *job, uint64_t cost);
