/* The scheduler with a real model of three million weights: what a generation says does not depend
 * on its company, and lease, pause, cancel, sequences and KV budget do what they promise. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "tests/daemon/worker/scheduler-rig.h"
#include "tests/tools/open_model.h"

/* One generation on a scheduler of its own: what all others are compared with. */
static struct result alone(const char *text, uint32_t max_tokens) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r = {0};

        assert_int_equal(submit(s, &r, text, max_tokens, false), 0);
        finish(s, &r);
        assert_int_equal(r.finish, FINISH_LENGTH);
        assert_int_equal(r.out, max_tokens);
        assert_int_equal(r.read, r.prompt_n);
        scheduler_free(s);
        return r;
}

static void assert_same_text(const struct result *a, const struct result *b) {
        assert_int_equal(a->text.n, b->text.n);
        assert_memory_equal(a->text.p, b->text.p, a->text.n);
}

static void company_does_not_matter(void **state) {
        struct scheduler *s = new_scheduler(MAX_N, 8192);
        struct result r[ARRAY_SIZE(beginnings)] = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                assert_int_equal(submit(s, &r[i], beginnings[i], 40 + (uint32_t)i, i % 3 == 0), 0);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                struct result one = alone(beginnings[i], 40 + (uint32_t)i);

                finish(s, &r[i]);
                assert_same_text(&one, &r[i]);
                done(&one);
                done(&r[i]);
        }
        scheduler_free(s);
}

/* A constrained answer ends by itself, is what was asked for, and does not depend on guesses, nor
 * on who else is there; the others do not depend on it. */
static void constraints_keep_to_themselves(void **state) {
        struct secure_buf first[ARRAY_SIZE(beginnings)] = {0};

        (void)state;
        for (int guessing = GUESSING_NEVER; guessing <= GUESSING_ALWAYS; guessing++) {
                struct scheduler *s = new_scheduler(MAX_N, 8192);
                struct result r[ARRAY_SIZE(beginnings)] = {0};

                scheduler_set_guessing(s, (enum guessing)guessing);
                for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                        r[i].constrained = i % 2;
                        assert_int_equal(submit(s, &r[i], beginnings[i], 250, false), 0);
                }
                for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                        finish(s, &r[i]);
                        assert_int_equal(r[i].finish, r[i].constrained ? FINISH_STOP
                                                                       : FINISH_LENGTH);
                        if (r[i].constrained)
                                assert_true(r[i].text.p[0] == '[' &&
                                            r[i].text.p[r[i].text.n - 1] == ']');
                        if (guessing == GUESSING_NEVER)
                                secure_buf_append(&first[i], r[i].text.p, r[i].text.n);
                        assert_int_equal(first[i].n, r[i].text.n);
                        assert_memory_equal(first[i].p, r[i].text.p, first[i].n);
                        done(&r[i]);
                }
                for (size_t i = 1; i < ARRAY_SIZE(r) && guessing == GUESSING_NEVER; i += 2) {
                        struct scheduler *lone = new_scheduler(1, 512);
                        struct result one = {.constrained = true};

                        assert_int_equal(submit(lone, &one, beginnings[i], 250, false), 0);
                        finish(lone, &one);
                        assert_int_equal(first[i].n, one.text.n);
                        assert_memory_equal(first[i].p, one.text.p, one.text.n);
                        done(&one);
                        scheduler_free(lone);
                }
                scheduler_free(s);
        }
        for (size_t i = 0; i < ARRAY_SIZE(first); i++)
                secure_buf_done(&first[i]);
}

/* Out of tokens before it is complete; cancelled; refused: nothing is kept or freed twice. */
static void constraints_end_early(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r[4] = {{.constrained = true}, {.constrained = true, .cancel_at_out = 3},
                              {.constrained = true}, {.constrained = true}};

        (void)state;
        assert_int_equal(submit(s, &r[0], beginnings[0], 4, false), 0);
        assert_int_equal(submit(s, &r[1], beginnings[0], 100, false), 0);
        assert_int_equal(submit(s, &r[2], beginnings[0], 100, false), 0);
        assert_int_equal(submit(s, &r[3], beginnings[0], 1 << 20, false), -E2BIG);
        scheduler_cancel(s, r[2].g);
        scheduler_set_guessing(s, GUESSING_NEVER); /* so that few steps are few tokens */
        for (size_t i = 0; i < 3; i++)
                finish_slowly(s, &r[i]);
        assert_int_equal(r[0].finish, FINISH_LENGTH);
        assert_int_equal(r[1].finish, FINISH_CANCELLED);
        assert_int_equal(r[2].finish, FINISH_CANCELLED);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                done(&r[i]);
        scheduler_free(s);
}

