/* Turns of users, clients and jobs under costs of our own: shares to the unit, whatever the others
 * do. A simulated job wants while `left` > 0; each turn costs what the test says. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/turns.h"

enum { MAX_JOBS = 64, FOREVER = 1 << 30 };

struct sim_job {
        struct turn *turn;
        enum turn_class class;
        uint32_t left;
        uint64_t served, turns;
};

struct sim {
        struct turns t;
        struct sim_job jobs[MAX_JOBS];
        size_t n;
        uint32_t random;
};

static struct sim_job *add(struct sim *m, enum turn_class class, uint64_t user, uint64_t client,
                           uint64_t job) {
        const uint64_t keys[] = { user, client, job };
        struct sim_job *j = &m->jobs[m->n++];

        j->class = class;
        j->left = FOREVER;
        assert_int_equal(turns_enter(&m->t, class, keys, &j->turn), 0);
        return j;
}

static void leave(struct sim_job *j) {
        turns_leave(j->turn);
        j->turn = NULL;
        j->left = 0;
}

static void all_leave(struct sim *m) {
        for (size_t i = 0; i < m->n; i++)
                leave(&m->jobs[i]);
        assert_null(m->t.class[TURN_INTERACTIVE].first);
        assert_null(m->t.class[TURN_BACKGROUND].first);
        assert_int_equal(m->t.class[TURN_INTERACTIVE].users, 0);
}

static void look(struct sim *m) {
        turns_look(&m->t);
        for (size_t i = 0; i < m->n; i++)
                if (m->jobs[i].left > 0)
                        turn_wants(m->jobs[i].turn);
        turns_looked(&m->t);
}

static struct sim_job *next(struct sim *m) {
        struct sim_job *best = NULL;
        enum turn_class class;

        look(m);
        if (!turns_next_class(&m->t, &class))
                return NULL;
        for (size_t i = 0; i < m->n; i++) {
                struct sim_job *j = &m->jobs[i];

                if (j->left > 0 && j->class == class &&
                    (!best || turn_before(j->turn, best->turn)))
                        best = j;
        }
        assert_non_null(best);
        return best;
}

static struct sim_job *serve(struct sim *m, uint64_t cost) {
        struct sim_job *j = next(m);

        if (j) {
                turns_charge(&m->t, j->turn, cost);
                j->served += cost;
                j->turns++;
                j->left--;
        }
        return j;
}

static uint64_t draw(struct sim *m, uint64_t most) {
        m->random = m->random * 1664525 + 1013904223;
        return 1 + (m->random >> 8) % most;
}

static void background_has_a_tenth(void **state) {
        struct sim m = {0};
        struct sim_job *i = add(&m, TURN_INTERACTIVE, 1, 1, 1);
        struct sim_job *b = add(&m, TURN_BACKGROUND, 1, 1, 2);

        assert_ptr_equal(serve(&m, 1), i);
        for (unsigned k = 1; k < 10000; k++)
                serve(&m, 1);
        assert_int_equal(i->served, 9000);
        assert_int_equal(b->served, 1000);
        i->left = 0; /* nobody else: all of it */
        for (unsigned k = 0; k < 100; k++)
                assert_ptr_equal(serve(&m, 7), b);
        i->left = FOREVER; /* nothing was saved up, and nothing is owed */
        assert_ptr_equal(serve(&m, 1), i);
        for (unsigned k = 1; k < 100; k++)
                serve(&m, 1);
        assert_int_equal(i->served, 9090);
        all_leave(&m);
}

/* Short questions with moments between them: without a credit each moment would cost a turn. */
static void moments_cost_nothing(void **state) {
        struct sim m = { .t.credit = 9 };
        struct sim_job *i = add(&m, TURN_INTERACTIVE, 1, 1, 1);
        struct sim_job *b = add(&m, TURN_BACKGROUND, 1, 1, 2);

        for (unsigned k = 0; k < 1000; k++) {
                i->left = 3;
                while (i->left > 0)
                        serve(&m, 1);
                look(&m);
        }
        assert_int_equal(i->served, 3000);
        assert_in_range(b->served, 330, 340);
        all_leave(&m);
}

/* Many jobs and clients in the background change nothing about it. */
static void classes_differ_by_one_turn_at_most(void **state) {
        enum { MOST = 80000 };
        struct sim m = {0};
        uint64_t served[2] = {0};

        for (uint64_t k = 0; k < 40; k++)
                add(&m, k % 4 ? TURN_BACKGROUND : TURN_INTERACTIVE, k % 3, k % 7, k);
        for (unsigned k = 0; k < 5000; k++) {
                uint64_t cost = draw(&m, MOST);
                struct sim_job *j = serve(&m, cost);
                int64_t difference;

                served[j->class] += cost;
                difference = (int64_t)(served[0] * TURN_INTERACTIVE_COST) -
                             (int64_t)(served[1] * TURN_BACKGROUND_COST);
                assert_true(difference <= MOST * TURN_INTERACTIVE_COST);
                assert_true(-difference <= MOST * TURN_BACKGROUND_COST);
        }
        assert_int_equal(m.t.class[TURN_INTERACTIVE].counter, served[0] * TURN_INTERACTIVE_COST);
        assert_int_equal(m.t.class[TURN_BACKGROUND].counter, served[1] * TURN_BACKGROUND_COST);
        all_leave(&m);
}

