/* What the user database says of a uid. The uid itself always comes from the kernel. */
#pragma once

#include <stdbool.h>

#include "policy/config.h"

/* A database that gave no answer is asked again after this time, not before. */
#define IDENTITY_AGAIN_USEC UINT64_C(10000000)

struct known_identity {
        struct identity who;    /* uid, and nothing else while there is no answer */
        bool answered;
        uint64_t asked_usec;    /* 0: the place is empty */
};

/* Remembered answers, zero-initialised = none. */
struct identities {
        struct known_identity known[LIMIT_ACCOUNTS];
        unsigned next;          /* to be replaced when there is no room */
};

/* Asks the database for a uid that is not remembered. 0 with what is known of it, which is only the
 * number when it has no entry; -EAGAIN when there is no answer: then *ret has only the number.
 * *ret stays valid until the next call. */
int identities_get(struct identities *i, uid_t uid, const struct identity **ret);
/* Everybody is asked for anew. */
void identities_forget(struct identities *i);
