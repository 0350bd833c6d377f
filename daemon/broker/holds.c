/* A list; whoever asked for a lease owns it and gives it back. That a worker is told is worker.c's
 * business (workers_hold, workers_let_go). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/holds.h"

int hold_new(struct hold **ret, struct holds *holds, struct account *account, const char *name) {
        struct hold *h = calloc(1, sizeof(*h));
        int r;

        if (!h)
                return -ENOMEM;
        r = account_charge(account, CHARGE_OBJECT, &h->charge);
        if (r != 0) {
                free(h);
                return r;
        }
        snprintf(h->name, sizeof(h->name), "%s", name);
        h->next = holds->first;
        holds->first = h;
        *ret = h;
        return 0;
}

struct hold *hold_free(struct holds *holds, struct hold *hold) {
        struct hold **p = &holds->first;

        if (!hold)
                return NULL;
        while (*p != hold)
                p = &(*p)->next;
        *p = hold->next;
        charge_done(&hold->charge);
        free(hold);
        return NULL;
}

bool holds_has(const struct holds *holds, const struct account *account, const char *name) {
        for (const struct hold *h = holds->first; h; h = h->next)
                if (h->charge.account == account && (!name || strcmp(h->name, name) == 0))
                        return true;
        return false;
}
