/* Who may compute now. One domain computes at a time, with all its threads, for at most one slice;
 * the next is the one with the smallest virtual counter (measured time times threads, divided by
 * its weight), so that domains that always want get shares by weight whatever they do inside. A
 * domain that comes back after a pause is lifted to the smallest counter among the active, less one
 * slice: idleness is no savings account, but one that asks question after question gets its half.
 * Two classes share 90 to 10 when both want, so that background work is slow but never starves. A
 * lease is cut short when somebody comes who has had less: a domain of the same class, or
 * interactive work while the background computes.
 *
 * Pure: the caller has the clock, sends what is decided and reports what happens. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEASE_SLICE_USEC UINT64_C(100000)
#define LEASE_LEAD_USEC  UINT64_C(40000)  /* a lone holder is renewed this long before the end */
#define LEASE_GRACE_USEC UINT64_C(150000) /* after the end: one step may still be finished */

/* Who has twice the weight of another gets twice the time. */
enum { LEASE_WEIGHT = 100 };

/* A lease that is not given back by then is taken back, and its domain gets no other one before it
 * has answered. A machine under load makes an honest domain late by some steps; one that is late by
 * a strike this many times in a row, or once by the last measure, computes against the rules. */
#define LEASE_STRIKE_USEC  UINT64_C(1000000)
#define LEASE_OVERDUE_USEC UINT64_C(5000000)
enum { LEASE_STRIKES = 3 };

enum lease_class { LEASE_INTERACTIVE, LEASE_BACKGROUND, _LEASE_CLASS_MAX };

struct lease_domain {
        struct lease_domain *next;
        enum lease_class class;
        bool known;              /* linked in a scheduler */
        bool wanting;
        uint32_t weight;         /* 1..10000; LEASE_WEIGHT is usual */
        uint32_t remainder;      /* of the division by it: counters are exact */
        uint64_t counter;        /* thread-microseconds * LEASE_WEIGHT / weight */
        uint64_t charged;        /* thread-microseconds, never lifted: what it really used */
        uint64_t seq;            /* of its newest lease */
        uint32_t overruns;       /* leases it did not give back in time */
        uint32_t strikes;        /* those by LEASE_STRIKE_USEC, in a row */
        uint64_t overdue_since;  /* end of a lease that was taken back and not given back, or 0 */
};

struct lease_scheduler {
        struct lease_domain *first;
        struct lease_domain *holder;
        struct lease_domain *overran; /* set by lease_next when it takes a lease back */
        uint64_t since;          /* charged up to here */
        uint64_t until;          /* end of the running lease */
        bool cut;                /* it is to end now */
        uint64_t class_counter[_LEASE_CLASS_MAX];
        uint64_t floor;          /* counter of whoever computed last */
        uint64_t next_seq;
        uint64_t total;          /* charged to all that ever were */
        uint32_t threads;
};

/* d->weight is set; d->counter is 0 or what it was when it was removed. */
void lease_add(struct lease_scheduler *s, struct lease_domain *d);
void lease_set_weight(struct lease_scheduler *s, struct lease_domain *d, uint32_t weight,
                      uint64_t now);
/* Also while it holds the lease. */
void lease_remove(struct lease_scheduler *s, struct lease_domain *d, uint64_t now);
void lease_set_class(struct lease_scheduler *s, struct lease_domain *d, enum lease_class class,
                     uint64_t now);

/* The domain says whether it has work; stopped: it gives back lease `seq`. */
void lease_used(struct lease_scheduler *s, struct lease_domain *d, bool want, bool stopped,
                uint64_t seq, uint64_t now);

/* Decide. Returns the domain that must now be sent a lease of *ret_usec with *ret_seq (a new one,
 * or another end of a running one), or NULL when there is nothing to send. Call until NULL. */
struct lease_domain *lease_next(struct lease_scheduler *s, uint64_t now, uint64_t *ret_usec,
                                uint64_t *ret_seq);
/* A domain that must be ended because it keeps computing, removed from the scheduler, or NULL. */
struct lease_domain *lease_offender(struct lease_scheduler *s, uint64_t now);
/* When to call both again at the latest; UINT64_MAX: only after another call. */
uint64_t lease_wakeup(const struct lease_scheduler *s);
