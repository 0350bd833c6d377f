/* Charges per account and for the whole daemon. The invariant: used[] of an account is exactly the
 * sum of the live struct charge that name it, total[] is the sum over accounts, and an account with
 * a charge cannot be freed, because every charge holds a reference. Freeing the table asserts that
 * all came back, so that a leak is found by any test that ends the daemon cleanly. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/account.h"

struct accounts {
        struct accounts_settings settings;
        struct account *first;
        uint32_t count;
        uint64_t total[_CHARGE_MAX];
};

int accounts_new(struct accounts **ret, const struct accounts_settings *settings) {
        struct accounts *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->settings = *settings;
        *ret = a;
        return 0;
}

static void account_drop(struct account *account) {
        struct account **p = &account->owner->first;

        for (unsigned i = 0; i < _CHARGE_MAX; i++)
                assert(account->used[i] == 0);
        quota_done(&account->quota);
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
        for (struct account *i = a->first; i; i = i->next) {
                a->settings.resolve(&i->id, &i->limits, a->settings.userdata);
                quota_set_limits(&i->quota, &i->limits, accounts_now(a));
        }
}

struct quota_clock accounts_now(const struct accounts *a) {
        return a->settings.now(a->settings.userdata);
}

struct account *accounts_find(const struct accounts *a, const struct account_id *id) {
        for (struct account *i = a->first; i; i = i->next)
                if (i->id.uid == id->uid && strcmp(i->id.slice, id->slice) == 0)
                        return i;
        return NULL;
}

void accounts_limits(const struct accounts *a, const struct account_id *id, struct limits *ret) {
        const struct account *account = accounts_find(a, id);

        if (account)
                *ret = account->limits;
        else
                a->settings.resolve(id, ret, a->settings.userdata);
}

static bool forgettable(struct account *account) {
        return account->refs == 0 && account->crashes == 0 &&
               quota_is_blank(&account->quota, accounts_now(account->owner));
}

/* Make room: those that nobody would miss; if none, of the unused ones the least busy today. */
static void make_room(struct accounts *a) {
        struct account *least = NULL, *next;

        for (struct account *i = a->first; i; i = next) {
                next = i->next;
                if (forgettable(i))
                        account_drop(i);
                else if (i->refs == 0 && (!least || i->quota.cpu_used < least->quota.cpu_used))
                        least = i;
        }
        if (a->count >= LIMIT_ACCOUNTS && least)
                account_drop(least);
}

static struct account *account_new(struct accounts *a, const struct account_id *id) {
        struct account *account = calloc(1, sizeof(*account));

        if (!account)
                return NULL;
        account->owner = a;
        account->id = *id;
        account->gid = (gid_t)-1;
        a->settings.resolve(id, &account->limits, a->settings.userdata);
        quota_init(&account->quota, &account->limits);
        account->next = a->first;
        a->first = account;
        a->count++;
        return account;
}

int accounts_get(struct accounts *a, const struct account_id *id, struct account **ret) {
        struct account *account = accounts_find(a, id);

        if (!account) {
                make_room(a);
                if (a->count >= LIMIT_ACCOUNTS)
                        return ACCOUNT_E_GLOBAL;
                account = account_new(a, id);
                if (!account)
                        return -ENOMEM;
        }
        *ret = account_ref(account);
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
        account->refs--;
        if (forgettable(account))
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

bool account_request(struct account *account, struct refusal *ret_refusal) {
        return quota_request(&account->quota, accounts_now(account->owner), ret_refusal);
}

void account_take_back_request(struct account *account) {
        quota_take_back_request(&account->quota, accounts_now(account->owner));
}

bool account_reserve(struct account *account, uint64_t tokens, struct reservation *ret,
                     struct refusal *ret_refusal) {
        return quota_reserve(&account->quota, &account->limits, tokens,
                             accounts_now(account->owner), ret, ret_refusal);
}

static void tell(const struct accounts *a) {
        if (a->settings.changed)
                a->settings.changed(a->settings.userdata);
}

void account_settle(struct account *account, struct reservation *r, uint64_t tokens) {
        if (!r->quota)
                return;
        quota_settle(r, tokens, accounts_now(account->owner));
        if (tokens > 0)
                tell(account->owner);
}

void account_add_cpu(struct account *account, uint64_t usec) {
        if (usec == 0)
                return;
        quota_add_cpu(&account->quota, usec, accounts_now(account->owner));
        tell(account->owner);
}

uint64_t account_next_allowed(struct account *account) {
        return quota_next_allowed(&account->quota, &account->limits,
                                  accounts_now(account->owner));
}

const struct quota *account_quota(struct account *account) {
        quota_turn(&account->quota, accounts_now(account->owner));
        return &account->quota;
}

uint32_t accounts_save(struct accounts *a, struct account_record *records, uint32_t max) {
        uint32_t n = 0;

        for (struct account *i = a->first; i && n < max; i = i->next) {
                quota_turn(&i->quota, accounts_now(a));
                if (i->quota.tokens_used == 0 && i->quota.cpu_used == 0)
                        continue;
                records[n] = (struct account_record){
                        .uid = i->id.uid, .day = (uint32_t)i->quota.day,
                        .tokens = i->quota.tokens_used, .cpu_usec = i->quota.cpu_used };
                memcpy(records[n++].slice, i->id.slice, sizeof(i->id.slice));
        }
        return n;
}

int accounts_restore(struct accounts *a, const struct account_record *records, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
                struct account_id id = { .uid = records[i].uid };
                struct account *account;
                int r;

                memcpy(id.slice, records[i].slice, sizeof(id.slice));
                if (id.slice[sizeof(id.slice) - 1] ||
                    (id.slice[0] && !slice_name_valid(id.slice)))
                        continue;
                r = accounts_get(a, &id, &account);
                if (r != 0)
                        return r < 0 ? r : 0;
                quota_restore(&account->quota, records[i].day, records[i].tokens,
                              records[i].cpu_usec, accounts_now(a));
                account_unref(account);
        }
        return 0;
}
