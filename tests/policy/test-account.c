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
#include "policy/quota_key.h"
#include "policy/start.h"

/* Everybody has the same. */
static void resolve(uid_t uid, struct limits *ret, void *userdata) {
        *ret = *(const struct limits *)userdata;
}

static void test_quota_is_exact_and_per_uid(void **state) {
        struct limits limits = limits_default();
        struct charge charges[64] = {}, other = {};
        struct accounts *accounts;
        struct account *a, *b;

        assert_int_equal(accounts_new(&accounts, resolve, &limits), 0);
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
        struct limits limits = limits_default();
        static struct charge charges[LIMIT_CONNECTIONS];
        struct account *held[LIMIT_ACCOUNTS], *one;
        struct charge extra = {};
        struct accounts *accounts;

        limits.v[QUOTA_MAX_CONNECTIONS] = 1;
        assert_int_equal(accounts_new(&accounts, resolve, &limits), 0);
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, i, &held[i]), 0);
                assert_int_equal(account_charge(held[i], CHARGE_CONNECTION, &charges[i]), 0);
        }
        assert_int_equal(accounts_get(accounts, 99999, &one), ACCOUNT_E_GLOBAL);
        limits.v[QUOTA_MAX_CONNECTIONS] = 2;
        assert_int_equal(account_charge(held[0], CHARGE_CONNECTION, &extra), ACCOUNT_E_QUOTA);
        accounts_resolve(accounts);
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
        struct limits limits = limits_default();
        struct charge charge = {};
        struct accounts *accounts;
        struct account *a, *same;

        assert_int_equal(accounts_new(&accounts, resolve, &limits), 0);
        assert_int_equal(accounts_get(accounts, 5, &a), 0);
        assert_int_equal(account_charge(a, CHARGE_OBJECT, &charge), 0);
        account_unref(a);
        assert_int_equal(accounts_get(accounts, 5, &same), 0);
        assert_ptr_equal(a, same);
        account_unref(same);
        charge_done(&charge);
        assert_null(accounts_find(accounts, 5));
        accounts_free(accounts);
}

static void own(uid_t uid, struct limits *ret, void *userdata) {
        *ret = limits_default();
        ret->v[QUOTA_MAX_SESSION_KV] = uid;
}

/* Amounts: exact, resizable, and what is held survives a lower limit. */
static void test_amounts_and_own_limits(void **state) {
        struct charge a = {}, b = {}, c = {};
        struct accounts *accounts;
        struct account *account;
        struct limits limits;

        assert_int_equal(accounts_new(&accounts, own, NULL), 0);
        accounts_limits(accounts, 77, &limits);
        assert_int_equal(limits.v[QUOTA_MAX_SESSION_KV], 77);
        assert_int_equal(accounts_get(accounts, 100, &account), 0);
        assert_int_equal(account_limit(account, CHARGE_SESSION_KV), 100);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 101, &a),
                         ACCOUNT_E_QUOTA);
        assert_null(a.account);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 60, &a), 0);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 40, &b), 0);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 1, &c),
                         ACCOUNT_E_QUOTA);
        assert_int_equal(charge_resize(&a, 61), ACCOUNT_E_QUOTA);
        assert_int_equal(charge_resize(&b, 0), 0);
        assert_int_equal(charge_resize(&a, 100), 0);
        assert_int_equal(charge_resize(&b, UINT64_MAX), ACCOUNT_E_QUOTA);
        assert_int_equal(account->used[CHARGE_SESSION_KV], 100);
        account->limits.v[QUOTA_MAX_SESSION_KV] = 10;
        assert_int_equal(charge_resize(&a, 101), ACCOUNT_E_QUOTA);
        assert_int_equal(charge_resize(&a, 50), 0);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 1, &c),
                         ACCOUNT_E_QUOTA);
        charge_done(&a);
        charge_done(&b);
        charge_done(&c);
        assert_int_equal(accounts_used(accounts, CHARGE_SESSION_KV), 0);
        account_unref(account);
        accounts_free(accounts);
}

static void test_crashed_uids_are_remembered_but_make_room(void **state) {
        struct limits limits = limits_default();
        struct accounts *accounts;
        struct account *a;

        assert_int_equal(accounts_new(&accounts, resolve, &limits), 0);
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
        struct limits limits = limits_default();
        struct start_rate rate = {};
        struct accounts *accounts;
        struct account *a;
        uint64_t now = 1000000000, expect[] = { 0, 100000, 200000, 400000, 800000, 1600000,
                                                3200000, 5000000, 5000000 };

        assert_int_equal(accounts_new(&accounts, resolve, &limits), 0);
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
                cmocka_unit_test(test_amounts_and_own_limits),
                cmocka_unit_test(test_crashed_uids_are_remembered_but_make_room),
                cmocka_unit_test(test_admission_order),
                cmocka_unit_test(test_starts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
