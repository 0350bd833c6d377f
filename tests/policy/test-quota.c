/* Buckets and budgets under clocks of our own: exact numbers, and random sequences whose sums must
 * come out even. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/quota.h"
#include "policy/quota_key.h"

#define SEC UINT64_C(1000000)
#define NOON (20000 * QUOTA_DAY_USEC + QUOTA_DAY_USEC / 2)

/* xorshift64*: the same sequence on every machine. */
static uint64_t next_random(uint64_t *state) {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * UINT64_C(2685821657736338717);
}

static uint64_t below(uint64_t *state, uint64_t n) {
        return (next_random(state) >> 11) % n;
}

static struct limits limits_with(enum quota_key key, uint64_t value) {
        struct limits l = limits_default();

        l.v[key] = value;
        return l;
}

static void assert_sound(const struct bucket *b) {
        assert_true(b->level <= b->per_minute * BUCKET_UNIT);
        assert_true(b->debt == 0 || b->level == 0);
}

static void test_bucket_in_numbers(void **state) {
        uint64_t t = 1000 * SEC;
        struct bucket b;

        bucket_init(&b, 120);
        assert_int_equal(bucket_left(&b, t), 120);
        for (unsigned i = 0; i < 120; i++) {
                assert_int_equal(bucket_wait(&b, 1, t), 0);
                bucket_take(&b, 1, t);
        }
        assert_int_equal(bucket_left(&b, t), 0);
        assert_int_equal(bucket_wait(&b, 1, t), 500000); /* two a second */
        assert_int_equal(bucket_wait(&b, 1, t + 499999), 1);
        assert_int_equal(bucket_wait(&b, 1, t + 500000), 0);
        assert_int_equal(bucket_until_full(&b, t + 500000), 59500000);
        assert_int_equal(bucket_left(&b, t + 60 * SEC), 120);
        assert_int_equal(bucket_left(&b, t + 1000 * SEC), 120);
        assert_int_equal(bucket_left(&b, t), 120); /* a clock that goes back brings nothing */

        /* Larger than the bucket: only when it is full, and the rest is owed. */
        bucket_take(&b, 1, t + 1000 * SEC);
        assert_int_equal(bucket_wait(&b, 300, t + 1000 * SEC), 500000);
        t += 1001 * SEC;
        assert_int_equal(bucket_wait(&b, 300, t), 0);
        bucket_take(&b, 300, t);
        assert_int_equal(bucket_left(&b, t), 0);
        assert_int_equal(bucket_wait(&b, 1, t), 90 * SEC + 500000);
        assert_int_equal(bucket_left(&b, t + 90 * SEC), 0);
        assert_int_equal(bucket_left(&b, t + 91 * SEC), 2);
        bucket_give(&b, 10, t + 91 * SEC);
        assert_int_equal(bucket_left(&b, t + 91 * SEC), 12);
}

static void test_bucket_resizes(void **state) {
        uint64_t t = SEC;
        struct bucket b;

        bucket_init(&b, 100);
        bucket_take(&b, 70, t);
        bucket_resize(&b, 200, t); /* what was used stays used */
        assert_int_equal(bucket_left(&b, t), 30);
        bucket_resize(&b, 20, t);
        assert_int_equal(bucket_left(&b, t), 20);
        bucket_resize(&b, QUOTA_INFINITY, t);
        assert_int_equal(bucket_left(&b, t), QUOTA_INFINITY);
        bucket_take(&b, 1000, t);
        assert_int_equal(bucket_wait(&b, 1000, t), 0);
        assert_int_equal(bucket_until_full(&b, t), 0);
        bucket_resize(&b, 50, t);
        assert_int_equal(bucket_left(&b, t), 50);
        bucket_give(&b, 1000, t); /* taken while there was no limit */
        assert_int_equal(bucket_left(&b, t), 50);
}

/* What a bucket holds, said without a bucket: a signed sum that time raises up to the top. */
struct model {
        __int128 units;
        uint64_t at;
};

static void model_time(struct model *m, const struct bucket *b, uint64_t now) {
        __int128 top = (__int128)b->per_minute * BUCKET_UNIT;

        m->units += (__int128)b->per_minute * (now - m->at);
        m->units = MIN(m->units, top);
        m->at = now;
}

