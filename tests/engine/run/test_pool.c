/* The thread pool: every thread runs once per run, barriers separate phases, sleeping threads wake,
 * and more threads than cores still come to an end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/run/pool.h"

enum { MAX_THREADS = 16, PHASES = 50 };

struct phases {
        struct pool *pool;
        int place[MAX_THREADS]; /* how many phases each thread has finished; plain on purpose */
        atomic_int wrong, calls[MAX_THREADS];
};

/* Between two barriers all threads must agree on the phase: each writes its own place, then, after
 * the barrier, reads everybody's. */
static void walk_phases(void *ctx, unsigned thread) {
        struct phases *p = ctx;
        unsigned n = pool_threads(p->pool);

        atomic_fetch_add(&p->calls[thread], 1);
        for (int phase = 1; phase <= PHASES; phase++) {
                p->place[thread] = phase;
                pool_barrier(p->pool);
                for (unsigned i = 0; i < n; i++)
                        if (p->place[i] != phase)
                                atomic_fetch_add(&p->wrong, 1);
                pool_barrier(p->pool);
        }
}

static void check_phases(unsigned threads, int runs, useconds_t pause) {
        struct phases p = {0};

        assert_int_equal(pool_new(&p.pool, threads), 0);
        assert_int_equal(pool_threads(p.pool), threads);
        for (int i = 0; i < runs; i++) {
                memset(p.place, 0, sizeof(p.place));
                pool_run(p.pool, walk_phases, &p);
                for (unsigned t = 0; t < threads; t++)
                        assert_int_equal(p.place[t], PHASES);
                if (pause)
                        usleep(pause);
        }
        assert_int_equal(atomic_load(&p.wrong), 0);
        for (unsigned t = 0; t < threads; t++)
                assert_int_equal(atomic_load(&p.calls[t]), runs);
        assert_null(pool_free(p.pool));
}

static void test_many_runs(void **state) {
        (void)state;
        for (unsigned threads = 1; threads <= 4; threads++)
                check_phases(threads, 200, 0);
}

/* Long enough between runs that every thread has gone to sleep. */
static void test_sleeping_threads_wake(void **state) {
        (void)state;
        check_phases(3, 20, 5000);
}

static void test_more_threads_than_cores(void **state) {
        (void)state;
        check_phases(MAX_THREADS, 20, 0);
}

static void test_refused_sizes(void **state) {
        struct pool *p = NULL;

        (void)state;
        assert_int_equal(pool_new(&p, 0), -EINVAL);
        assert_int_equal(pool_new(&p, 100000), -EINVAL);
        assert_null(p);
        assert_null(pool_free(NULL));
}

static void test_parts_tile_the_whole(void **state) {
        (void)state;
        for (uint32_t n = 0; n < 100; n++)
                for (unsigned threads = 1; threads <= 9; threads++) {
                        uint32_t at = 0, least = UINT32_MAX, most = 0;

                        for (unsigned t = 0; t < threads; t++) {
                                uint32_t begin, end;

                                pool_part(n, t, threads, &begin, &end);
                                assert_int_equal(begin, at);
                                at = end;
                                least = MIN(least, end - begin);
                                most = MAX(most, end - begin);
                        }
                        assert_int_equal(at, n);
                        assert_true(most - least <= 1);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_many_runs),
                cmocka_unit_test(test_sleeping_threads_wake),
                cmocka_unit_test(test_more_threads_than_cores),
                cmocka_unit_test(test_refused_sizes),
                cmocka_unit_test(test_parts_tile_the_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
