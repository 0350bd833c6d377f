/* A list; whoever asked for a lease owns it and gives it back. Its worker hears of it at once if it
 * serves, and with all others of its user when it begins to (member_send_holds). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/holds.h"
#include "daemon/broker/worker.h"
#include "engine/base/macro.h"

static int hold_new(struct hold **ret, struct holds *holds, struct account *account,
                    const char *name) {
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

static void hold_free(struct holds *holds, struct hold *hold) {
        struct hold **p = &holds->first;

        while (*p != hold)
                p = &(*p)->next;
        *p = hold->next;
        charge_done(&hold->charge);
        free(hold);
}

bool holds_has(const struct holds *holds, const struct account *account, const char *name) {
        for (const struct hold *h = holds->first; h; h = h->next)
                if (h->charge.account == account && (!name || strcmp(h->name, name) == 0))
                        return true;
        return false;
}

int workers_hold(struct workers *workers, struct account *account, const char *name,
                 struct hold **ret) {
        struct member *m;
        int r = workers_get(workers, account, &m);

        if (r == 0)
                r = hold_new(ret, workers_settings(workers)->holds, account, name);
        if (r == 0) {
                member_send_hold(m, name);
                worker_settle(m->worker);
        }
        return r;
}

struct hold *workers_let_go(struct workers *workers, struct hold *hold) {
        _cleanup_(account_unrefp) struct account *account = NULL;
        char name[WIRE_NAME_MAX];
        struct member *m;

        if (!hold)
                return NULL;
        account = account_ref(hold->charge.account);
        memcpy(name, hold->name, sizeof(name));
        hold_free(workers_settings(workers)->holds, hold);
        m = workers_find(workers, account);
        if (m) {
                member_send_hold(m, name);
                worker_settle(m->worker);
        }
        return NULL;
}
