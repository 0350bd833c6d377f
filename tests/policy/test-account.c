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

#define ID(number) (&(struct account_id){ .uid = (number) })

/* Everybody has the same. */
struct world {
        struct limits limits;
        struct quota_clock now;
        unsigned changes;
};

static void resolve(const struct account_id *id, struct limits *ret, void *userdata) {
        const struct world *w = userdata;

        *ret = w->limits;
}

static struct quota_clock now(void *userdata) {
        const struct world *w = userdata;

        return w->now;
}

static void changed(void *userdata) {
        struct world *w = userdata;

        w->changes++;
}

static struct world world_new(void) {
        return (struct world){ .limits = limits_default(),
                               .now = { 5000000, 20000 * QUOTA_DAY_USEC + 1000000 } };
}

static struct accounts *accounts_of(struct world *w) {
        struct accounts_settings settings = { .resolve = resolve, .now = now, .changed = changed,
                                              .userdata = w };
        struct accounts *accounts;

        assert_int_equal(accounts_new(&accounts, &settings), 0);
        return accounts;
}

static void test_quota_is_exact_and_per_uid(void **state) {
        struct world w = world_new();
        struct charge charges[64] = {}, other = {};
        struct accounts *accounts = accounts_of(&w);
        struct account *a, *b;

        assert_int_equal(accounts_get(accounts, ID(1000), &a), 0);
        assert_int_equal(accounts_get(accounts, ID(1001), &b), 0);
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
        assert_null(accounts_find(accounts, ID(1000)));
        accounts_free(accounts);
}

static void test_global_caps(void **state) {
        struct world w = world_new();
        static struct charge charges[LIMIT_CONNECTIONS];
        struct account *held[LIMIT_ACCOUNTS], *one;
        struct charge extra = {};
        struct accounts *accounts = accounts_of(&w);

        w.limits.v[QUOTA_MAX_CONNECTIONS] = 1;
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, ID(i), &held[i]), 0);
                assert_int_equal(account_charge(held[i], CHARGE_CONNECTION, &charges[i]), 0);
        }
        assert_int_equal(accounts_get(accounts, ID(99999), &one), ACCOUNT_E_GLOBAL);
        w.limits.v[QUOTA_MAX_CONNECTIONS] = 2;
        assert_int_equal(account_charge(held[0], CHARGE_CONNECTION, &extra), ACCOUNT_E_QUOTA);
        accounts_resolve(accounts);
        assert_int_equal(account_charge(held[0], CHARGE_CONNECTION, &extra), ACCOUNT_E_GLOBAL);
        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                charge_done(&charges[i]);
                account_unref(held[i]);
        }
        assert_int_equal(accounts_get(accounts, ID(99999), &one), 0);
        account_unref(one);
        accounts_free(accounts);
}

static void test_charge_keeps_the_account(void **state) {
        struct world w = world_new();
        struct charge charge = {};
        struct accounts *accounts = accounts_of(&w);
        struct account *a, *same;

        assert_int_equal(accounts_get(accounts, ID(5), &a), 0);
        assert_int_equal(account_charge(a, CHARGE_OBJECT, &charge), 0);
        account_unref(a);
        assert_int_equal(accounts_get(accounts, ID(5), &same), 0);
        assert_ptr_equal(a, same);
        account_unref(same);
        charge_done(&charge);
        assert_null(accounts_find(accounts, ID(5)));
        accounts_free(accounts);
}

