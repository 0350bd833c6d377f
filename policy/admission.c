/* A list of waiting entries per uid. Entries are part of the jobs that own them; this file only
 * links and unlinks them. The list is as short as the account's limit, so walking it is cheap.
 * Invariant: it is sorted by class, round and arrival, and an entry's round is at least that of
 * whoever ran last and one more than that of its client's entry before it: so fifty jobs of one
 * client do not come before one of another that came later. */
#include <assert.h>
#include <stddef.h>

#include "policy/admission.h"

void admission_enter(struct admission *a, struct admission_entry *e, uint64_t client,
                     bool background) {
        assert(e->state == ADMISSION_NONE);
        e->client = client;
        e->state = ADMISSION_ENTERED;
        e->background = background;
        a->entered++;
}

static void append(struct admission *a, struct admission_entry *e) {
        struct admission_entry **p = &a->waiting;

        e->round = a->round[e->background];
        for (const struct admission_entry *i = a->waiting; i; i = i->next)
                if (i->client == e->client && i->background == e->background &&
                    i->round >= e->round)
                        e->round = i->round + 1;
        while (*p && ((*p)->background < e->background ||
                      ((*p)->background == e->background && (*p)->round <= e->round)))
                p = &(*p)->next;
        e->next = *p;
        *p = e;
}

static bool room(const struct admission *a, const struct admission_entry *e,
                 uint32_t max_running) {
        if (e->background)
                return a->running < max_running || a->background == 0;
        return a->running - a->background < max_running;
}

static void run(struct admission *a, struct admission_entry *e) {
        e->state = ADMISSION_RUNNING;
        a->running++;
        a->background += e->background;
}

bool admission_ready(struct admission *a, struct admission_entry *e, uint32_t max_running) {
        assert(e->state == ADMISSION_ENTERED);
        a->entered--;
        if (room(a, e, max_running)) {
                run(a, e);
                return true;
        }
        e->state = ADMISSION_WAITING;
        append(a, e);
        return false;
}

static void remove_waiting(struct admission *a, struct admission_entry *e) {
        struct admission_entry **p = &a->waiting;

        while (*p != e)
                p = &(*p)->next;
        *p = e->next;
        e->next = NULL;
}

void admission_set_background(struct admission *a, struct admission_entry *e, bool background) {
        if (e->background == background)
                return;
        if (e->state == ADMISSION_RUNNING)
                a->background = background ? a->background + 1 : a->background - 1;
        if (e->state == ADMISSION_WAITING)
                remove_waiting(a, e);
        e->background = background;
        if (e->state == ADMISSION_WAITING)
                append(a, e);
}

void admission_leave(struct admission *a, struct admission_entry *e) {
        switch (e->state) {
        case ADMISSION_NONE:
                return;
        case ADMISSION_ENTERED:
                a->entered--;
                break;
        case ADMISSION_RUNNING:
                a->running--;
                a->background -= e->background;
                break;
        case ADMISSION_WAITING:
                remove_waiting(a, e);
                break;
        }
        e->state = ADMISSION_NONE;
}

struct admission_entry *admission_next(struct admission *a, uint32_t max_running) {
        for (struct admission_entry *e = a->waiting; e; e = e->next)
                if (room(a, e, max_running)) {
                        remove_waiting(a, e);
                        a->round[e->background] = e->round;
                        run(a, e);
                        return e;
                }
        return NULL;
}

uint32_t admission_position(const struct admission *a, const struct admission_entry *e) {
        uint32_t n = 1;

        if (e->state != ADMISSION_WAITING)
                return e->state == ADMISSION_ENTERED ? admission_waiting(a) + 1 : 0;
        for (const struct admission_entry *i = a->waiting; i != e; i = i->next)
                n++;
        return n;
}

uint32_t admission_waiting(const struct admission *a) {
        uint32_t n = 0;

        for (const struct admission_entry *i = a->waiting; i; i = i->next)
                n++;
        return n;
}