static void test_bucket_at_random(void **state) {
        static const uint64_t sizes[] = { 1, 7, 60, 120, 100000, UINT64_C(100000000000) };
        uint64_t seed = 88172645463325252;

        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
                struct model m = { (__int128)sizes[s] * BUCKET_UNIT, 0 };
                struct bucket b;
                uint64_t t = 0;

                bucket_init(&b, sizes[s]);
                for (unsigned i = 0; i < 20000; i++) {
                        uint64_t n = below(&seed, MIN(2 * sizes[s], BUCKET_MOST) + 1);
                        uint64_t wait;

                        t += below(&seed, 4) ? below(&seed, 3 * SEC) : 0;
                        model_time(&m, &b, t);
                        wait = bucket_wait(&b, n, t);
                        if (below(&seed, 3) == 0) {
                                bucket_give(&b, n, t);
                                m.units += (__int128)n * BUCKET_UNIT;
                                model_time(&m, &b, t);
                        } else if (wait == 0 || below(&seed, 50) == 0) {
                                bucket_take(&b, n, t);
                                m.units -= (__int128)n * BUCKET_UNIT;
                        } else if (below(&seed, 2)) {
                                struct bucket later = b; /* the wait is exact */

                                assert_true(bucket_wait(&later, n, t + wait - 1) > 0);
                                assert_int_equal(bucket_wait(&later, n, t + wait), 0);
                        }
                        assert_sound(&b);
                        assert_true((__int128)b.level - (__int128)b.debt == m.units);
                }
        }
}

static void test_take_and_give_cancel(void **state) {
        uint64_t seed = 4711, t = SEC;
        struct bucket b, before;

        bucket_init(&b, 1000);
        for (unsigned i = 0; i < 10000; i++) {
                uint64_t n = below(&seed, 5000);

                before = b;
                bucket_take(&b, n, t);
                bucket_give(&b, n, t);
                before.at = b.at;
                assert_memory_equal(&b, &before, sizeof(b));
                bucket_take(&b, below(&seed, 20), t);
                t += below(&seed, SEC);
                bucket_left(&b, t);
        }
}

static void test_cost(void **state) {
        assert_int_equal(quota_cost(0, 0, 0), 0);
        assert_int_equal(quota_cost(100, 0, 0), 100);
        assert_int_equal(quota_cost(0, 0, 100), 400);
        assert_int_equal(quota_cost(100, 100, 0), 25);
        assert_int_equal(quota_cost(100, 97, 1), 3 + 25 + 4); /* 24.25 rounded up */
        assert_int_equal(quota_cost(1, 1, 0), 1);             /* never nothing */
        assert_int_equal(quota_cost(10, 1000, 0), quota_cost(10, 10, 0));
        assert_true(quota_cost(UINT64_MAX, 0, UINT64_MAX) > UINT64_C(1) << 40);
}

static void test_refusals_in_numbers(void **state) {
        struct limits l = limits_with(QUOTA_REQUESTS_PER_MINUTE, 2);
        struct quota_clock now = { 10 * SEC, NOON };
        struct reservation a = {}, b = {}, c = {};
        struct refusal r;
        struct quota q;

        l.v[QUOTA_TOKENS_PER_MINUTE] = 600;
        l.v[QUOTA_TOKENS_PER_DAY] = 1000;
        l.v[QUOTA_CPU_TIME_PER_DAY] = 5 * SEC;
        quota_init(&q, &l);
        assert_true(quota_request(&q, now, &r));
        assert_true(quota_request(&q, now, &r));
        assert_false(quota_request(&q, now, &r));
        assert_int_equal(r.code, ERROR_RATE_LIMITED);
        assert_int_equal(r.value, 3);
        assert_int_equal(r.limit, 2);
        assert_int_equal(r.retry_after_ms, 30000);
        quota_take_back_request(&q, now);
        assert_true(quota_request(&q, now, &r));

        assert_true(quota_reserve(&q, &l, 500, now, &a, &r));
        assert_false(quota_reserve(&q, &l, 200, now, &b, &r));
        assert_int_equal(r.code, ERROR_TOKENS_LIMITED);
        assert_int_equal(r.value, 700);
        assert_int_equal(r.limit, 600);
        assert_int_equal(r.retry_after_ms, 10000);
        assert_null(b.quota);
        now.monotonic += 10 * SEC;
        assert_true(quota_reserve(&q, &l, 200, now, &b, &r));
        now.monotonic += 60 * SEC;
        assert_false(quota_reserve(&q, &l, 301, now, &c, &r));
        assert_int_equal(r.code, ERROR_BUDGET_TOKENS);
        assert_int_equal(r.value, 1001);
        assert_int_equal(r.limit, 1000);
        assert_int_equal(r.retry_after_ms, 12 * 3600 * 1000);
        assert_false(quota_reserve(&q, &l, 1001, now, &c, &r));
        assert_int_equal(r.retry_after_ms, 0); /* never */
        quota_settle(&a, 100, now);            /* 400 of the day come back */
        assert_true(quota_reserve(&q, &l, 301, now, &c, &r));
        quota_settle(&b, 0, now);
        quota_settle(&c, 301, now);
        quota_settle(&c, 5, now); /* nothing is reserved any more */
        assert_int_equal(q.tokens_used, 401);

        quota_add_cpu(&q, 5 * SEC - 1, now);
        assert_true(quota_reserve(&q, &l, 1, now, &c, &r));
        quota_settle(&c, 1, now);
        assert_int_equal(quota_next_allowed(&q, &l, now), 0);
        quota_add_cpu(&q, 1, now);
        assert_false(quota_reserve(&q, &l, 1, now, &c, &r));
        assert_int_equal(r.code, ERROR_BUDGET_CPU);
        assert_int_equal(r.value, 5);
        assert_int_equal(r.limit, 5);
        assert_int_equal(quota_next_allowed(&q, &l, now), 20001 * QUOTA_DAY_USEC);
        quota_done(&q);
}

