/* Invariants: the tokens of live reservations of this day add up to tokens_reserved; a reservation
 * of an earlier day no longer counts, neither when it is settled; used only grows within a day; a
 * bucket gets back no more than was taken from it. */
#include <assert.h>

#include "engine/base/macro.h"
#include "policy/quota.h"

/* What is counted of all claims together: nothing overflows. */
#define MOST_OF_A_DAY (UINT64_C(1) << 62)

uint64_t quota_cost(uint64_t in, uint64_t cached, uint64_t out) {
        uint64_t kept;

        in = MIN(in, QUOTA_MOST_CLAIMED);
        out = MIN(out, QUOTA_MOST_CLAIMED);
        kept = MIN(cached, in);
        return ((in - kept) * QUOTA_COST_IN + kept * QUOTA_COST_CACHED + out * QUOTA_COST_OUT +
                QUOTA_COST_ONE - 1) / QUOTA_COST_ONE;
}

/* A clock that was set back over midnight does not bring a new day; one that jumped back further
 * does, because the day it was would not come for long. */
void quota_turn(struct quota *q, struct quota_clock now) {
        uint64_t today = now.realtime / QUOTA_DAY_USEC;

        bucket_left(&q->requests, now.monotonic);
        bucket_left(&q->tokens, now.monotonic);
        if (today == q->day || today + 1 == q->day)
                return;
        q->day = today;
        q->tokens_used = q->tokens_reserved = q->cpu_used = 0;
}

uint64_t quota_day_end(const struct quota *q, struct quota_clock now) {
        return (MAX(q->day, now.realtime / QUOTA_DAY_USEC) + 1) * QUOTA_DAY_USEC;
}

void quota_init(struct quota *q, const struct limits *l) {
        *q = (struct quota){};
        bucket_init(&q->requests, l->v[QUOTA_REQUESTS_PER_MINUTE]);
        bucket_init(&q->tokens, l->v[QUOTA_TOKENS_PER_MINUTE]);
}

void quota_done(struct quota *q) {
        assert(q->reservations == 0 && q->tokens_reserved == 0);
}

void quota_set_limits(struct quota *q, const struct limits *l, struct quota_clock now) {
        bucket_resize(&q->requests, l->v[QUOTA_REQUESTS_PER_MINUTE], now.monotonic);
        bucket_resize(&q->tokens, l->v[QUOTA_TOKENS_PER_MINUTE], now.monotonic);
}

/* usec: when to try again, 0: never. Always false. */
static bool refuse(struct refusal *ret, enum error_code code, uint64_t value, uint64_t limit,
                   uint64_t usec) {
        uint64_t ms = usec / 1000 + (usec % 1000 != 0);

        *ret = (struct refusal){ .code = code, .value = value, .limit = limit,
                                 .retry_after_ms = (uint32_t)MIN(ms, (uint64_t)UINT32_MAX) };
        return false;
}

bool quota_request(struct quota *q, struct quota_clock now, struct refusal *ret_refusal) {
        uint64_t limit = q->requests.per_minute;
        uint64_t wait = bucket_wait(&q->requests, 1, now.monotonic);

        if (wait > 0)
                return refuse(ret_refusal, ERROR_RATE_LIMITED, limit + 1, limit, wait);
        bucket_take(&q->requests, 1, now.monotonic);
        return true;
}

void quota_take_back_request(struct quota *q, struct quota_clock now) {
        bucket_give(&q->requests, 1, now.monotonic);
}

static bool check_day(struct quota *q, const struct limits *l, uint64_t tokens,
                      struct quota_clock now, struct refusal *ret) {
        uint64_t most = l->v[QUOTA_TOKENS_PER_DAY], cpu = l->v[QUOTA_CPU_TIME_PER_DAY];
        uint64_t sum = q->tokens_used + q->tokens_reserved + tokens;
        uint64_t wait = quota_day_end(q, now) - now.realtime;

        if (q->cpu_used >= cpu)
                return refuse(ret, ERROR_BUDGET_CPU, q->cpu_used / 1000000, cpu / 1000000, wait);
        /* What is more than a whole day never fits. */
        if (sum > most)
                return refuse(ret, ERROR_BUDGET_TOKENS, sum, most, tokens > most ? 0 : wait);
        return true;
}

bool quota_reserve(struct quota *q, const struct limits *l, uint64_t tokens,
                   struct quota_clock now, struct reservation *ret, struct refusal *ret_refusal) {
        uint64_t wait, limit = q->tokens.per_minute;

        assert(!ret->quota);
        quota_turn(q, now);
        tokens = MIN(tokens, BUCKET_MOST);
        if (!check_day(q, l, tokens, now, ret_refusal))
                return false;
        wait = bucket_wait(&q->tokens, tokens, now.monotonic);
        if (wait > 0)
                return refuse(ret_refusal, ERROR_TOKENS_LIMITED,
                              limit - bucket_left(&q->tokens, now.monotonic) + tokens, limit, wait);
        bucket_take(&q->tokens, tokens, now.monotonic);
        q->tokens_reserved += tokens;
        q->reservations++;
        *ret = (struct reservation){ .quota = q, .tokens = tokens, .day = q->day,
                                     .era = q->tokens.era };
        return true;
}

void quota_settle(struct reservation *r, uint64_t tokens, struct quota_clock now) {
        struct quota *q = r->quota;

        if (!q)
                return;
        assert(q->reservations > 0);
        q->reservations--;
        tokens = MIN(tokens, BUCKET_MOST);
        quota_turn(q, now);
        if (q->day == r->day) {
                assert(q->tokens_reserved >= r->tokens);
                q->tokens_reserved -= r->tokens;
                q->tokens_used = MIN(q->tokens_used + tokens, MOST_OF_A_DAY);
        }
        if (r->era != q->tokens.era)
                tokens = r->tokens; /* none of this bucket's */
        if (tokens < r->tokens)
                bucket_give(&q->tokens, r->tokens - tokens, now.monotonic);
        else
                bucket_take(&q->tokens, tokens - r->tokens, now.monotonic);
        *r = (struct reservation){};
}

void quota_add_cpu(struct quota *q, uint64_t usec, struct quota_clock now) {
        quota_turn(q, now);
        q->cpu_used = MIN(q->cpu_used + usec, MOST_OF_A_DAY);
}

void quota_restore(struct quota *q, uint64_t day, uint64_t tokens, uint64_t cpu_usec,
                   struct quota_clock now) {
        quota_turn(q, now);
        if (day == q->day + 1)
                q->day = day;
        if (q->day != day)
                return;
        q->tokens_used = MIN(tokens, MOST_OF_A_DAY);
        q->cpu_used = MIN(cpu_usec, MOST_OF_A_DAY);
}

bool quota_is_blank(struct quota *q, struct quota_clock now) {
        quota_turn(q, now);
        return q->reservations == 0 && q->tokens_used == 0 && q->cpu_used == 0 &&
               bucket_until_full(&q->requests, now.monotonic) == 0 &&
               bucket_until_full(&q->tokens, now.monotonic) == 0;
}

uint64_t quota_next_allowed(struct quota *q, const struct limits *l, struct quota_clock now) {
        uint64_t wait = MAX(bucket_wait(&q->requests, 1, now.monotonic),
                            bucket_wait(&q->tokens, 1, now.monotonic));

        quota_turn(q, now);
        if (q->cpu_used >= l->v[QUOTA_CPU_TIME_PER_DAY] ||
            q->tokens_used + q->tokens_reserved >= l->v[QUOTA_TOKENS_PER_DAY])
                return quota_day_end(q, now);
        return wait > 0 ? now.realtime + wait : 0;
}