/* Amounts: exact, resizable, and what is held survives a lower limit. */
static void test_amounts_and_own_limits(void **state) {
        struct charge a = {}, b = {}, c = {};
        struct world w = world_new();
        struct accounts *accounts = accounts_of(&w);
        struct account *account;
        struct limits limits;

        w.limits.v[QUOTA_MAX_SESSION_KV] = 100;
        accounts_limits(accounts, ID(77), &limits);
        assert_int_equal(limits.v[QUOTA_MAX_SESSION_KV], 100);
        assert_int_equal(accounts_get(accounts, ID(100), &account), 0);
        assert_int_equal(account_limit(account, CHARGE_SESSION_KV), 100);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 101, &a),
                         ACCOUNT_E_QUOTA);
        assert_null(a.account);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 60, &a), 0);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 40, &b), 0);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 1, &c),
                         ACCOUNT_E_QUOTA);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, UINT64_MAX, &c),
                         ACCOUNT_E_QUOTA);
        assert_int_equal(account->used[CHARGE_SESSION_KV], 100);
        account->limits.v[QUOTA_MAX_SESSION_KV] = 10; /* what is held may be over it */
        charge_done(&b);
        assert_int_equal(account->used[CHARGE_SESSION_KV], 60);
        assert_int_equal(account_charge_amount(account, CHARGE_SESSION_KV, 1, &c),
                         ACCOUNT_E_QUOTA);
        charge_done(&a);
        charge_done(&b);
        charge_done(&c);
        assert_int_equal(accounts_used(accounts, CHARGE_SESSION_KV), 0);
        account_unref(account);
        accounts_free(accounts);
}

/* An account is kept as long as something of it counts, and no longer. */
static void test_what_is_remembered(void **state) {
        struct world w = world_new();
        struct accounts *accounts = accounts_of(&w);
        struct account_record records[4];
        struct reservation r = {};
        struct refusal refusal;
        struct account *a;

        assert_int_equal(accounts_get(accounts, ID(7), &a), 0);
        assert_true(account_request(a, &refusal));
        account_unref(a);
        assert_non_null(accounts_find(accounts, ID(7))); /* a request of the minute is used */
        w.now.monotonic += 60000000;
        assert_int_equal(accounts_get(accounts, ID(8), &a), 0);
        account_unref(a);
        assert_null(accounts_find(accounts, ID(7)));
        assert_null(accounts_find(accounts, ID(8)));

        assert_int_equal(accounts_get(accounts, ID(7), &a), 0);
        assert_true(account_reserve(a, 100, &r, &refusal));
        assert_int_equal(accounts_save(accounts, records, 4), 0); /* reserved is not used */
        account_settle(a, &r, 60);
        account_add_cpu(a, 1500);
        assert_int_equal(w.changes, 2);
        account_unref(a);
        assert_int_equal(accounts_save(accounts, records, 4), 1);
        accounts_free(accounts);

        accounts = accounts_of(&w);
        records[1] = (struct account_record){ .uid = 9, .day = 19999, .tokens = 5 };
        assert_int_equal(accounts_restore(accounts, records, 2), 0);
        assert_null(accounts_find(accounts, ID(9))); /* of yesterday */
        a = accounts_find(accounts, ID(7));
        assert_non_null(a);
        assert_int_equal(a->quota.tokens_used, 60);
        assert_int_equal(a->quota.cpu_used, 1500);
        w.now.realtime += QUOTA_DAY_USEC;
        assert_int_equal(accounts_save(accounts, records, 4), 0);
        accounts_free(accounts);
}

/* One uid in two slices is two accounts, also after a restart. */
static void test_slices_are_accounts(void **state) {
        const struct account_id none = { .uid = 7 }, user = { 7, "user.slice" },
                                inner = { 7, "user-7.slice" };
        struct world w = world_new();
        struct accounts *accounts = accounts_of(&w);
        struct account_record records[4];
        struct charge charge = {};
        struct account *a, *b;

        assert_int_equal(accounts_get(accounts, &user, &a), 0);
        assert_null(accounts_find(accounts, &none));
        assert_null(accounts_find(accounts, &inner));
        assert_int_equal(accounts_get(accounts, &inner, &b), 0);
        assert_ptr_not_equal(a, b);
        assert_int_equal(account_charge(a, CHARGE_JOB, &charge), 0);
        assert_int_equal(b->used[CHARGE_JOB], 0);
        charge_done(&charge);
        account_add_cpu(a, 11);
        account_add_cpu(b, 22);
        account_unref(a);
        account_unref(b);
        assert_int_equal(accounts_save(accounts, records, 4), 2);
        accounts_free(accounts);

        accounts = accounts_of(&w);
        records[2] = records[3] = records[0];
        memset(records[2].slice, 'a', sizeof(records[2].slice)); /* without an end */
        strcpy(records[3].slice, "../x");
        assert_int_equal(accounts_restore(accounts, records, 4), 0);
        assert_int_equal(accounts_find(accounts, &user)->quota.cpu_used, 11);
        assert_int_equal(accounts_find(accounts, &inner)->quota.cpu_used, 22);
        assert_int_equal(accounts_save(accounts, records, 4), 2);
        accounts_free(accounts);
}

