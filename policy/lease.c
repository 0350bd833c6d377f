/* Virtual token counters over CPU leases (Sheng et al., "Fairness in Serving Large Language
 * Models", OSDI 2024, with measured time as the cost). The invariant: at most one holder; time is
 * charged to it from `since` on, at every renewal, return, removal or take-back, so that counters
 * are exact whatever the domain claims. Domains belong to the caller; here they are only linked. */
#include <assert.h>
#include <stddef.h>

#include "engine/base/macro.h"
#include "policy/lease.h"

/* Inverse shares of the classes, 90 to 10. */
static const uint64_t class_cost[_LEASE_CLASS_MAX] = { [LEASE_INTERACTIVE] = 1,
                                                       [LEASE_BACKGROUND] = 9 };

static void charge(struct lease_scheduler *s, uint64_t now) {
        struct lease_domain *h = s->holder;
        uint64_t cost = (now - s->since) * s->threads;
        uint64_t scaled = cost * LEASE_WEIGHT + h->remainder;

        h->counter += scaled / h->weight;
        h->remainder = (uint32_t)(scaled % h->weight);
        h->charged += cost;
        s->total += cost;
        s->class_counter[h->class] += cost * class_cost[h->class];
        s->floor = h->counter;
        s->since = now;
}

static bool class_active(const struct lease_scheduler *s, enum lease_class class,
                         const struct lease_domain *except) {
        for (const struct lease_domain *d = s->first; d; d = d->next)
                if (d != except && d->class == class && (d->wanting || d == s->holder))
                        return true;
        return false;
}

/* A domain that comes starts one slice below the least served active one: what it missed between
 * two questions, and no more, it may have at once. So do interactive domains together, one slice of
 * the background below it; the background itself starts level. */
static void lift(struct lease_scheduler *s, struct lease_domain *d) {
        enum lease_class other =
                d->class == LEASE_INTERACTIVE ? LEASE_BACKGROUND : LEASE_INTERACTIVE;
        uint64_t slice = LEASE_SLICE_USEC * s->threads * LEASE_WEIGHT / d->weight;
        uint64_t turn = d->class == LEASE_INTERACTIVE
                                ? LEASE_SLICE_USEC * s->threads * class_cost[LEASE_BACKGROUND]
                                : 0;
        uint64_t least = UINT64_MAX, level = s->class_counter[other];

        for (const struct lease_domain *i = s->first; i; i = i->next)
                if (i != d && (i->wanting || i == s->holder))
                        least = MIN(least, i->counter);
        if (least == UINT64_MAX)
                least = s->floor;
        d->counter = MAX(d->counter, least > slice ? least - slice : 0);
        if (!class_active(s, d->class, d))
                s->class_counter[d->class] = MAX(s->class_counter[d->class],
                                                 level > turn ? level - turn : 0);
}

void lease_add(struct lease_scheduler *s, struct lease_domain *d) {
        assert(!d->known && s->threads > 0 && d->weight > 0);
        d->known = true;
        d->wanting = false;
        d->next = s->first;
        s->first = d;
}

static void take_back(struct lease_scheduler *s, uint64_t now) {
        charge(s, now);
        s->holder = NULL;
        s->cut = false;
}

void lease_remove(struct lease_scheduler *s, struct lease_domain *d, uint64_t now) {
        struct lease_domain **p = &s->first;

        if (!d->known)
                return;
        if (s->holder == d)
                take_back(s, now);
        while (*p != d)
                p = &(*p)->next;
        *p = d->next;
        d->known = false;
        d->overdue_since = 0;
        if (s->overran == d)
                s->overran = NULL;
}

void lease_set_class(struct lease_scheduler *s, struct lease_domain *d, enum lease_class class,
                     uint64_t now) {
        if (d->class == class)
                return;
        if (s->holder == d)
                charge(s, now);
        d->class = class;
        if (d->known && (d->wanting || s->holder == d))
                lift(s, d);
}

void lease_set_weight(struct lease_scheduler *s, struct lease_domain *d, uint32_t weight,
                      uint64_t now) {
        if (s->holder == d)
                charge(s, now);
        d->weight = weight;
        d->remainder = 0;
}

/* Who comes and is behind the holder does not wait for the end of its lease: short questions would
 * spend most of their time on that, and never get their share. */
