/* Models that clients want loaded although nobody uses them now: residency leases. A lease keeps
 * the user's worker and, in it, the model; it is a wish, and gives way to memory pressure. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/wire/proto.h"
#include "policy/account.h"

struct workers;

struct hold {
        struct hold *next;
        struct charge charge;          /* an object of its user; has the account */
        char name[WIRE_NAME_MAX];
};

struct holds {
        struct hold *first;
};

/* A lease for a model of an account: its worker is started and told. 0, ACCOUNT_E_QUOTA (too many
 * objects) or -ENOMEM. */
int workers_hold(struct workers *workers, struct account *account, const char *name,
                 struct hold **ret);
/* The lease ends (NULL is fine); returns NULL. */
struct hold *workers_let_go(struct workers *workers, struct hold *hold);
/* Somebody of this account holds this model; NULL: any model. */
bool holds_has(const struct holds *holds, const struct account *account, const char *name);