/* Whoever could make others forget what he used would have no limit. */
static void test_the_least_busy_make_room(void **state) {
        struct world w = world_new();
        struct accounts *accounts = accounts_of(&w);
        struct account *a;

        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, ID(i), &a), 0);
                account_add_cpu(a, 1000 + i);
                account_unref(a);
        }
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(accounts_get(accounts, ID(10000 + i), &a), 0);
                account_add_cpu(a, 5000);
                account_unref(a);
                assert_null(accounts_find(accounts, ID(i)));
                assert_non_null(accounts_find(accounts, ID(i + 1)));
        }
        accounts_free(accounts);
}

static void test_crashed_uids_are_remembered_but_make_room(void **state) {
        struct world w = world_new();
        struct accounts *accounts = accounts_of(&w);
        struct account *a;

        for (unsigned i = 0; i < LIMIT_ACCOUNTS; i++) {
                assert_int_equal(accounts_get(accounts, ID(i), &a), 0);
                start_crashed(a, 1000, 1);
                account_unref(a);
        }
        assert_non_null(accounts_find(accounts, ID(7)));
        assert_int_equal(accounts_get(accounts, ID(70000), &a), 0);
        account_unref(a);
        accounts_free(accounts);
}

static void test_admission_order(void **state) {
        struct admission q = {};
        struct admission_entry e[7] = {};

        for (unsigned i = 0; i < 7; i++)
                admission_enter(&q, &e[i], 1, i == 2 || i == 6);
        assert_true(admission_ready(&q, &e[6], 2)); /* background, like the third */
        assert_true(admission_ready(&q, &e[0], 2));
        assert_true(admission_ready(&q, &e[1], 2));
        assert_false(admission_ready(&q, &e[2], 2));
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
        assert_null(admission_next(&q, 2));
        admission_leave(&q, &e[6]);
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
        struct world w = world_new();
        struct start_rate rate = {};
        struct accounts *accounts = accounts_of(&w);
        struct account *a;
        uint64_t time = 1000000000, expect[] = { 0, 100000, 200000, 400000, 800000, 1600000,
                                                3200000, 5000000, 5000000 };

        assert_int_equal(accounts_get(accounts, ID(5), &a), 0);
        for (unsigned i = 0; i < START_BURST; i++)
                assert_int_equal(start_book(&rate, a, time), time);
        assert_int_equal(start_book(&rate, a, time), time + START_INTERVAL_USEC);
        assert_int_equal(start_book(&rate, a, time), time + 2 * START_INTERVAL_USEC);
        time += 100 * START_INTERVAL_USEC;
        assert_int_equal(start_book(&rate, a, time), time);

        for (size_t i = 0; i < ARRAY_SIZE(expect); i++) {
                start_crashed(a, time, 10);
                assert_int_equal(a->not_before_usec, time + expect[i]);
        }
        assert_int_equal(start_book(&rate, a, time), time + 5000000);
        start_crashed(a, time, START_FORGIVE_USEC);
        assert_int_equal(a->not_before_usec, time);
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
                cmocka_unit_test(test_what_is_remembered),
                cmocka_unit_test(test_slices_are_accounts),
                cmocka_unit_test(test_the_least_busy_make_room),
                cmocka_unit_test(test_crashed_uids_are_remembered_but_make_room),
                cmocka_unit_test(test_admission_order),
                cmocka_unit_test(test_starts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