static void test_midnight(void **state) {
        struct limits l = limits_with(QUOTA_TOKENS_PER_DAY, 100);
        struct quota_clock now = { SEC, 20001 * QUOTA_DAY_USEC - 1 };
        struct reservation a = {}, b = {};
        struct refusal r;
        struct quota q;

        quota_init(&q, &l);
        assert_true(quota_reserve(&q, &l, 90, now, &a, &r));
        quota_add_cpu(&q, 77, now);
        assert_false(quota_reserve(&q, &l, 90, now, &b, &r));
        assert_int_equal(r.retry_after_ms, 1);
        now.realtime++;
        assert_true(quota_reserve(&q, &l, 90, now, &b, &r)); /* a new day */
        assert_int_equal(q.cpu_used, 0);
        quota_settle(&a, 10, now); /* yesterday's: gives nothing back, uses nothing */
        assert_int_equal(q.tokens_used, 0);
        assert_int_equal(q.tokens_reserved, 90);
        quota_settle(&b, 95, now); /* more than reserved is counted */
        assert_int_equal(q.tokens_used, 95);
        now.realtime -= 2; /* set back over midnight: no fresh budget */
        assert_false(quota_reserve(&q, &l, 90, now, &b, &r));
        assert_int_equal(q.tokens_used, 95);
        now.realtime -= 3 * QUOTA_DAY_USEC; /* a clock that was wrong by days */
        assert_true(quota_reserve(&q, &l, 90, now, &b, &r));
        quota_settle(&b, 0, now);
        assert_true(quota_is_blank(&q, now));
        quota_done(&q);
}

static void test_restore(void **state) {
        struct limits l = limits_default();
        struct quota_clock now = { SEC, NOON };
        struct quota q;

        quota_init(&q, &l);
        quota_restore(&q, 19999, 5, 6, now);
        assert_true(quota_is_blank(&q, now));
        quota_restore(&q, 20000, 5, 6, now);
        assert_int_equal(q.tokens_used, 5);
        assert_int_equal(q.cpu_used, 6);
        assert_false(quota_is_blank(&q, now));
        quota_restore(&q, 20000, UINT64_MAX, UINT64_MAX, now); /* a file may say anything */
        quota_add_cpu(&q, UINT64_MAX / 2, now);
        assert_true(q.tokens_used + q.cpu_used > q.cpu_used);
        quota_done(&q);
}

/* Many jobs at once, clocks that run, limits that change: the sums are those of the live jobs, no
 * limit of the day is passed by what was admitted, and at the end nothing is left. */
/* What was not taken from a bucket is not given back to it. */
static void test_a_limit_that_comes_while_jobs_run(void **state) {
        struct limits free = limits_default(),
                      l = limits_with(QUOTA_TOKENS_PER_MINUTE, 1000);
        struct quota_clock now = { 1000 * SEC, NOON };
        struct reservation before = {}, after = {}, early = {};
        struct refusal refusal;
        struct quota q;

        quota_init(&q, &free);
        assert_true(quota_reserve(&q, &free, 4000, now, &before, &refusal));
        quota_set_limits(&q, &l, now);
        assert_true(quota_reserve(&q, &l, 1000, now, &after, &refusal));
        assert_int_equal(bucket_left(&q.tokens, now.monotonic), 0);
        quota_settle(&before, 10, now); /* it uses 3990 less than it might have */
        assert_int_equal(bucket_left(&q.tokens, now.monotonic), 0);
        quota_settle(&after, 400, now);
        assert_int_equal(bucket_left(&q.tokens, now.monotonic), 600);

        /* There and back again: the bucket is another one. */
        assert_true(quota_reserve(&q, &l, 600, now, &early, &refusal));
        quota_set_limits(&q, &free, now);
        quota_set_limits(&q, &l, now);
        assert_true(quota_reserve(&q, &l, 1000, now, &after, &refusal));
        quota_settle(&early, 0, now);
        assert_int_equal(bucket_left(&q.tokens, now.monotonic), 0);
        quota_settle(&after, 1000, now);
        quota_turn(&q, now);
        quota_done(&q);
}

