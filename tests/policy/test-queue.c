/* Who waits for whom, and how long: the order of admission and the estimates of pace. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/admission.h"
#include "policy/pace.h"

enum { SECOND = 1000000 };

static void test_nothing_is_known_at_first(void **state) {
        struct pace p = {};

        assert_int_equal(pace_usec(&p, 1000), 0);
        assert_int_equal(pace_expected(&p, 1000), 1000);
        pace_count(&p, 0, true, SECOND);
        pace_count(&p, 50, true, SECOND + 1000); /* a moment says nothing yet */
        assert_int_equal(pace_usec(&p, 1000), 0);
}

static void test_rate(void **state) {
        struct pace p = {};

        pace_count(&p, 0, true, SECOND);
        pace_count(&p, 100, true, 2 * SECOND);
        assert_int_equal(pace_usec(&p, 50), SECOND / 2);
        /* Time in which nothing runs does not count. */
        pace_count(&p, 100, false, 3 * SECOND);
        pace_count(&p, 0, true, 1000 * (uint64_t)SECOND);
        assert_int_equal(pace_usec(&p, 50), SECOND / 2);
        /* What is long ago counts little. */
        for (uint64_t t = 1001; t < 1100; t++)
                pace_count(&p, 10, true, t * SECOND);
        assert_in_range(pace_usec(&p, 50), 4900000, 5100000);
        /* All have paused for a day: that is not a rate of jobs that run. */
        pace_count(&p, 0, true, 86400 * (uint64_t)SECOND);
        assert_int_equal(pace_usec(&p, 50), 0);
}

static void test_hostile_numbers(void **state) {
        struct pace_places places = {};
        struct pace p = {};

        pace_count(&p, 0, true, 1);
        for (unsigned i = 2; i < 100; i++) {
                pace_count(&p, UINT64_MAX, true, i * (uint64_t)SECOND);
                pace_ended(&p, UINT64_MAX, UINT64_MAX);
        }
        for (unsigned i = 0; i < 2 * PACE_PLACES; i++)
                pace_place(&places, UINT64_MAX);
        assert_int_equal(places.n, PACE_PLACES);
        assert_true(pace_usec(&p, pace_next(&places)) > 0);
        assert_true(pace_expected(&p, UINT64_MAX) > 0);
}

static void test_most_answers_are_shorter(void **state) {
        struct pace p = {};

        for (unsigned i = 0; i < 20; i++)
                pace_ended(&p, 1000, 100);
        assert_in_range(pace_expected(&p, 500), 45, 55);
        for (unsigned i = 0; i < 40; i++)
                pace_ended(&p, 1000, 1000);
        assert_in_range(pace_expected(&p, 500), 480, 500);
}

static void test_places(void **state) {
        struct pace_places p = {};

        assert_int_equal(pace_next(&p), 0);
        pace_place(&p, 30);
        pace_place(&p, 10);
        assert_int_equal(pace_next(&p), 20); /* both have done ten */
        pace_wait(&p, 40);
        assert_int_equal(pace_next(&p), 60); /* the thirty, each */
        pace_wait(&p, 100);
        assert_int_equal(pace_next(&p), 100);
}

static void test_a_waiting_job_changes_its_class(void **state) {
        struct admission a = {};
        struct admission_entry running = {}, e[3] = {};

        admission_enter(&a, &running, 1, false);
        assert_true(admission_ready(&a, &running, 1));
        for (unsigned i = 0; i < 3; i++) {
                admission_enter(&a, &e[i], 1, false);
                assert_false(admission_ready(&a, &e[i], 1));
        }
        admission_set_background(&a, &e[0], true);
        assert_int_equal(admission_position(&a, &e[0]), 3);
        assert_int_equal(admission_position(&a, &e[1]), 1);
        admission_set_background(&a, &e[2], true);
        assert_int_equal(admission_position(&a, &e[2]), 3); /* it came to this class later */
        admission_set_background(&a, &e[0], false);
        assert_int_equal(admission_position(&a, &e[0]), 2);
        admission_set_background(&a, &running, true);
        assert_int_equal(admission_position(&a, &running), 0);
        admission_leave(&a, &running);
        assert_ptr_equal(admission_next(&a, 1), &e[1]);
        for (unsigned i = 0; i < 3; i++)
                admission_leave(&a, &e[i]);
        assert_int_equal(admission_waiting(&a), 0);
}

/* A question goes past the twenty jobs of another client that wait, and each further one of it past
 * all but as many as it had before. */
static void test_clients_take_turns(void **state) {
        struct admission a = {};
        struct admission_entry first = {}, many[20] = {}, one[3] = {};
        uint32_t places[] = { 2, 4, 6 };

        admission_enter(&a, &first, 1, false);
        assert_true(admission_ready(&a, &first, 1));
        for (unsigned i = 0; i < 20; i++) {
                admission_enter(&a, &many[i], 1, false);
                assert_false(admission_ready(&a, &many[i], 1));
        }
        for (unsigned i = 0; i < 3; i++) {
                admission_enter(&a, &one[i], 2, false);
                assert_false(admission_ready(&a, &one[i], 1));
                assert_int_equal(admission_position(&a, &one[i]), places[i]);
        }
        admission_leave(&a, &first);
        for (unsigned i = 0; i < 23; i++) {
                struct admission_entry *e = admission_next(&a, 1);

                assert_ptr_equal(e, i >= 6     ? &many[i - 3]
                                    : i % 2 ? &one[i / 2]
                                            : &many[i / 2]);
                assert_null(admission_next(&a, 1));
                if (i == 10) { /* who comes late comes next */
                        admission_enter(&a, &first, 3, false);
                        assert_false(admission_ready(&a, &first, 1));
                        assert_in_range(admission_position(&a, &first), 1, 2);
                        admission_leave(&a, &first);
                }
                admission_leave(&a, e);
        }
        assert_int_equal(a.running + a.background + admission_waiting(&a), 0);
}

/* Those that pause do not keep interactive ones out, nor are they kept out for ever. */
static void test_background_beside_interactive(void **state) {
        struct admission a = {};
        struct admission_entry b[4] = {}, i[4] = {};

        for (unsigned k = 0; k < 3; k++) {
                admission_enter(&a, &b[k], 1, true);
                assert_int_equal(admission_ready(&a, &b[k], 2), k < 2);
        }
        for (unsigned k = 0; k < 3; k++) {
                admission_enter(&a, &i[k], 1, false);
                assert_int_equal(admission_ready(&a, &i[k], 2), k < 2);
        }
        assert_null(admission_next(&a, 2));
        admission_leave(&a, &b[0]);
        assert_null(admission_next(&a, 2)); /* one in the background still runs */
        admission_leave(&a, &b[1]);
        assert_ptr_equal(admission_next(&a, 2), &b[2]);
        admission_set_background(&a, &b[2], false);
        assert_int_equal(a.background, 0);
        admission_leave(&a, &i[0]);
        assert_null(admission_next(&a, 2)); /* b[2] is one of two now */
        admission_leave(&a, &b[2]);
        assert_ptr_equal(admission_next(&a, 2), &i[2]);
        for (unsigned k = 0; k < 3; k++)
                admission_leave(&a, &i[k]);
        assert_int_equal(a.running + a.background, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_is_known_at_first),
                cmocka_unit_test(test_rate),
                cmocka_unit_test(test_hostile_numbers),
                cmocka_unit_test(test_most_answers_are_shorter),
                cmocka_unit_test(test_places),
                cmocka_unit_test(test_a_waiting_job_changes_its_class),
                cmocka_unit_test(test_clients_take_turns),
                cmocka_unit_test(test_background_beside_interactive),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
