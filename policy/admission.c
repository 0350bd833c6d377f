/* A list of waiting entries per uid. Entries are part of the jobs that own them; this file only
 * links and unlinks them. The list is as short as the account's limit, so walking it is cheap. */
#include <assert.h>
#include <stddef.h>

#include "policy/admission.h"

void admission_enter(struct admission *a, struct admission_entry *e, bool background) {
        assert(e->state == ADMISSION_NONE);
        e->state = ADMISSION_ENTERED;
        e->background = background;
        a->entered++;
}

static void append(struct admission *a, struct admission_entry *e) {
        struct admission_entry **p = &a->waiting;

        while (*p && (e->background || !(*p)->background))
                p = &(*p)->next;
        e->next = *p;
        *p = e;
}

bool admission_ready(struct admission *a, struct admission_entry *e, uint32_t max_running) {
        assert(e->state == ADMISSION_ENTERED);
        a->entered--;
        if (a->running < max_running) {
                e->state = ADMISSION_RUNNING;
                a->running++;
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
        e->background = background;
        if (e->state != ADMISSION_WAITING)
                return;
        remove_waiting(a, e);
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
                break;
        case ADMISSION_WAITING:
                remove_waiting(a, e);
                break;
        }
        e->state = ADMISSION_NONE;
}

struct admission_entry *admission_next(struct admission *a, uint32_t max_running) {
        struct admission_entry *e = a->waiting;

        if (!e || a->running >= max_running)
                return NULL;
        a->waiting = e->next;
        e->next = NULL;
        e->state = ADMISSION_RUNNING;
        a->running++;
        return e;
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
