/* Who holds how much. An account stands for one uid, or for one uid in one slice where the
 * configuration has a section for that slice; everything the broker keeps on behalf of a client
 * carries a charge against its account, made before the thing and returned with it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/limits.h"
#include "policy/quota.h"
#include "policy/slice.h"

enum charge_kind {
        CHARGE_CONNECTION,
        CHARGE_JOB,        /* that has not ended */
        CHARGE_OBJECT,     /* job that can be looked at, or held call of Wait() */
        CHARGE_SESSION,
        CHARGE_SESSION_KV, /* bytes */
        _CHARGE_MAX,
};

/* Documented outcomes of account_charge and accounts_get. */
enum { ACCOUNT_E_QUOTA = 1,    /* the account's own limit */
       ACCOUNT_E_GLOBAL = 2 }; /* the limit of the whole daemon */

struct accounts;

/* Whose account. slice: name of the innermost [Slice] section that fits; "": none does. */
struct account_id {
        uid_t uid;
        char slice[SLICE_RULE_SIZE];
};

struct account {
        struct accounts *owner;
        struct account *next;
        struct account_id id;
        gid_t gid;                /* of the process that came first, by the kernel; -1: unknown */
        uint32_t refs;
        uint64_t used[_CHARGE_MAX];
        struct limits limits;
        struct quota quota;
        uint64_t virtual_counter; /* of its worker, while it has none (lease.h) */
        /* Crash record, for the delay before the next worker (start.h). */
        uint32_t crashes;
        uint64_t not_before_usec;
};

/* One thing that is paid for. Zero-initialised = nothing is charged. */
struct charge {
        struct account *account;
        enum charge_kind kind;
        uint64_t amount;
};

struct accounts_settings {
        /* The limits of an account; texts in them stay valid until the next accounts_resolve. */
        void (*resolve)(const struct account_id *id, struct limits *ret, void *userdata);
        struct quota_clock (*now)(void *userdata);
        /* Something that has to survive a restart has changed. */
        void (*changed)(void *userdata);
        void *userdata;
};

int accounts_new(struct accounts **ret, const struct accounts_settings *settings);
/* Asserts that nothing is charged or reserved any more. */
struct accounts *accounts_free(struct accounts *a);
/* The configuration has changed: new limits count for new charges; what is held stays held. */
void accounts_resolve(struct accounts *a);
/* Those of somebody who need not have an account yet. */
void accounts_limits(const struct accounts *a, const struct account_id *id, struct limits *ret);
struct quota_clock accounts_now(const struct accounts *a);

/* A new reference to an account. 0, ACCOUNT_E_GLOBAL (too many of them), or -ENOMEM. */
int accounts_get(struct accounts *a, const struct account_id *id, struct account **ret);
/* The account without a reference, or NULL when nothing is known of it. */
struct account *accounts_find(const struct accounts *a, const struct account_id *id);
struct account *account_ref(struct account *account);
/* Forgets the account with its last reference, unless it still has to wait after crashes or has
 * used something that counts; such accounts go, the least busy first, when others need the room. */
struct account *account_unref(struct account *account);
static inline void account_unrefp(struct account **account) {
        account_unref(*account);
}

/* 0, or a positive outcome and nothing is charged. */
int account_charge(struct account *account, enum charge_kind kind, struct charge *ret);
int account_charge_amount(struct account *account, enum charge_kind kind, uint64_t amount,
                          struct charge *ret);
void charge_done(struct charge *charge);

/* The quota (quota.h) on the accounts' clock. */
bool account_request(struct account *account, struct refusal *ret_refusal);
void account_take_back_request(struct account *account);
bool account_reserve(struct account *account, uint64_t tokens, struct reservation *ret,
                     struct refusal *ret_refusal);
/* Before the account's last charge is returned. */
void account_settle(struct account *account, struct reservation *r, uint64_t tokens);
void account_add_cpu(struct account *account, uint64_t usec);
uint64_t account_next_allowed(struct account *account);
/* Brought up to date, for who reads its numbers. */
const struct quota *account_quota(struct account *account);

uint64_t account_limit(const struct account *account, enum charge_kind kind);
uint64_t accounts_used(const struct accounts *a, enum charge_kind kind);

/* What survives a restart: fixed-size records, one for each account that has used something
 * today. */
struct account_record {
        uint32_t uid;
        uint32_t day;
        uint64_t tokens;
        uint64_t cpu_usec;
        char slice[SLICE_RULE_SIZE];
};
_Static_assert(sizeof(struct account_record) == 64, "written to a file");

/* Fills in at most max of them; returns how many. Reserved tokens are not used ones. */
uint32_t accounts_save(struct accounts *a, struct account_record *records, uint32_t max);
/* Records of another day count nothing, nor do those whose slice is no name. 0 or -ENOMEM. */
int accounts_restore(struct accounts *a, const struct account_record *records, uint32_t n);