static const char *prompt_of(size_t n) {
        static char text[2000];

        memset(text, 0, sizeof(text));
        while (strlen(text) < n)
                strcat(text, "The little dog ran to the big tree. ");
        return text;
}

static const char *long_prompt(void) {
        return prompt_of(900);
}

static void cancel_in_prefill(void **state) {
        struct scheduler *s = new_scheduler(4, 2048);
        struct result r = {0};

        (void)state;
        assert_int_equal(submit(s, &r, long_prompt(), 8, false), 0);
        assert_true(r.prompt_n > 2 * FIRST_CHUNK);
        while (r.read == 0)
                few_steps(s);
        scheduler_cancel(s, r.g);
        scheduler_cancel(s, r.g); /* the second one changes nothing */
        while (r.ends == 0)
                must_wait_event(s); /* needs no lease */
        assert_int_equal(r.finish, FINISH_CANCELLED);
        assert_int_equal(r.out, 0);
        assert_int_equal(r.text.n, 0);
        assert_true(r.read < r.prompt_n);
        scheduler_free(s);
}

static void cancel_from_callback_and_while_waiting(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r[2] = {{.cancel_at_out = 3}};

        (void)state;
        assert_int_equal(submit(s, &r[0], beginnings[0], 100, false), 0);
        assert_int_equal(submit(s, &r[1], beginnings[1], 100, false), 0);
        scheduler_cancel(s, r[1].g);
        while (r[1].ends == 0)
                must_wait_event(s);
        assert_int_equal(r[1].finish, FINISH_CANCELLED);
        assert_int_equal(r[1].read, 0);
        finish_slowly(s, &r[0]);
        assert_int_equal(r[0].finish, FINISH_CANCELLED);
        assert_true(r[0].out >= 3 && r[0].out < 100);
        done(&r[0]);
        scheduler_free(s);
}

static uint32_t whole_pages(uint32_t tokens) {
        return tokens / KV_PAGE * KV_PAGE;
}

/* What was computed for one generation serves the next, and changes nothing it says. */
static void reuse_changes_nothing(void **state) {
        struct result one = alone(long_prompt(), 60), r[4] = {{.owner = 1}, {.owner = 1},
                                                              {.owner = 2}, {.owner = 1}};
        struct scheduler *s = new_scheduler(4, 2048);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                if (i == 3)
                        scheduler_drop_caches(s);
                assert_int_equal(submit(s, &r[i], long_prompt(), 60, false), 0);
                finish(s, &r[i]);
                assert_same_text(&one, &r[i]);
                assert_int_equal(r[i].read, r[i].prompt_n);
                done(&r[i]);
        }
        assert_true(one.prompt_n > 4 * KV_PAGE);
        assert_int_equal(r[0].cached, 0);
        assert_int_equal(r[1].cached, whole_pages(r[1].prompt_n - 1));
        assert_int_equal(r[2].cached, 0);
        assert_int_equal(r[3].cached, 0);
        done(&one);
        scheduler_free(s);
}

/* Requests that come together: what the first one reads the others need not. The prompt is longer
 * than half of what one step may read. */
static void reuse_among_those_that_run(void **state) {
        struct result one = alone(prompt_of(1250), 30), r[4] = {0};
        struct scheduler *s = new_scheduler(4, 2048);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].owner = 1 + i / 3;
                assert_int_equal(submit(s, &r[i], prompt_of(1250), 30, false), 0);
        }
        assert_true(one.prompt_n > (ENGINE_MAX_ROWS + FIRST_CHUNK) / 2 + KV_PAGE);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                finish(s, &r[i]);
                assert_same_text(&one, &r[i]);
                done(&r[i]);
        }
        assert_true(r[1].cached > 0 && r[2].cached > 0);
        assert_int_equal(r[0].cached + r[3].cached, 0);
        done(&one);
        scheduler_free(s);
}

