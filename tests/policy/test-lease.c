/* CPU leases under a clock of our own. A simulated domain computes whenever it holds a lease, for
 * as long as it has work, and gives the lease back when its time is over. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/lease.h"

enum { MS = 1000, THREADS = 2, MAX_DOMAINS = 4 };

struct sim_domain {
        struct lease_domain d;
        uint64_t until, seq;   /* the lease it holds; until 0 = none */
        bool has_work;
        bool deaf;             /* never gives a lease back */
        uint64_t computed;     /* microseconds */
};

struct sim {
        struct lease_scheduler s;
        struct sim_domain domains[MAX_DOMAINS];
        unsigned n;
        uint64_t now;
};

static void deliver(struct sim *m) {
        uint64_t usec, seq;
        struct lease_domain *d;

        while ((d = lease_next(&m->s, m->now, &usec, &seq))) {
                struct sim_domain *x = (struct sim_domain *)d;

                x->until = m->now + usec;
                x->seq = seq;
        }
}

static void want(struct sim *m, unsigned i, bool work) {
        m->domains[i].has_work = work;
        if (work)
                lease_used(&m->s, &m->domains[i].d, true, false, m->domains[i].seq, m->now);
        deliver(m);
}

static void give_back(struct sim *m, struct sim_domain *x) {
        x->until = 0;
        lease_used(&m->s, &x->d, x->has_work, true, x->seq, m->now);
        deliver(m);
}

/* One millisecond at a time, which is finer than any time in the rules. */
static void run(struct sim *m, uint64_t ms) {
        for (uint64_t t = 0; t < ms; t++) {
                m->now += MS;
                for (unsigned i = 0; i < m->n; i++)
                        if (m->domains[i].until > 0 && m->domains[i].has_work)
                                m->domains[i].computed += MS;
                for (unsigned i = 0; i < m->n; i++) {
                        struct sim_domain *x = &m->domains[i];

                        if (x->until > 0 && !x->deaf && (!x->has_work || m->now >= x->until))
                                give_back(m, x);
                }
                if (m->now >= lease_wakeup(&m->s))
                        deliver(m);
        }
}

static struct sim sim_new(unsigned n) {
        return (struct sim){ .s.threads = THREADS, .n = n, .now = 5000000 };
}

static void sim_add(struct sim *m) {
        for (unsigned i = 0; i < m->n; i++) {
                if (m->domains[i].d.weight == 0)
                        m->domains[i].d.weight = LEASE_WEIGHT;
                lease_add(&m->s, &m->domains[i].d);
        }
}

static void test_lone_user_never_waits(void **state) {
        struct sim m = sim_new(2);

        sim_add(&m);
        want(&m, 0, true);
        assert_true(m.domains[0].until > 0); /* at once */
        for (unsigned i = 0; i < 3000; i++) {
                run(&m, 1);
                assert_true(m.domains[0].until > m.now);
        }
        assert_int_equal(m.domains[0].computed, 3000 * MS);
        assert_int_equal(m.domains[0].d.overruns, 0);
}

static void test_two_share_equally(void **state) {
        struct sim m = sim_new(2);
        uint64_t a, b;

        sim_add(&m);
        want(&m, 0, true);
        want(&m, 1, true);
        run(&m, 10000);
        a = m.domains[0].computed;
        b = m.domains[1].computed;
        assert_in_range(a > b ? a - b : b - a, 0, LEASE_SLICE_USEC);
        assert_in_range(a + b, 9900 * MS, 10000 * MS);
        /* charged = measured time times threads */
        assert_in_range(m.domains[0].d.charged, a * THREADS,
                        (a + LEASE_SLICE_USEC) * THREADS);
}

static void test_weights_share(void **state) {
        struct sim m = sim_new(3);
        uint64_t total = 0;

        m.domains[0].d.weight = 50;
        m.domains[1].d.weight = 150;
        m.domains[2].d.weight = 300;
        sim_add(&m);
        for (unsigned i = 0; i < 3; i++)
                want(&m, i, true);
        run(&m, 20000);
        for (unsigned i = 0; i < 3; i++)
                total += m.domains[i].computed;
        for (unsigned i = 0; i < 3; i++)
                assert_in_range(m.domains[i].computed,
                                total * m.domains[i].d.weight / 500 - LEASE_SLICE_USEC,
                                total * m.domains[i].d.weight / 500 + LEASE_SLICE_USEC);
        /* A new weight counts from now on. */
        lease_set_weight(&m.s, &m.domains[0].d, 300, m.now);
        lease_set_weight(&m.s, &m.domains[1].d, 300, m.now);
        for (unsigned i = 0; i < 3; i++)
                m.domains[i].computed = 0;
        run(&m, 9000);
        for (unsigned i = 0; i < 3; i++)
                assert_in_range(m.domains[i].computed, 3000 * MS - 2 * LEASE_SLICE_USEC,
                                3000 * MS + 2 * LEASE_SLICE_USEC);
}

