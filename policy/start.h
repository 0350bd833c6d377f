/* How soon the next worker may be started: a burst, then one each interval for the whole daemon;
 * and for a uid whose workers crash, twice as long each time. */
#pragma once

#include <stdint.h>

#include "policy/account.h"

struct start_rate {
        uint64_t debt_until_usec; /* a time: starts are booked one interval apart behind it */
};

/* When a worker asked for now may start (>= now); books the start. */
uint64_t start_book(struct start_rate *s, const struct account *account, uint64_t now);
/* A worker of this account ended badly after living for lived_usec. */
void start_crashed(struct account *account, uint64_t now, uint64_t lived_usec);
/* A worker of this account ended as it should. */
void start_ended_well(struct account *account);