/* Steps that were finished before a cancel count, the interrupted one does not. */
static void reuse_after_cancel(void **state) {
        struct result one = alone(long_prompt(), 60);
        struct scheduler *s = new_scheduler(4, 2048);
        uint32_t cached = 0;

        (void)state;
        for (unsigned i = 0; i < 10 && cached < whole_pages(one.prompt_n - 1); i++) {
                struct result cut = {.owner = 1}, r = {.owner = 1};

                assert_int_equal(submit(s, &cut, long_prompt(), 60, false), 0);
                while (cut.read <= cached && cut.ends == 0) {
                        scheduler_grant(s, scheduler_now() + LEASE);
                        must_wait_event(s);
                }
                if (cut.ends == 0)
                        scheduler_cancel(s, cut.g);
                finish(s, &cut);
                assert_int_equal(submit(s, &r, long_prompt(), 60, false), 0);
                finish(s, &r);
                assert_same_text(&one, &r);
                assert_true(r.cached >= whole_pages(MIN(cut.read, r.prompt_n - 1)));
                cached = r.cached;
                done(&cut);
                done(&r);
        }
        assert_true(cached > 0);
        done(&one);
        scheduler_free(s);
}

static void pause_and_go_on(void **state) {
        struct scheduler *s = new_scheduler(2, 1024);
        struct result r = {0}, one = alone(beginnings[0], 400);
        uint32_t out;

        (void)state;
        assert_int_equal(submit(s, &r, beginnings[0], 400, false), 0);
        while (r.out < 5)
                few_steps(s);
        assert_int_equal(r.ends, 0);
        scheduler_pause(s, r.g, true);
        while (scheduler_state(s).has_work || scheduler_state(s).computing)
                must_wait_event(s);
        wait_event(s, 0);
        out = r.out;
        assert_true(out < 400);
        scheduler_grant(s, scheduler_now() + LEASE);
        while (scheduler_state(s).until_usec != 0) /* is given back: nothing to do */
                must_wait_event(s);
        wait_event(s, 0);
        assert_int_equal(r.out, out);
        scheduler_pause(s, r.g, false);
        finish(s, &r);
        assert_same_text(&one, &r);
        done(&one);
        done(&r);
        scheduler_free(s);
}

static void lease_ends_and_goes_on(void **state) {
        struct scheduler *s = new_scheduler(2, 1024);
        struct result r = {0}, one = alone(beginnings[3], 200);
        unsigned leases = 0;

        (void)state;
        assert_int_equal(submit(s, &r, beginnings[3], 200, false), 0);
        while (!scheduler_state(s).has_work)
                must_wait_event(s);
        wait_event(s, 10); /* the event that goes with what was just seen */
        assert_false(scheduler_state(s).computing);
        assert_false(wait_event(s, 20)); /* no lease, no step, nothing new */
        assert_int_equal(r.read, 0);
        while (r.ends == 0) {
                assert_true(leases++ < 1000);
                scheduler_grant(s, scheduler_now() + 3000);
                while (scheduler_state(s).until_usec != 0 || scheduler_state(s).computing)
                        must_wait_event(s);
                wait_event(s, 0);
                if (r.ends == 0) {
                        uint32_t out = r.out;

                        assert_true(scheduler_state(s).has_work);
                        wait_event(s, 5);
                        assert_int_equal(r.out, out);
                }
        }
        assert_true(leases > 3);
        assert_same_text(&one, &r);
        done(&one);
        done(&r);
        scheduler_free(s);
}

/* A busy machine may let a whole lease go by before this thread looks: false. */
static bool see_renewal(struct scheduler *s) {
        uint64_t until = scheduler_now() + 20000;
        struct scheduler_state state;

        scheduler_grant(s, until);
        do {
                must_wait_event(s);
                state = scheduler_state(s);
        } while (state.until_usec == until && !state.renew);
        return state.renew;
}

static void renewal_is_asked_for(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r = {.ends = 1};
        uint64_t begin = scheduler_now();

        (void)state;
        do {
                assert_true(scheduler_now() - begin < PATIENCE_MS * UINT64_C(1000));
                if (r.ends > 0) {
                        done(&r);
                        r = (struct result){0};
                        assert_int_equal(submit(s, &r, beginnings[0], 450, false), 0);
                }
        } while (!see_renewal(s));
        scheduler_grant(s, scheduler_now() + PATIENCE_MS * UINT64_C(1000));
        assert_false(scheduler_state(s).renew);
        finish(s, &r);
        done(&r);
        while (scheduler_state(s).computing)
                must_wait_event(s);
        assert_int_equal(scheduler_state(s).until_usec, 0);
        assert_false(scheduler_state(s).has_work);
        scheduler_free(s);
}