/* Many charges of odd length: nothing is lost in the division. */
static void test_weighted_counters_are_exact(void **state) {
        struct lease_scheduler s = { .threads = 3 };
        struct lease_domain d = { .weight = 7 };
        uint64_t now = 1000, usec, seq;

        lease_add(&s, &d);
        for (unsigned i = 1; i <= 5000; i++) {
                lease_used(&s, &d, true, false, d.seq, now);
                assert_ptr_equal(lease_next(&s, now, &usec, &seq), &d);
                now += i % 97 + 1;
                lease_used(&s, &d, false, true, d.seq, now);
                assert_int_equal(d.counter * d.weight + d.remainder, d.charged * LEASE_WEIGHT);
        }
        assert_int_equal(d.charged % 3, 0);
        assert_true(d.charged > 5000 * 3);
}

static void test_waiting_is_short(void **state) {
        struct sim m = sim_new(2);
        uint64_t waited = 0;

        sim_add(&m);
        want(&m, 0, true);
        run(&m, 1000);
        want(&m, 1, true);
        while (m.domains[1].until == 0) {
                run(&m, 1);
                waited++;
        }
        assert_in_range(waited, 0, LEASE_SLICE_USEC / MS);
}

/* One that pauses often gets its turn soon after each pause, but no more than its share. */
static void test_lift_rule(void **state) {
        struct sim m = sim_new(2);
        uint64_t before;

        sim_add(&m);
        want(&m, 0, true);
        run(&m, 20000);
        assert_int_equal(m.domains[1].d.counter, 0);
        want(&m, 1, true);
        /* Idleness was no savings account, but for a slice. */
        assert_true(m.domains[1].d.counter >= m.domains[0].d.counter - LEASE_SLICE_USEC * THREADS);
        before = m.domains[0].computed;
        run(&m, 4000);
        assert_in_range(m.domains[0].computed - before, 1900 * MS, 2100 * MS);
}

static void test_lift_after_all_were_idle(void **state) {
        struct sim m = sim_new(2);

        sim_add(&m);
        want(&m, 0, true);
        run(&m, 5000);
        want(&m, 0, false);
        run(&m, 500);
        want(&m, 1, true);
        run(&m, 10);
        want(&m, 0, true);
        run(&m, 2000);
        assert_in_range(m.domains[0].computed, 5900 * MS, 6150 * MS);
}

/* Question after question, with a moment between: very nearly half, whatever their length. */
static void test_one_at_a_time_gets_half(void **state) {
        for (unsigned ms = 100; ms <= 1600; ms += 130) {
                struct sim m = sim_new(2);

                sim_add(&m);
                want(&m, 0, true);
                run(&m, 1000);
                m.domains[0].computed = 0;
                for (uint64_t end = m.now + 60000 * MS; m.now < end;) {
                        uint64_t done = m.domains[1].computed + ms * MS;

                        want(&m, 1, true);
                        while (m.domains[1].computed < done)
                                run(&m, 1);
                        want(&m, 1, false);
                        run(&m, 5);
                }
                assert_in_range(m.domains[1].computed * 1000 /
                                        (m.domains[0].computed + m.domains[1].computed),
                                450, 510);
        }
}

/* Who comes after a pause is next, before those who compute all the time, whoever of them it finds
 * computing and wherever it stands in the list: that is what the slice of credit is for. */
static void test_question_is_next(void **state) {
        for (uint64_t at = 1050; at <= 1150; at += 100)
                for (unsigned asking = 0; asking < 3; asking++) {
                        struct sim m = sim_new(3);

                        sim_add(&m);
                        for (unsigned i = 0; i < m.n; i++)
                                if (i != asking)
                                        want(&m, i, true);
                        run(&m, at); /* in the middle of a slice */
                        want(&m, asking, true);
                        run(&m, 55);
                        assert_true(m.domains[asking].until > 0);
                        run(&m, 1000);
                        assert_in_range(m.domains[asking].computed, 300 * MS, 550 * MS);
                }
}

