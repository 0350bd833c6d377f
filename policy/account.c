/* Charges per uid and for the whole daemon. The invariant: used[] of an account is exactly the
 * number of live struct charge that name it, total[] is the sum over accounts, and an account with
 * a charge cannot be freed, because every charge holds a reference. Freeing the table asserts that
 * all came back, so that a leak is found by any test that ends the daemon cleanly. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "policy/account.h"

struct accounts {
        struct limits limits;
        struct account *first;
        uint32_t count;
        uint32_t total[_CHARGE_MAX];
};

int accounts_new(struct accounts **ret, const struct limits *limits) {
        struct accounts *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->limits = *limits;
        *ret = a;
        return 0;
}

static void account_drop(struct account *account) {
        struct account **p = &account->owner->first;

        for (unsigned i = 0; i < _CHARGE_MAX; i++)
                assert(account->used[i] == 0);
        while (*p != account)
                p = &(*p)->next;
        *p = account->next;
        account->owner->count--;
        free(account);
}

struct accounts *accounts_free(struct accounts *a) {
        if (!a)
                return NULL;
        while (a->first) {
                assert(a->first->refs == 0);
                account_drop(a->first);
        }
        for (unsigned i = 0; i < _CHARGE_MAX; i++)
                assert(a->total[i] == 0);
        free(a);
        return NULL;
}

void accounts_set_limits(struct accounts *a, const struct limits *limits) {
        a->limits = *limits;
}

const struct limits *accounts_limits(const struct accounts *a) {
        return &a->limits;
}

struct account *accounts_find(struct accounts *a, uid_t uid) {
        for (struct account *i = a->first; i; i = i->next)
                if (i->uid == uid)
                        return i;
        return NULL;
}

/* Make room among accounts that are only remembered for their crashes. */
static void forget_one(struct accounts *a) {
        for (struct account *i = a->first; i; i = i->next)
                if (i->refs == 0) {
                        account_drop(i);
                        return;
                }
}

int accounts_get(struct accounts *a, uid_t uid, struct account **ret) {
        struct account *account = accounts_find(a, uid);

        if (account) {
                *ret = account_ref(account);
                return 0;
        }
        if (a->count >= LIMIT_ACCOUNTS)
                forget_one(a);
        if (a->count >= LIMIT_ACCOUNTS)
                return ACCOUNT_E_GLOBAL;
        account = calloc(1, sizeof(*account));
        if (!account)
                return -ENOMEM;
        account->owner = a;
        account->uid = uid;
        account->refs = 1;
        account->next = a->first;
        a->first = account;
        a->count++;
        *ret = account;
        return 0;
}

struct account *account_ref(struct account *account) {
        account->refs++;
        return account;
}

struct account *account_unref(struct account *account) {
        if (!account)
                return NULL;
        assert(account->refs > 0);
        if (--account->refs == 0 && account->crashes == 0)
                account_drop(account);
        return NULL;
}

uint32_t account_limit(const struct account *account, enum charge_kind kind) {
        const struct limits *l = &account->owner->limits;

        switch (kind) {
        case CHARGE_CONNECTION:
                return l->max_connections;
        case CHARGE_JOB:
                return l->max_concurrent_jobs + l->max_queued_jobs;
        case CHARGE_WAITER:
                return LIMIT_WAITERS_PER_JOB * (l->max_concurrent_jobs + l->max_queued_jobs);
        case _CHARGE_MAX:
                break;
        }
        return 0;
}

int account_charge(struct account *account, enum charge_kind kind, struct charge *ret) {
        assert(kind < _CHARGE_MAX && !ret->account);
        if (account->used[kind] >= account_limit(account, kind))
                return ACCOUNT_E_QUOTA;
        if (kind == CHARGE_CONNECTION && account->owner->total[kind] >= LIMIT_CONNECTIONS)
                return ACCOUNT_E_GLOBAL;
        account->used[kind]++;
        account->owner->total[kind]++;
        ret->account = account_ref(account);
        ret->kind = kind;
        return 0;
}

void charge_done(struct charge *charge) {
        struct account *account = charge->account;

        if (!account)
                return;
        assert(account->used[charge->kind] > 0);
        account->used[charge->kind]--;
        account->owner->total[charge->kind]--;
        charge->account = NULL;
        account_unref(account);
}

uint32_t accounts_used(const struct accounts *a, enum charge_kind kind) {
        return a->total[kind];
}