static void cut_short(struct lease_scheduler *s, const struct lease_domain *d, uint64_t now) {
        const struct lease_domain *h = s->holder;

        if (!h || h->class < d->class || now >= s->until)
                return;
        s->cut = h->class == d->class ? d->counter < h->counter
                                      : s->class_counter[LEASE_INTERACTIVE] <=
                                                s->class_counter[LEASE_BACKGROUND];
}

void lease_used(struct lease_scheduler *s, struct lease_domain *d, bool want, bool stopped,
                uint64_t seq, uint64_t now) {
        bool was_active = d->wanting || s->holder == d;
        /* A return that crossed an extension on the way is meant for the older lease: if the domain
         * wants more it will use the extension, if not the lease is over all the same. */
        bool returned = stopped && (seq == d->seq || !want);

        if (returned && d->overdue_since > 0) {
                d->strikes = now - d->overdue_since < LEASE_STRIKE_USEC ? 0 : d->strikes + 1;
                d->overdue_since = 0;
        }
        if (returned && s->holder == d) {
                d->strikes = 0;
                take_back(s, now);
        }
        if (want && !was_active) {
                if (s->holder)
                        charge(s, now);
                lift(s, d);
                cut_short(s, d, now);
        }
        d->wanting = want;
}

static bool others_want(const struct lease_scheduler *s) {
        for (const struct lease_domain *d = s->first; d; d = d->next)
                if (d != s->holder && d->wanting && d->overdue_since == 0)
                        return true;
        return false;
}

static struct lease_domain *least_served(const struct lease_scheduler *s) {
        struct lease_domain *best = NULL;

        for (struct lease_domain *d = s->first; d; d = d->next) {
                if (!d->wanting || d->overdue_since > 0)
                        continue;
                if (!best ||
                    (d->class == best->class
                             ? d->counter < best->counter
                             : s->class_counter[d->class] < s->class_counter[best->class] ||
                                       (s->class_counter[d->class] ==
                                                s->class_counter[best->class] &&
                                        d->class < best->class)))
                        best = d;
        }
        return best;
}

static struct lease_domain *grant(struct lease_scheduler *s, struct lease_domain *d, uint64_t now,
                                  uint64_t usec, uint64_t *ret_usec, uint64_t *ret_seq) {
        s->holder = d;
        s->since = now;
        s->until = now + usec;
        s->cut = false;
        d->seq = ++s->next_seq;
        *ret_usec = usec;
        *ret_seq = d->seq;
        return d;
}

struct lease_domain *lease_next(struct lease_scheduler *s, uint64_t now, uint64_t *ret_usec,
                                uint64_t *ret_seq) {
        struct lease_domain *next;

        if (s->holder) {
                if (s->cut) {
                        charge(s, now);
                        return grant(s, s->holder, now, 1, ret_usec, ret_seq);
                }
                if (s->holder->wanting && !others_want(s) && now + LEASE_LEAD_USEC >= s->until) {
                        charge(s, now);
                        return grant(s, s->holder, now, LEASE_SLICE_USEC, ret_usec, ret_seq);
                }
                if (now < s->until + LEASE_GRACE_USEC)
                        return NULL;
                s->holder->overruns++;
                s->holder->overdue_since = s->until;
                s->overran = s->holder;
                take_back(s, now);
        }
        next = least_served(s);
        return next ? grant(s, next, now, LEASE_SLICE_USEC, ret_usec, ret_seq) : NULL;
}

struct lease_domain *lease_offender(struct lease_scheduler *s, uint64_t now) {
        for (struct lease_domain *d = s->first; d; d = d->next)
                if (d->strikes >= LEASE_STRIKES ||
                    (d->overdue_since > 0 && now - d->overdue_since >= LEASE_OVERDUE_USEC)) {
                        lease_remove(s, d, now);
                        return d;
                }
        return NULL;
}

uint64_t lease_wakeup(const struct lease_scheduler *s) {
        uint64_t at = UINT64_MAX;

        for (const struct lease_domain *d = s->first; d; d = d->next)
                if (d->overdue_since > 0)
                        at = MIN(at, d->overdue_since + LEASE_OVERDUE_USEC);
        if (!s->holder)
                return at;
        if (s->holder->wanting && !others_want(s))
                return MIN(at, s->until - LEASE_LEAD_USEC);
        return MIN(at, s->until + LEASE_GRACE_USEC);
}
