/* Charges, admission and the rate of starts, in exact numbers. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/account.h"
#include "policy/admission.h"
#include "policy/start.h"

static void test_quota_is_exact_and_per_uid(void **state) {
        struct limits limits = LIMITS_DEFAULT;
        struct charge charges[64] = {}, other = {};
        struct accounts *accounts;
        struct account *a, *b;

        assert_int_equal(accounts_new(&accounts, &limits), 0);
        assert_int_equal(accounts_get(accounts, 1000, &a), 0);
        assert_int_equal(accounts_get(accounts, 1001, &b), 0);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(account_charge(a, CHARGE_JOB, &charges[i]), 0);
        assert_int_equal(account_charge(a, CHARGE_JOB, &charges[20]), ACCOUNT_E_QUOTA);
        assert_null(charges[20].account);
        assert_int_equal(account_charge(b, CHARGE_JOB, &other), 0);
        assert_int_equal(a->used[CHARGE_JOB], 20);
        assert_int_equal(accounts_used(accounts, CHARGE_JOB), 21);

        charge_done(&charges[3]);
        charge_done(&charges[3]); /* nothing is charged any more */
        assert_int_equal(a->used[CHARGE_JOB], 19);
        assert_int_equal(account_charge(a, CHARGE_JOB, &charges[3]), 0);
        assert_int_equal(account_charge(a, CHARGE_JOB, &charges[20]), ACCOUNT_E_QUOTA);

        for (unsigned i = 0; i < 20; i++)
                charge_done(&charges[i]);
        charge_done(&other);
        account_unref(a);
        account_unref(b);
        assert_null(accounts_find(accounts, 1000));
        accounts_free(accounts);
}

static void test_global_caps(void **state) {
        struct limits limits = LIMITS_DEFAULT;
        static struct charge charges[LIMIT_CONNECTIONS];
        struct account *held[LIMIT_ACCOUNTS], *one;
        struct charge extra = {};
        struct accounts *accounts;

        limits.max_connections = 1;
        assert_int_equal(accounts_new(&accounts, &limits), 0);
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, i, &held[i]), 0);
                assert_int_equal(account_charge(held[i], CHARGE_CONNECTION, &charges[i]), 0);
        }
        assert_int_equal(accounts_get(accounts, 99999, &one), ACCOUNT_E_GLOBAL);
        limits.max_connections = 2;
        accounts_set_limits(accounts, &limits);
        assert_int_equal(account_charge(held[0], CHARGE_CONNECTION, &extra), ACCOUNT_E_GLOBAL);
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                charge_done(&charges[i]);
                account_unref(held[i]);
        }
        assert_int_equal(accounts_get(accounts, 99999, &one), 0);
        account_unref(one);
        accounts_free(accounts);
}

static void test_charge_keeps_the_account(void **state) {
        struct limits limits = LIMITS_DEFAULT;
        struct charge charge = {};
        struct accounts *accounts;
        struct account *a, *same;

        assert_int_equal(accounts_new(&accounts, &limits), 0);
        assert_int_equal(accounts_get(accounts, 5, &a), 0);
        assert_int_equal(account_charge(a, CHARGE_WAITER, &charge), 0);
        account_unref(a);
        assert_int_equal(accounts_get(accounts, 5, &same), 0);
        assert_ptr_equal(a, same);
        account_unref(same);
        charge_done(&charge);
        assert_null(accounts_find(accounts, 5));
        accounts_free(accounts);
}

static void test_crashed_uids_are_remembered_but_make_room(void **state) {
        struct limits limits = LIMITS_DEFAULT;
        struct accounts *accounts;
        struct account *a;

        assert_int_equal(accounts_new(&accounts, &limits), 0);
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, i, &a), 0);
                start_crashed(a, 1000, 1);
                account_unref(a);
        }
        assert_non_null(accounts_find(accounts, 7));
        assert_int_equal(accounts_get(accounts, 70000, &a), 0);
        account_unref(a);
        accounts_free(accounts);
}

static void test_admission_order(void **state) {
        struct admission q = {};
        struct admission_entry e[6] = {};

        for (unsigned i = 0; i < 6; i++)
                admission_enter(&q, &e[i], i == 2);
        assert_true(admission_ready(&q, &e[0], 2));
        assert_true(admission_ready(&q, &e[1], 2));
        assert_false(admission_ready(&q, &e[2], 2)); /* background */
        assert_false(admission_ready(&q, &e[3], 2));
        assert_false(admission_ready(&q, &e[4], 2));
        assert_int_equal(admission_position(&q, &e[0]), 0);
        assert_int_equal(admission_position(&q, &e[3]), 1);
        assert_int_equal(admission_position(&q, &e[4]), 2);
        assert_int_equal(admission_position(&q, &e[2]), 3);
        assert_int_equal(admission_position(&q, &e[5]), 4); /* still reading */
        assert_null(admission_next(&q, 2));

        admission_leave(&q, &e[0]);
        assert_ptr_equal(admission_next(&q, 2), &e[3]);
        assert_null(admission_next(&q, 2));
        admission_leave(&q, &e[4]); /* cancelled while waiting */
        admission_leave(&q, &e[1]);
        assert_ptr_equal(admission_next(&q, 2), &e[2]);
        admission_leave(&q, &e[5]);
        admission_leave(&q, &e[2]);
        admission_leave(&q, &e[3]);
        admission_leave(&q, &e[3]); /* twice is harmless */
        assert_int_equal(q.running, 0);
        assert_int_equal(q.entered, 0);
        assert_null(q.waiting);
}

static void test_starts(void **state) {
        struct limits limits = LIMITS_DEFAULT;
        struct start_rate rate = {};
        struct accounts *accounts;
        struct account *a;
        uint64_t now = 1000000000, expect[] = { 0, 100000, 200000, 400000, 800000, 1600000,
                                                3200000, 5000000, 5000000 };

        assert_int_equal(accounts_new(&accounts, &limits), 0);
        assert_int_equal(accounts_get(accounts, 5, &a), 0);
        for (unsigned i = 0; i < START_BURST; i++)
                assert_int_equal(start_book(&rate, a, now), now);
        assert_int_equal(start_book(&rate, a, now), now + START_INTERVAL_USEC);
        assert_int_equal(start_book(&rate, a, now), now + 2 * START_INTERVAL_USEC);
        now += 100 * START_INTERVAL_USEC;
        assert_int_equal(start_book(&rate, a, now), now);

        for (size_t i = 0; i < ARRAY_SIZE(expect); i++) {
                start_crashed(a, now, 10);
                assert_int_equal(a->not_before_usec, now + expect[i]);
        }
        assert_int_equal(start_book(&rate, a, now), now + 5000000);
        start_crashed(a, now, START_FORGIVE_USEC);
        assert_int_equal(a->not_before_usec, now);
        start_ended_well(a);
        assert_int_equal(a->crashes, 0);
        account_unref(a);
        accounts_free(accounts);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_quota_is_exact_and_per_uid),
                cmocka_unit_test(test_global_caps),
                cmocka_unit_test(test_charge_keeps_the_account),
                cmocka_unit_test(test_crashed_uids_are_remembered_but_make_room),
                cmocka_unit_test(test_admission_order),
                cmocka_unit_test(test_starts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
