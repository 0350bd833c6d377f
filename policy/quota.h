/* What a uid has used and may still use: requests and tokens of the minute, tokens and CPU time of
 * the day. A job reserves an estimate when it is admitted and settles at its end for what it really
 * used, so a job that was admitted is never stopped by a budget. Pure: the caller has the clocks.
 *
 * Tokens are weighted by what they cost on a CPU. Prefill runs about four times as fast as decoding
 * (2B4T shape: 157 to 169 against 35 to 53 tokens a second; embedded model: 808 against 213), so a
 * token that is generated counts four tokens of the prompt. One that was kept from an earlier
 * request counts a quarter: less, because it is not computed, but not nothing, so that nobody fills
 * the memory for free. CPU time is what the broker measures; tokens are what the user's own worker
 * counts, which parses the user's input. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/bucket.h"
#include "policy/error.h"
#include "policy/limits.h"

/* What is counted of a worker's word about the tokens of one job. */
#define QUOTA_MOST_CLAIMED (UINT64_C(1) << 40)

/* In quarters of a weighted token. */
enum { QUOTA_COST_IN = 4, QUOTA_COST_CACHED = 1, QUOTA_COST_OUT = 16, QUOTA_COST_ONE = 4 };
/* Weighted tokens, rounded up. cached: how many of `in`. */
uint64_t quota_cost(uint64_t in, uint64_t cached, uint64_t out);

/* Microseconds. A day ends at midnight UTC. */
#define QUOTA_DAY_USEC UINT64_C(86400000000)
struct quota_clock {
        uint64_t monotonic;
        uint64_t realtime;
};

struct quota {
        struct bucket requests, tokens;
        uint64_t day;             /* whose budgets these are, counted from the epoch */
        uint64_t tokens_used;     /* settled */
        uint64_t tokens_reserved; /* by jobs that were admitted on this day */
        uint64_t cpu_used;        /* microseconds */
        uint32_t reservations;    /* live ones */
};

/* Zero-initialised = nothing is reserved. */
struct reservation {
        struct quota *quota;
        uint64_t tokens;
        uint64_t day;
        uint32_t era; /* of the bucket that they were taken from */
};

void quota_init(struct quota *q, const struct limits *l);
/* Asserts that nothing is reserved. */
void quota_done(struct quota *q);
/* The limits have changed. What is reserved stays reserved. */
void quota_set_limits(struct quota *q, const struct limits *l, struct quota_clock now);

/* One more request. False: *ret_refusal, and it is not counted. */
bool quota_request(struct quota *q, struct quota_clock now, struct refusal *ret_refusal);
/* It was refused for another reason. */
void quota_take_back_request(struct quota *q, struct quota_clock now);

/* Reserve so many weighted tokens. False: *ret_refusal, and nothing is reserved. */
bool quota_reserve(struct quota *q, const struct limits *l, uint64_t tokens,
                   struct quota_clock now, struct reservation *ret, struct refusal *ret_refusal);
/* The job has ended; so many were used. Harmless when nothing is reserved. */
void quota_settle(struct reservation *r, uint64_t tokens, struct quota_clock now);
void quota_add_cpu(struct quota *q, uint64_t usec, struct quota_clock now);

/* What was used on a day, before a restart; of another day nothing, unless it is tomorrow: then the
 * clock was set back over midnight, and it is still that day (quota_turn). */
void quota_restore(struct quota *q, uint64_t day, uint64_t tokens, uint64_t cpu_usec,
                   struct quota_clock now);

/* Nothing of it would be missed. */
bool quota_is_blank(struct quota *q, struct quota_clock now);
/* Real time from which on a small request is not refused; 0: from now on. */
uint64_t quota_next_allowed(struct quota *q, const struct limits *l, struct quota_clock now);
/* Real time at which the budgets of the day begin anew, of a quota that is up to date or blank. */
uint64_t quota_day_end(const struct quota *q, struct quota_clock now);
/* Brings everything up to date, for who reads the numbers. */
void quota_turn(struct quota *q, struct quota_clock now);
