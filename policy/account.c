/* Charges per uid and for the whole daemon. The invariant: used[] of an account is exactly the sum
 * of the live struct charge that name it, total[] is the sum over accounts, and an account with a
 * charge cannot be freed, because every charge holds a reference. Freeing the table asserts that
 * all came back, so that a leak is found by any test that ends the daemon cleanly. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "policy/account.h"

struct accounts {
        accounts_resolver resolve;
        void *userdata;
        struct account *first;
        uint32_t count;
        uint64_t total[_CHARGE_MAX];
};

int accounts_new(struct accounts **ret, accounts_resolver resolve, void *userdata) {
        struct accounts *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->resolve = resolve;
        a->userdata = userdata;
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

void accounts_resolve(struct accounts *a) {
        for (struct account *i = a->first; i; i = i->next)
                a->resolve(i->uid, &i->limits, a->userdata);
}

struct account *accounts_find(const struct accounts *a, uid_t uid) {
        for (struct account *i = a->first; i; i = i->next)
                if (i->uid == uid)
                        return i;
        return NULL;
}

void accounts_limits(const struct accounts *a, uid_t uid, struct limits *ret) {
        const struct account *account = accounts_find(a, uid);

        if (account)
                *ret = account->limits;
        else
                a->resolve(uid, ret, a->userdata);
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
        a->resolve(uid, &account->limits, a->userdata);
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

uint64_t account_limit(const struct account *account, enum charge_kind kind) {
        const uint64_t *v = account->limits.v;

        switch (kind) {
        case CHARGE_CONNECTION:
                return v[QUOTA_MAX_CONNECTIONS];
        case CHARGE_JOB:
                return v[QUOTA_MAX_CONCURRENT_JOBS] + v[QUOTA_MAX_QUEUED_JOBS];
        case CHARGE_OBJECT:
                return v[QUOTA_MAX_OBJECTS];
        case CHARGE_SESSION:
                return v[QUOTA_MAX_SESSIONS];
        case CHARGE_SESSION_KV:
                return v[QUOTA_MAX_SESSION_KV];
        case _CHARGE_MAX:
                break;
        }
        return 0;
}

/* Written so that nothing can overflow; what is held may be over a limit that was lowered. */
static bool fits(const struct account *account, enum charge_kind kind, uint64_t amount) {
        uint64_t limit = account_limit(account, kind), used = account->used[kind];

        return used <= limit && amount <= limit - used;
}

static void change(struct account *account, enum charge_kind kind, uint64_t from, uint64_t to) {
        assert(account->used[kind] >= from && account->owner->total[kind] >= from);
        account->used[kind] += to - from;
        account->owner->total[kind] += to - from;
}

int account_charge_amount(struct account *account, enum charge_kind kind, uint64_t amount,
                          struct charge *ret) {
        assert(kind < _CHARGE_MAX && !ret->account);
        if (!fits(account, kind, amount))
                return ACCOUNT_E_QUOTA;
        if (kind == CHARGE_CONNECTION && account->owner->total[kind] >= LIMIT_CONNECTIONS)
                return ACCOUNT_E_GLOBAL;
        change(account, kind, 0, amount);
        *ret = (struct charge){ account_ref(account), kind, amount };
        return 0;
}

int account_charge(struct account *account, enum charge_kind kind, struct charge *ret) {
        return account_charge_amount(account, kind, 1, ret);
}

int charge_resize(struct charge *charge, uint64_t amount) {
        if (amount > charge->amount &&
            !fits(charge->account, charge->kind, amount - charge->amount))
                return ACCOUNT_E_QUOTA;
        change(charge->account, charge->kind, charge->amount, amount);
        charge->amount = amount;
        return 0;
}

void charge_done(struct charge *charge) {
        struct account *account = charge->account;

        if (!account)
                return;
        change(account, charge->kind, charge->amount, 0);
        *charge = (struct charge){};
        account_unref(account);
}

uint64_t accounts_used(const struct accounts *a, enum charge_kind kind) {
        return a->total[kind];
}