static void kv_budget_queues(void **state) {
        struct scheduler *s = new_scheduler(8, 256); /* room for two of the five */
        struct result r[5] = {0};
        uint32_t ended = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].ended_before = &ended;
                assert_int_equal(submit(s, &r[i], beginnings[i], 100, false), 0);
        }
        while (ended < ARRAY_SIZE(r)) {
                uint32_t begun = 0;

                scheduler_grant(s, scheduler_now() + LEASE);
                wait_event(s, 50);
                for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                        begun += r[i].read > 0 && r[i].ends == 0;
                assert_true(begun <= 2);
        }
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                struct result one = alone(beginnings[i], 100);

                assert_int_equal(r[i].finish, FINISH_LENGTH);
                assert_same_text(&one, &r[i]);
                done(&one);
                done(&r[i]);
        }
        scheduler_free(s);
}

static void first_come_first_served(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r[5] = {0};
        uint32_t ended = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].ended_before = &ended;
                assert_int_equal(submit(s, &r[i], beginnings[i], 20, i < 2), 0);
        }
        finish(s, &r[0]);
        finish(s, &r[1]);
        for (size_t i = 2; i < ARRAY_SIZE(r); i++)
                assert_int_equal(r[i].ends, 1);
        assert_true(r[2].order < r[3].order && r[3].order < r[4].order);
        assert_true(r[0].order < r[1].order);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                done(&r[i]);
        scheduler_free(s);
}

/* Many generations of a document leave a sequence to a question that comes later. */
static void background_leaves_room(void **state) {
        struct scheduler *s = new_scheduler(2, 2048);
        struct result r[4] = {0};
        uint32_t ended = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                r[i].ended_before = &ended;
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(submit(s, &r[i], beginnings[i], 150, true), 0);
        while (r[0].out == 0)
                few_steps(s);
        assert_int_equal(submit(s, &r[3], beginnings[3], 10, false), 0);
        finish_slowly(s, &r[3]);
        assert_int_equal(ended, 1);
        assert_int_equal(r[1].read, 0);
        for (size_t i = 0; i < 3; i++)
                finish(s, &r[i]);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                done(&r[i]);
        scheduler_free(s);
}

/* One in the background pauses, its keys kept, when a question comes, gets on slowly meanwhile, and
 * afterwards says what it would have said, without reading anything again. */
static void background_gives_way(bool in_prefill) {
        struct scheduler *s = new_scheduler(4, 2048);
        struct result b = {0}, i = {0}, one = alone(prompt_of(500), 250);
        uint32_t before, meanwhile;

        pthread_mutex_lock(&s->lock);
        s->turns.credit = 0; /* the question is too short to use it up */
        pthread_mutex_unlock(&s->lock);
        assert_int_equal(submit(s, &b, prompt_of(500), 250, true), 0);
        while (in_prefill ? b.read == 0 : b.out < 5)
                few_steps(s);
        assert_int_equal(b.ends + b.held, 0);
        assert_int_equal(submit(s, &i, beginnings[0], 400, false), 0);
        before = b.read + b.out;
        while (i.out < 5)
                few_steps(s);
        assert_int_equal(b.held, 1);
        finish_slowly(s, &i);
        assert_int_equal(b.ends, 0);
        meanwhile = b.read + b.out - before;
        assert_true(meanwhile > 0);
        if (!in_prefill) /* a row of it costs half of a step: about one step in five */
                assert_in_range(meanwhile, 5, 200);
        finish(s, &b);
        assert_int_equal(b.held, 1);
        assert_int_equal(b.freed, 1);
        assert_int_equal(b.read, b.prompt_n);
        assert_same_text(&one, &b);
        done(&one);
        done(&b);
        done(&i);
        scheduler_free(s);
}

static void background_pauses_while_decoding(void **state) {
        background_gives_way(false);
}

static void background_pauses_while_reading(void **state) {
        background_gives_way(true);
}