/* Questions shorter than a slice, one after the other: who asks them has half of the time, too. */
static void test_short_questions(void **state) {
        struct sim m = sim_new(2);
        uint64_t total, asked = 0;

        sim_add(&m);
        want(&m, 0, true);
        while (m.now < 65000 * MS) {
                want(&m, 1, true);
                for (asked += 40 * MS; m.domains[1].computed < asked;)
                        run(&m, 1);
                want(&m, 1, false);
                run(&m, 5);
        }
        total = m.domains[0].computed + m.domains[1].computed;
        assert_in_range(m.domains[1].computed * 1000 / total, 480, 520);
        assert_int_equal(m.domains[0].d.overruns + m.domains[1].d.overruns, 0);
}

/* A question of up to nine slices is answered before the background goes on. */
static void test_question_before_the_background(void **state) {
        struct sim m = sim_new(2);

        m.domains[1].d.class = LEASE_BACKGROUND;
        sim_add(&m);
        want(&m, 1, true);
        run(&m, 2000);
        want(&m, 0, true);
        run(&m, 805);
        assert_in_range(m.domains[0].computed, 800 * MS, 805 * MS);
        run(&m, 1000);
        assert_in_range(m.domains[1].computed, 2080 * MS, 2210 * MS);
}

/* Interactive work that comes does not wait for the end of a background lease, and the background
 * keeps its tenth when that happens again and again. */
static void test_background_is_cut_short(void **state) {
        struct sim m = sim_new(2);
        uint64_t total;

        m.domains[1].d.class = LEASE_BACKGROUND;
        sim_add(&m);
        want(&m, 1, true);
        run(&m, 1030);
        want(&m, 0, true);
        run(&m, 1);
        assert_true(m.domains[0].until > 0); /* the simulated step ends at once */
        m.domains[0].computed = m.domains[1].computed = 0;
        for (unsigned i = 0; i < 300; i++) {
                want(&m, 0, true);
                run(&m, 95);
                want(&m, 0, false);
                run(&m, 1);
        }
        total = m.domains[0].computed + m.domains[1].computed;
        assert_in_range(m.domains[1].computed * 1000 / total, 60, 130);
        assert_int_equal(m.domains[0].d.overruns + m.domains[1].d.overruns, 0);
}

static void test_background_has_a_tenth(void **state) {
        struct sim m = sim_new(2);
        uint64_t total;

        m.domains[1].d.class = LEASE_BACKGROUND;
        sim_add(&m);
        want(&m, 0, true);
        want(&m, 1, true);
        run(&m, 30000);
        total = m.domains[0].computed + m.domains[1].computed;
        assert_in_range(m.domains[1].computed * 1000 / total, 90, 110);
        want(&m, 0, false);
        run(&m, 100);
        m.domains[1].computed = 0;
        run(&m, 1000);
        assert_int_equal(m.domains[1].computed, 1000 * MS); /* alone it has everything */
}

static void test_overrun_is_taken_back(void **state) {
        struct sim m = sim_new(2);
        uint64_t start;

        m.domains[0].deaf = true;
        sim_add(&m);
        want(&m, 0, true);
        run(&m, 10);
        want(&m, 1, true);
        start = m.now;
        while (m.domains[1].until == 0)
                run(&m, 1);
        assert_in_range(m.now - start, 0, LEASE_SLICE_USEC + LEASE_GRACE_USEC + MS);
        assert_int_equal(m.domains[0].d.overruns, 1);
        assert_true(m.domains[0].d.charged >= LEASE_SLICE_USEC * THREADS);
}

/* A lease that is not given back: no other one before the answer, the others share the CPU, and
 * after the last measure the domain is to be ended. */
static void test_overdue_is_ended(void **state) {
        struct sim m = sim_new(2);
        uint64_t granted;

        m.domains[0].deaf = true;
        sim_add(&m);
        want(&m, 0, true);
        want(&m, 1, true);
        run(&m, (LEASE_SLICE_USEC + LEASE_GRACE_USEC) / MS + 1);
        assert_ptr_equal(m.s.overran, &m.domains[0].d);
        granted = m.domains[0].seq;
        run(&m, (LEASE_OVERDUE_USEC - LEASE_GRACE_USEC) / MS - 10);
        assert_int_equal(m.domains[0].seq, granted);
        assert_null(lease_offender(&m.s, m.now));
        assert_true(lease_wakeup(&m.s) <= m.now + LEASE_SLICE_USEC);
        want(&m, 1, false);
        give_back(&m, &m.domains[1]);
        assert_in_range(lease_wakeup(&m.s), m.now, m.now + 20 * MS);
        run(&m, 20);
        assert_ptr_equal(lease_offender(&m.s, m.now), &m.domains[0].d);
        assert_null(lease_offender(&m.s, m.now)); /* removed */
        assert_null(m.s.overran);
}

