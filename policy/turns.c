/* A tree of virtual counters (see policy/lease.c for those between workers). Invariant: a node
 * exists exactly while a job below it does, and what a job is charged is charged to each node on
 * its way up, so that the counters of siblings are comparable at every level. Nodes are owned by
 * the tree; the classes are its roots. */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "engine/base/macro.h"
#include "policy/lease.h"
#include "policy/turns.h"

static struct turn *find(const struct turn *parent, uint64_t key) {
        for (struct turn *n = parent->first; n; n = n->next)
                if (n->key == key)
                        return n;
        return NULL;
}

static struct turn *add(struct turns *t, struct turn *parent, uint64_t key) {
        struct turn *n = calloc(1, sizeof(*n)), **p = &parent->first;

        if (!n)
                return NULL;
        n->parent = parent;
        n->key = key;
        n->age = t->next_age++;
        while (*p)
                p = &(*p)->next;
        *p = n;
        return n;
}

static void drop_unused(struct turn *n) {
        struct turn *parent;

        for (; n->parent && n->users == 0; n = parent) {
                struct turn **p = &n->parent->first;

                parent = n->parent;
                while (*p != n)
                        p = &(*p)->next;
                *p = n->next;
                free(n);
        }
}

int turns_enter(struct turns *t, enum turn_class class, const uint64_t keys[_TURN_LEVEL_MAX],
                struct turn **ret) {
        struct turn *n = &t->class[class];

        for (unsigned level = 0; level < _TURN_LEVEL_MAX; level++) {
                struct turn *child = find(n, keys[level]);

                if (!child)
                        child = add(t, n, keys[level]);
                if (!child) {
                        drop_unused(n);
                        return -ENOMEM;
                }
                n = child;
        }
        for (*ret = n; n; n = n->parent)
                n->users++;
        return 0;
}

void turn_set_weight(struct turn *job, uint32_t weight) {
        struct turn *n = job;

        for (unsigned level = TURN_JOB; level > TURN_USER; level--)
                n = n->parent;
        if (weight == LEASE_WEIGHT)
                weight = 0;
        if (n->weight != weight)
                n->remainder = 0;
        n->weight = weight;
}

void turns_leave(struct turn *job) {
        if (!job)
                return;
        for (struct turn *n = job; n; n = n->parent) {
                assert(n->users > 0);
                n->users--;
        }
        drop_unused(job);
}

static void forget_wants(struct turn *n) {
        n->wants = false;
        for (struct turn *i = n->first; i; i = i->next)
                forget_wants(i);
}

void turns_look(struct turns *t) {
        for (unsigned i = 0; i < _TURN_CLASS_MAX; i++)
                forget_wants(&t->class[i]);
}

void turn_wants(struct turn *job) {
        for (struct turn *n = job; n && !n->wants; n = n->parent)
                n->wants = true;
}

/* Those that begin to want at the same moment do not lift one another. */
static void settle(struct turn *parent) {
        uint64_t least = UINT64_MAX;

        for (struct turn *n = parent->first; n; n = n->next)
                if (n->wants && n->active)
                        least = MIN(least, n->counter);
        if (least == UINT64_MAX)
                least = parent->floor;
        for (struct turn *n = parent->first; n; n = n->next) {
                if (n->wants && !n->active)
                        n->counter = MAX(n->counter, least);
                settle(n);
                n->active = n->wants;
        }
}

void turns_looked(struct turns *t) {
        const struct turn *i = &t->class[TURN_INTERACTIVE], *b = &t->class[TURN_BACKGROUND];
        const uint64_t level[_TURN_CLASS_MAX] = {
                [TURN_INTERACTIVE] = b->counter > t->credit ? b->counter - t->credit : 0,
                [TURN_BACKGROUND] = i->counter,
        };

        for (unsigned class = 0; class < _TURN_CLASS_MAX; class++) {
                struct turn *n = &t->class[class];

                if (n->wants && !n->active)
                        n->counter = MAX(n->counter, level[class]);
                settle(n);
                n->active = n->wants;
        }
}

bool turns_next_class(const struct turns *t, enum turn_class *ret) {
        const struct turn *i = &t->class[TURN_INTERACTIVE], *b = &t->class[TURN_BACKGROUND];

        if (!i->wants && !b->wants)
                return false;
        *ret = !b->wants || (i->wants && i->counter <= b->counter) ? TURN_INTERACTIVE
                                                                   : TURN_BACKGROUND;
        return true;
}

bool turn_before(const struct turn *a, const struct turn *b) {
        while (a->parent != b->parent) {
                a = a->parent;
                b = b->parent;
        }
        return a->counter != b->counter ? a->counter < b->counter : a->age < b->age;
}

static uint64_t weighted(struct turn *user, uint64_t cost) {
        uint64_t scaled = cost * LEASE_WEIGHT + user->remainder;

        user->remainder = (uint32_t)(scaled % user->weight);
        return scaled / user->weight;
}

void turns_charge(struct turns *t, struct turn *job, uint64_t cost) {
        struct turn *n = job;

        for (; n->parent; n = n->parent) {
                n->counter += n->weight > 0 ? weighted(n, cost) : cost;
                n->parent->floor = n->counter;
        }
        n->counter += cost * (n == &t->class[TURN_BACKGROUND] ? TURN_BACKGROUND_COST
                                                              : TURN_INTERACTIVE_COST);
}