/* Interactive work that never ends does not keep the background out for ever. */
static void background_is_admitted_in_the_end(void **state) {
        struct scheduler *s = new_scheduler(3, 4096);
        struct result b = {0}, i[40] = {0};
        size_t n = 0, ended = 0;

        for (; n < 4; n++)
                assert_int_equal(submit(s, &i[n], beginnings[n], 50, false), 0);
        assert_int_equal(submit(s, &b, beginnings[5], 10, true), 0);
        while (b.out == 0) {
                scheduler_grant(s, scheduler_now() + LEASE);
                must_wait_event(s);
                for (; ended < n && i[ended].ends > 0; ended++) {
                        assert_true(n < ARRAY_SIZE(i));
                        assert_int_equal(submit(s, &i[n++], beginnings[0], 50, false), 0);
                }
        }
        finish(s, &b);
        for (size_t k = 0; k < n; k++) {
                finish(s, &i[k]);
                done(&i[k]);
        }
        done(&b);
        scheduler_free(s);
}

/* Of one sequence: a client with one question waits for one of the other's ten, not for all. */
static void clients_take_turns(void **state) {
        struct scheduler *s = new_scheduler(1, 512);
        struct result r[11] = {0};
        uint32_t ended = 0;

        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                r[i].ended_before = &ended;
                r[i].client = i == 10;
                assert_int_equal(submit(s, &r[i], beginnings[0], 20, false), 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                finish(s, &r[i]);
                done(&r[i]);
        }
        assert_true(r[10].order <= 1);
        for (size_t i = 1; i < 10; i++)
                assert_true(r[i - 1].order < r[i].order);
        scheduler_free(s);
}

static void bad_requests(void **state) {
        struct scheduler *s = new_scheduler(1, 256);
        struct generation_request request = {.model = model, .max_tokens = 5,
                                             .sampling = SAMPLING_GREEDY, .end = on_end};
        struct model other = *model;
        struct generation *g;
        struct result r = {0};

        (void)state;
        assert_int_equal(scheduler_max_tokens(s, model, NULL), 256);
        assert_int_equal(scheduler_max_tokens(s, &other, NULL), 0);
        assert_int_equal(submit(s, &r, "A", model->hp.n_ctx, false), -E2BIG);
        assert_int_equal(submit(s, &r, "A", 300, false), -ENOMEM);
        assert_int_equal(submit(s, &r, "A", 0, false), -EINVAL);
        assert_int_equal(scheduler_submit(s, &request, &g), -EINVAL);
        assert_int_equal(tokens_push(&request.prompt, (int32_t)model->hp.n_vocab), 0);
        assert_int_equal(scheduler_submit(s, &request, &g), -EINVAL);
        request.prompt.ids[0] = 1;
        request.model = &other;
        assert_int_equal(scheduler_submit(s, &request, &g), -ENOENT);
        tokens_done(&request.prompt);
        assert_int_equal(scheduler_new(&s, 1, 0, 0), -EINVAL);
        assert_int_equal(scheduler_new(&s, 1, 0, SCHEDULER_MAX_SEQUENCES + 1), -EINVAL);
        scheduler_free(s);
}

static void free_in_the_middle(void **state) {
        struct scheduler *s = new_scheduler(2, 1024);
        struct result r[3] = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(r); i++)
                assert_int_equal(submit(s, &r[i], long_prompt(), 50, false), 0);
        few_steps(s);
        scheduler_free(s);
        for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
                assert_int_equal(r[i].ends, 0);
                done(&r[i]);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(company_does_not_matter),
                cmocka_unit_test(constraints_keep_to_themselves),
                cmocka_unit_test(constraints_end_early),
                cmocka_unit_test(cancel_in_prefill),
                cmocka_unit_test(cancel_from_callback_and_while_waiting),
                cmocka_unit_test(reuse_changes_nothing),
                cmocka_unit_test(reuse_among_those_that_run),
                cmocka_unit_test(reuse_after_cancel),
                cmocka_unit_test(pause_and_go_on),
                cmocka_unit_test(lease_ends_and_goes_on),
                cmocka_unit_test(renewal_is_asked_for),
                cmocka_unit_test(kv_budget_queues),
                cmocka_unit_test(first_come_first_served),
                cmocka_unit_test(background_leaves_room),
                cmocka_unit_test(background_pauses_while_decoding),
                cmocka_unit_test(background_pauses_while_reading),
                cmocka_unit_test(background_is_admitted_in_the_end),
                cmocka_unit_test(clients_take_turns),
                cmocka_unit_test(bad_requests),
                cmocka_unit_test(free_in_the_middle),
        };
        int r;

        if (argc != 2 || open_model(&model, argv[1]) < 0)
                return 2;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        model_free(model);
        return r;
}