static void be_late(struct sim *m, uint64_t usec) {
        want(m, 0, true);
        want(m, 1, true);
        while (m->domains[0].until == 0)
                run(m, 1);
        m->domains[0].deaf = true;
        run(m, (LEASE_SLICE_USEC + usec) / MS);
        m->domains[0].deaf = false;
        give_back(m, &m->domains[0]);
}

/* Late by some steps is forgiven for ever, late by a second only if the next return is not. */
static void test_strikes(void **state) {
        struct sim m = sim_new(2);

        sim_add(&m);
        for (unsigned i = 0; i < 20; i++)
                be_late(&m, LEASE_STRIKE_USEC / 2);
        assert_int_equal(m.domains[0].d.overruns, 20);
        assert_null(lease_offender(&m.s, m.now));
        be_late(&m, LEASE_STRIKE_USEC);
        be_late(&m, LEASE_STRIKE_USEC);
        assert_int_equal(m.domains[0].d.strikes, 2);
        be_late(&m, LEASE_GRACE_USEC / 2);
        assert_int_equal(m.domains[0].d.strikes, 0);
        for (unsigned i = 0; i < LEASE_STRIKES; i++) {
                assert_null(lease_offender(&m.s, m.now));
                be_late(&m, LEASE_STRIKE_USEC);
        }
        assert_ptr_equal(lease_offender(&m.s, m.now), &m.domains[0].d);
}

static void test_stale_returns(void **state) {
        struct sim m = sim_new(2);
        uint64_t old;

        sim_add(&m);
        want(&m, 0, true);
        old = m.domains[0].seq;
        run(&m, 70); /* renewed meanwhile */
        assert_true(m.domains[0].seq > old);
        lease_used(&m.s, &m.domains[0].d, true, true, old, m.now);
        assert_ptr_equal(m.s.holder, &m.domains[0].d);
        /* Not the holder. */
        lease_used(&m.s, &m.domains[1].d, false, true, m.domains[0].seq, m.now);
        assert_ptr_equal(m.s.holder, &m.domains[0].d);
        lease_used(&m.s, &m.domains[0].d, false, true, old, m.now); /* wants nothing: over */
        assert_null(m.s.holder);
        assert_int_equal(lease_wakeup(&m.s), UINT64_MAX);
}

static void test_removed_holder(void **state) {
        struct sim m = sim_new(2);

        sim_add(&m);
        want(&m, 0, true);
        want(&m, 1, true);
        run(&m, 30);
        lease_remove(&m.s, &m.domains[0].d, m.now);
        lease_remove(&m.s, &m.domains[0].d, m.now);
        deliver(&m);
        assert_ptr_equal(m.s.holder, &m.domains[1].d);
        assert_int_equal(m.domains[0].d.charged, 30 * MS * THREADS);
        lease_remove(&m.s, &m.domains[1].d, m.now);
        deliver(&m);
        assert_null(m.s.holder);
}

static void test_four_share_whatever_they_do(void **state) {
        struct sim m = sim_new(4);

        sim_add(&m);
        for (unsigned i = 0; i < 4; i++)
                want(&m, i, true);
        for (unsigned round = 0; round < 400; round++) {
                /* domain 3 asks again and again, which must not help it */
                for (unsigned k = 0; k < 50; k++)
                        lease_used(&m.s, &m.domains[3].d, true, false, 0, m.now);
                run(&m, 50);
        }
        for (unsigned i = 0; i < 4; i++)
                assert_in_range(m.domains[i].computed, 4800 * MS, 5200 * MS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lone_user_never_waits),
                cmocka_unit_test(test_two_share_equally),
                cmocka_unit_test(test_weights_share),
                cmocka_unit_test(test_weighted_counters_are_exact),
                cmocka_unit_test(test_waiting_is_short),
                cmocka_unit_test(test_lift_rule),
                cmocka_unit_test(test_lift_after_all_were_idle),
                cmocka_unit_test(test_one_at_a_time_gets_half),
                cmocka_unit_test(test_question_is_next),
                cmocka_unit_test(test_short_questions),
                cmocka_unit_test(test_question_before_the_background),
                cmocka_unit_test(test_background_is_cut_short),
                cmocka_unit_test(test_background_has_a_tenth),
                cmocka_unit_test(test_overrun_is_taken_back),
                cmocka_unit_test(test_overdue_is_ended),
                cmocka_unit_test(test_strikes),
                cmocka_unit_test(test_stale_returns),
                cmocka_unit_test(test_removed_holder),
                cmocka_unit_test(test_four_share_whatever_they_do),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
