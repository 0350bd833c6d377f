/* Several users of one scheduler: turns between them, and what each may have of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "tests/daemon/worker/scheduler-rig.h"
#include "tests/tools/open_model.h"

/* As many connections as one user may open, another user's question waits for one of his. */
static void users_take_turns(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r[11] = {0};
        uint32_t ended = 0;

        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].ended_before = &ended;
                r[i].client = i;
                r[i].user.id = i == 10 ? 2 : 1;
                assert_int_equal(submit(s, &r[i], beginnings[0], 20, false), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                finish(s, &r[i]);
                done(&r[i]);
        }
        assert_true(r[10].order <= 1);
        scheduler_free(s);
}

/* How many of this user run. */
static uint32_t running_of(struct scheduler *s, uint64_t user) {
        const struct generation *g;
        uint32_t n = 0;

        pthread_mutex_lock(&s->lock);
        TAILQ_FOREACH(g, &s->lanes[0]->running, in_stage)
                n += g->request.user.id == user;
        pthread_mutex_unlock(&s->lock);
        return n;
}

static void finish_within(struct scheduler *s, struct result *r, size_t n, uint32_t most) {
        uint32_t seen = 0;

        for (size_t i = 0; i < n; i++)
                while (r[i].ends == 0) {
                        few_steps(s);
                        seen = MAX(seen, running_of(s, 1));
                }
        assert_int_equal(seen, most);
        for (size_t i = 0; i < n; i++)
                done(&r[i]);
}

static void a_user_has_limits_of_his_own(void **state) {
        struct scheduler *s = new_scheduler(8, 4096);
        struct scheduler_user two = { .id = 1, .max_sequences = 2 }, few = { .id = 1 };
        struct scheduler_share shares[3];
        struct result r[6] = {0}, big = {0};
        size_t page = engine_kv_bytes(s->lanes[0]->engine, 1);

        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].user = i == 5 ? (struct scheduler_user){ .id = 2 } : two;
                assert_int_equal(submit(s, &r[i], beginnings[i], 30, false), 0);
        }
        finish_within(s, r, ARRAY_SIZE(r), 2);
        assert_int_equal(scheduler_shares(s, shares, ARRAY_SIZE(shares)), 2);
        assert_int_equal(shares[0].user + shares[1].user, 3);
        assert_true(shares[0].usec > 0 && shares[1].usec > 0);
        assert_int_equal(scheduler_shares(s, shares, ARRAY_SIZE(shares)), 0);

        few.kv_bytes = 6 * page; /* three of the next at once, each of two pages */
        memset(r, 0, sizeof(r));
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].user = few;
                assert_int_equal(submit(s, &r[i], beginnings[1], 40, false), 0);
        }
        finish_within(s, r, ARRAY_SIZE(r), 3);
        assert_int_equal(scheduler_max_tokens(s, model, &few), 6 * KV_PAGE);
        few.max_tokens = 50;
        assert_int_equal(scheduler_max_tokens(s, model, &few), 50);
        big.user = few;
        assert_int_equal(submit(s, &big, "A", 6 * KV_PAGE, false), -ENOMEM);
        scheduler_free(s);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(users_take_turns),
                cmocka_unit_test(a_user_has_limits_of_his_own),
        };
        int r;

        if (argc != 2 || open_model(&model, argv[1]) < 0)
                return 2;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        model_free(model);
        return r;
}
