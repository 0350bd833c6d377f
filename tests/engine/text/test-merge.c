/* The heap against the definition: look at all pairs, join the best, start again. Rules are random
 * tables over few tokens, with many equal keys, so that ties are tested as well. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/merge.h"

enum { TOKENS = 12, TEXT = 60 };

static uint32_t keys[TOKENS][TOKENS];
static int32_t results[TOKENS][TOKENS];
static unsigned long calls;

static uint32_t rule(const struct vocab *v, const struct merger *m, uint32_t i, uint32_t j,
                     int32_t *ret_id) {
        (void)v;
        calls++;
        *ret_id = results[m->id[i]][m->id[j]];
        return keys[m->id[i]][m->id[j]];
}

static void random_rule(uint32_t max_key) {
        for (int i = 0; i < TOKENS; i++)
                for (int j = 0; j < TOKENS; j++) {
                        keys[i][j] = rand() % 3 == 0 ? (uint32_t)MERGE_NEVER
                                                     : (uint32_t)rand() % max_key;
                        results[i][j] = rand() % TOKENS;
                }
}

static size_t naive(int32_t *ids, size_t *sizes, size_t n) {
        for (;;) {
                size_t best = n;
                for (size_t i = 0; i + 1 < n; i++)
                        if (keys[ids[i]][ids[i + 1]] != (uint32_t)MERGE_NEVER &&
                            (best == n ||
                             keys[ids[i]][ids[i + 1]] < keys[ids[best]][ids[best + 1]]))
                                best = i;
                if (best == n)
                        return n;
                ids[best] = results[ids[best]][ids[best + 1]];
                sizes[best] += sizes[best + 1];
                n--;
                memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof(*ids));
                memmove(sizes + best + 1, sizes + best + 2, (n - best - 1) * sizeof(*sizes));
        }
}

static void test_same_as_naive(void **state) {
        (void)state;
        struct merger m = {0};
        srand(4);
        for (int round = 0; round < 3000; round++) {
                uint8_t text[TEXT] = {0};
                int32_t ids[TEXT];
                size_t sizes[TEXT], bytes = 0, n = 0;
                random_rule(round % 2 ? 4 : 1000);
                size_t length = (size_t)rand() % TEXT;
                assert_int_equal(merger_prepare(&m, (struct view){text, length}), 0);
                while (bytes < length) { /* first symbols of one to three bytes */
                        size_t size = 1 + (size_t)rand() % 3;
                        sizes[n] = MIN(size, length - bytes);
                        ids[n] = rand() % TOKENS;
                        m.size[bytes] = (uint32_t)sizes[n];
                        m.id[bytes] = ids[n];
                        bytes += sizes[n++];
                }
                merge_run(&m, NULL, rule);
                n = naive(ids, sizes, n);
                uint32_t at = 0;
                for (size_t i = 0; i < n; i++) {
                        assert_true(at < length);
                        assert_int_equal(m.id[at], ids[i]);
                        assert_int_equal(m.size[at], sizes[i]);
                        at += m.size[at];
                }
                assert_int_equal(at, length);
        }
        merger_done(&m);
}

/* Each join looks at three pairs at most, each first symbol at one: linear, whatever the rule. */
static void test_work_is_linear(void **state) {
        (void)state;
        enum { N = 100000 };
        struct merger m = {0};
        uint8_t *text = calloc(N, 1);
        srand(5);
        for (int round = 0; round < 20; round++) {
                random_rule(1 + (uint32_t)rand() % 1000);
                calls = 0;
                assert_int_equal(merger_prepare(&m, (struct view){text, N}), 0);
                for (uint32_t i = 0; i < N; i++) {
                        m.size[i] = 1;
                        m.id[i] = round % 2 ? 0 : rand() % TOKENS;
                }
                merge_run(&m, NULL, rule);
                assert_in_range(calls, N - 1, 4 * (unsigned long)N);
        }
        merger_done(&m);
        free(text);
}

static void test_empty_and_too_long(void **state) {
        (void)state;
        struct merger m = {0};
        uint8_t byte = 0;
        assert_int_equal(merger_prepare(&m, (struct view){&byte, 0}), 0);
        merge_run(&m, NULL, rule);
        assert_true(merger_prepare(&m, (struct view){&byte, ((size_t)1 << 30) + 1}) < 0);
        merger_done(&m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_as_naive),
                cmocka_unit_test(test_work_is_linear),
                cmocka_unit_test(test_empty_and_too_long),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