static void many_jobs_of_one_client_count_as_one(void **state) {
        struct sim m = {0};
        struct sim_job *one = add(&m, TURN_INTERACTIVE, 1, 2, 100);
        uint64_t least = UINT64_MAX, most = 0;

        for (uint64_t k = 0; k < 50; k++)
                add(&m, TURN_INTERACTIVE, 1, 1, k);
        for (unsigned k = 0; k < 10000; k++)
                serve(&m, 3);
        assert_int_equal(one->turns, 5000);
        for (size_t i = 1; i < m.n; i++) {
                least = MIN(least, m.jobs[i].turns);
                most = MAX(most, m.jobs[i].turns);
        }
        assert_true(least == 100 && most == 100);
        all_leave(&m);
}

/* Users first, then their clients, then their jobs, with random costs: at each level nobody is
 * ahead of another by more than one turn. */
static void every_level_is_fair(void **state) {
        enum { MOST = 1000 };
        struct sim m = {0};
        uint64_t user[2] = {0}, client[4] = {0};

        for (uint64_t k = 0; k < 32; k++) /* user 0: client 0; user 1: clients 1, 2, 3 */
                add(&m, TURN_INTERACTIVE, k >= 8, k < 8 ? 0 : 1 + k % 3, k);
        for (unsigned k = 0; k < 20000; k++) {
                uint64_t cost = draw(&m, MOST);
                size_t i = (size_t)(serve(&m, cost) - m.jobs);

                user[i >= 8] += cost;
                client[i < 8 ? 0 : 1 + i % 3] += cost;
                assert_true(user[0] <= user[1] + MOST && user[1] <= user[0] + MOST);
                for (unsigned a = 1; a < 4; a++)
                        for (unsigned b = 1; b < 4; b++)
                                assert_true(client[a] <= client[b] + MOST);
        }
        for (size_t a = 0; a < 8; a++)
                for (size_t b = 0; b < 8; b++)
                        assert_true(m.jobs[a].served <= m.jobs[b].served + MOST);
        all_leave(&m);
}

/* Whoever comes back, or comes new, starts level with the least served that wants. */
static void idleness_saves_nothing(void **state) {
        struct sim m = {0};
        struct sim_job *a = add(&m, TURN_INTERACTIVE, 1, 1, 1);
        struct sim_job *b = add(&m, TURN_INTERACTIVE, 1, 2, 2);
        struct sim_job *c;

        b->left = 10;
        for (unsigned k = 0; k < 1000; k++)
                serve(&m, 5);
        assert_int_equal(b->turns, 10);
        b->left = FOREVER;
        c = add(&m, TURN_INTERACTIVE, 1, 3, 3);
        a->turns = b->turns = 0;
        for (unsigned k = 0; k < 3000; k++)
                serve(&m, 5);
        assert_int_equal(a->turns, 1000);
        assert_int_equal(b->turns, 1000);
        assert_int_equal(c->turns, 1000);
        a->left = b->left = c->left = 0; /* after all were idle, too */
        assert_null(next(&m));
        a->left = b->left = FOREVER;
        for (unsigned k = 0; k < 100; k++)
                serve(&m, 5);
        assert_int_equal(a->turns, 1050);
        all_leave(&m);
}

/* A client that leaves after each job and comes again gets no more than one that stays. */
static void coming_again_gains_nothing(void **state) {
        struct sim m = {0};
        struct sim_job *stays = add(&m, TURN_INTERACTIVE, 1, 1, 1);
        uint64_t again = 0;

        for (uint64_t k = 0; k < 2000; k++) {
                struct sim_job *j = add(&m, TURN_INTERACTIVE, 1, 2 + k % 2, k);

                while (j->turns == 0)
                        serve(&m, 2);
                again += j->served;
                leave(j);
                m.n--;
                memset(j, 0, sizeof(*j));
        }
        assert_in_range(stays->served, again - 4, again + 4);
        all_leave(&m);
}

/* Between users by weight, however many jobs they have, and exactly also where a division leaves
 * something. */
static void users_have_weights(void **state) {
        struct sim m = {0};
        struct sim_job *b = add(&m, TURN_INTERACTIVE, 2, 9, 9);
        uint64_t before;

        for (unsigned k = 0; k < 3; k++)
                add(&m, TURN_INTERACTIVE, 1, k, k);
        turn_set_weight(b->turn, 300);
        for (unsigned k = 0; k < 4000; k++)
                serve(&m, 1);
        assert_in_range(b->served, 2999, 3001);
        turn_set_weight(b->turn, 7);
        before = b->served;
        for (unsigned k = 0; k < 10700; k++)
                serve(&m, 1);
        assert_in_range(b->served - before, 699, 701);
        all_leave(&m);
}

static void entering_twice(void **state) {
        const uint64_t keys[] = { 1, 2, 3 };
        struct turns t = {0};
        struct turn *a, *b;

        assert_int_equal(turns_enter(&t, TURN_BACKGROUND, keys, &a), 0);
        assert_int_equal(turns_enter(&t, TURN_BACKGROUND, keys, &b), 0);
        assert_ptr_equal(a, b);
        assert_false(turn_before(a, b));
        turns_leave(a);
        assert_ptr_equal(t.class[TURN_BACKGROUND].first->first->first, b);
        turns_leave(b);
        assert_null(t.class[TURN_BACKGROUND].first);
        turns_leave(NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(background_has_a_tenth),
                cmocka_unit_test(moments_cost_nothing),
                cmocka_unit_test(classes_differ_by_one_turn_at_most),
                cmocka_unit_test(many_jobs_of_one_client_count_as_one),
                cmocka_unit_test(every_level_is_fair),
                cmocka_unit_test(idleness_saves_nothing),
                cmocka_unit_test(coming_again_gains_nothing),
                cmocka_unit_test(users_have_weights),
                cmocka_unit_test(entering_twice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
