/* See bucket.h. Every function first brings the bucket up to now; a clock that goes back brings
 * nothing. Products are computed in 128 bits, so that no span of time is too long. */
#include "engine/base/macro.h"
#include "policy/bucket.h"
#include "policy/limits.h"

/* Debts of many things of the largest size add up to this at most. */
#define DEBT_MOST (UINT64_C(1) << 62)

static uint64_t capacity(const struct bucket *b) {
        return b->per_minute * BUCKET_UNIT;
}

static uint64_t units(uint64_t n) {
        return MIN(n, BUCKET_MOST) * BUCKET_UNIT;
}

static void add(struct bucket *b, unsigned __int128 n) {
        uint64_t paid = n < b->debt ? (uint64_t)n : b->debt;
        uint64_t room = capacity(b) - b->level;

        b->debt -= paid;
        n -= paid;
        b->level += n < room ? (uint64_t)n : room;
}

static void refill(struct bucket *b, uint64_t now) {
        if (now <= b->at)
                return;
        add(b, (unsigned __int128)b->per_minute * (now - b->at));
        b->at = now;
}

void bucket_init(struct bucket *b, uint64_t per_minute) {
        *b = (struct bucket){ .per_minute = per_minute };
        if (per_minute != QUOTA_INFINITY)
                b->level = capacity(b);
}

void bucket_resize(struct bucket *b, uint64_t per_minute, uint64_t now) {
        if (b->per_minute == per_minute)
                return;
        if (b->per_minute == QUOTA_INFINITY || per_minute == QUOTA_INFINITY) {
                uint32_t era = b->era + 1;

                bucket_init(b, per_minute);
                b->era = era;
                return;
        }
        refill(b, now);
        b->per_minute = per_minute;
        b->level = MIN(b->level, capacity(b));
}

/* Microseconds that bring so many units. */
static uint64_t time_for(const struct bucket *b, uint64_t n) {
        return n / b->per_minute + (n % b->per_minute != 0);
}

uint64_t bucket_wait(struct bucket *b, uint64_t n, uint64_t now) {
        uint64_t need;

        if (b->per_minute == QUOTA_INFINITY)
                return 0;
        refill(b, now);
        need = MIN(units(n), capacity(b));
        return b->debt == 0 && b->level >= need ? 0 : time_for(b, need - b->level + b->debt);
}

void bucket_take(struct bucket *b, uint64_t n, uint64_t now) {
        uint64_t need = units(n), level;

        if (b->per_minute == QUOTA_INFINITY)
                return;
        refill(b, now);
        level = MIN(b->level, need);
        b->level -= level;
        b->debt = MIN(b->debt + (need - level), DEBT_MOST);
}

void bucket_give(struct bucket *b, uint64_t n, uint64_t now) {
        if (b->per_minute == QUOTA_INFINITY)
                return;
        refill(b, now);
        add(b, units(n));
}

uint64_t bucket_left(struct bucket *b, uint64_t now) {
        if (b->per_minute == QUOTA_INFINITY)
                return QUOTA_INFINITY;
        refill(b, now);
        return b->level / BUCKET_UNIT;
}

uint64_t bucket_until_full(struct bucket *b, uint64_t now) {
        if (b->per_minute == QUOTA_INFINITY)
                return 0;
        refill(b, now);
        return time_for(b, capacity(b) - b->level + b->debt);
}
