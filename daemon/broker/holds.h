/* Models that clients want loaded although nobody uses them now: residency leases. A lease keeps
 * the user's worker and, in it, the model; it is a wish, and gives way to memory pressure. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/wire/proto.h"
#include "policy/account.h"

struct hold {
        struct hold *next;
        struct charge charge;          /* an object of its user; has the account */
        char name[WIRE_NAME_MAX];
};

struct holds {
        struct hold *first;
};

/* 0, ACCOUNT_E_QUOTA (too many objects) or -ENOMEM. */
int hold_new(struct hold **ret, struct holds *holds, struct account *account, const char *name);
struct hold *hold_free(struct holds *holds, struct hold *hold);
/* Somebody of this account holds this model; NULL: any model. */
bool holds_has(const struct holds *holds, const struct account *account, const char *name);