/* Set back over midnight, in the middle of a day or while nobody looked. */
static void test_a_clock_that_is_set_back(void **state) {
        struct limits l = limits_with(QUOTA_TOKENS_PER_DAY, 100);
        struct quota_clock now = { 1000 * SEC, 20000 * QUOTA_DAY_USEC + SEC };
        struct quota_clock back = { 1001 * SEC, 20000 * QUOTA_DAY_USEC - 3600 * SEC };
        struct reservation r = {};
        struct refusal refusal;
        struct quota q;

        quota_init(&q, &l);
        assert_true(quota_reserve(&q, &l, 100, now, &r, &refusal));
        quota_settle(&r, 100, now);
        assert_false(quota_reserve(&q, &l, 1, back, &r, &refusal));
        /* not at the next midnight, which was already */
        assert_int_equal(refusal.retry_after_ms, (24 * 3600 + 3600) * 1000);
        assert_int_equal(quota_next_allowed(&q, &l, back), 20001 * QUOTA_DAY_USEC);
        assert_int_equal(quota_day_end(&q, back), 20001 * QUOTA_DAY_USEC);

        quota_init(&q, &l);
        quota_restore(&q, 20000, 100, 7, back);
        assert_false(quota_reserve(&q, &l, 1, back, &r, &refusal));
        assert_int_equal(q.cpu_used, 7);
        assert_false(quota_reserve(&q, &l, 1, now, &r, &refusal));
        back.realtime = 20001 * QUOTA_DAY_USEC;
        assert_true(quota_reserve(&q, &l, 100, back, &r, &refusal));
        quota_settle(&r, 0, back);

        quota_init(&q, &l);
        quota_restore(&q, 20002, 100, 7, now); /* a day that would not come for long */
        assert_int_equal(q.tokens_used, 0);
}

static void test_jobs_at_random(void **state) {
        struct job {
                struct reservation r;
                uint64_t tokens, day;
        } jobs[40] = {};
        struct limits l = limits_with(QUOTA_TOKENS_PER_DAY, 2000000);
        struct quota_clock now = { SEC, NOON };
        uint64_t seed = 12345, used = 0, day = 20000;
        unsigned admitted = 0, refused = 0, days = 0;
        struct quota q;

        l.v[QUOTA_TOKENS_PER_MINUTE] = 3000;
        quota_init(&q, &l);
        for (unsigned i = 0; i < 200000; i++) {
                struct job *j = &jobs[below(&seed, ARRAY_SIZE(jobs))];
                uint64_t step = below(&seed, 8 * SEC), reserved = 0;
                struct refusal r;

                now.monotonic += step;
                now.realtime += step;
                if (now.realtime / QUOTA_DAY_USEC != day) {
                        day = now.realtime / QUOTA_DAY_USEC;
                        used = 0;
                        days++;
                }
                if (j->r.quota) {
                        uint64_t really = below(&seed, j->tokens + 1);

                        used += j->day == day ? really : 0;
                        quota_settle(&j->r, really, now);
                        assert_null(j->r.quota);
                } else {
                        j->tokens = below(&seed, 2000);
                        j->day = day;
                        if (quota_reserve(&q, &l, j->tokens, now, &j->r, &r))
                                admitted++;
                        else
                                refused++;
                }
                if (below(&seed, 5000) == 0) {
                        l.v[QUOTA_TOKENS_PER_MINUTE] = 100 + below(&seed, 5000);
                        quota_set_limits(&q, &l, now);
                }
                quota_turn(&q, now);
                for (size_t k = 0; k < ARRAY_SIZE(jobs); k++)
                        if (jobs[k].r.quota && jobs[k].day == day)
                                reserved += jobs[k].tokens;
                assert_int_equal(q.tokens_reserved, reserved);
                assert_int_equal(q.tokens_used, used);
                assert_true(used + reserved <= l.v[QUOTA_TOKENS_PER_DAY]);
                assert_sound(&q.tokens);
                assert_sound(&q.requests);
        }
        assert_true(admitted > 10000 && refused > 10000 && days > 5);
        for (size_t k = 0; k < ARRAY_SIZE(jobs); k++)
                quota_settle(&jobs[k].r, 0, now);
        quota_done(&q);
        now.monotonic += 3600 * SEC;
        now.realtime += QUOTA_DAY_USEC;
        assert_true(quota_is_blank(&q, now));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bucket_in_numbers),
                cmocka_unit_test(test_bucket_resizes),
                cmocka_unit_test(test_bucket_at_random),
                cmocka_unit_test(test_take_and_give_cancel),
                cmocka_unit_test(test_cost),
                cmocka_unit_test(test_refusals_in_numbers),
                cmocka_unit_test(test_midnight),
                cmocka_unit_test(test_restore),
                cmocka_unit_test(test_a_limit_that_comes_while_jobs_run),
                cmocka_unit_test(test_a_clock_that_is_set_back),
                cmocka_unit_test(test_jobs_at_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
