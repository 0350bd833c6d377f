/* Who holds how much. An account stands for one uid; everything the broker keeps on behalf of a
 * client carries a charge against its account, made before the thing and returned with it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/limits.h"

enum charge_kind { CHARGE_CONNECTION, CHARGE_JOB, CHARGE_WAITER, _CHARGE_MAX };

/* Documented outcomes of account_charge and accounts_get. */
enum { ACCOUNT_E_QUOTA = 1,    /* the account's own limit */
       ACCOUNT_E_GLOBAL = 2 }; /* the limit of the whole daemon */

struct accounts;

struct account {
        struct accounts *owner;
        struct account *next;
        uid_t uid;
        uint32_t refs;
        uint32_t used[_CHARGE_MAX];
        /* Crash record, for the delay before the next worker (start.h). */
        uint32_t crashes;
        uint64_t not_before_usec;
};

/* One thing that is paid for. Zero-initialised = nothing is charged. */
struct charge {
        struct account *account;
        enum charge_kind kind;
};

int accounts_new(struct accounts **ret, const struct limits *limits);
/* Asserts that nothing is charged any more. */
struct accounts *accounts_free(struct accounts *a);
/* New limits count for new charges; what is held stays held. */
void accounts_set_limits(struct accounts *a, const struct limits *limits);
const struct limits *accounts_limits(const struct accounts *a);

/* A new reference to the account of a uid. 0, ACCOUNT_E_GLOBAL (too many uids), or -ENOMEM. */
int accounts_get(struct accounts *a, uid_t uid, struct account **ret);
/* The account of a uid without a reference, or NULL when nothing is known of it. */
struct account *accounts_find(struct accounts *a, uid_t uid);
struct account *account_ref(struct account *account);
/* Forgets the uid with its last reference, unless it still has to wait after crashes. */
struct account *account_unref(struct account *account);

/* 0, or a positive outcome and nothing is charged. */
int account_charge(struct account *account, enum charge_kind kind, struct charge *ret);
void charge_done(struct charge *charge);

uint32_t account_limit(const struct account *account, enum charge_kind kind);
uint32_t accounts_used(const struct accounts *a, enum charge_kind kind);
