/* Guesses: where they are found, when they are tried, and above all that they change nothing: with
 * guesses at every step, right and wrong ones, all texts are the same as with none. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"
#include "tests/tools/open_model.h"

enum { PATIENCE_USEC = 60000000, LEASE = 200000, JOBS = 6, TOP = 3 };
#define RECORD ((1 + TOP) * sizeof(struct token_odds))

static struct model *model;

static struct guess find(const int32_t *ids, size_t n, uint32_t most) {
        struct guess g;

        guess_find(&g, ids, n - 1, ids[n - 1], most);
        assert_int_equal(g.rows, 0);
        return g;
}

static void finds_what_followed(void **state) {
        static const int32_t once[] = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3},
                             longest[] = {9, 1, 2, 3, 50, 8, 2, 3, 60, 9, 1, 2, 3},
                             latest[] = {1, 2, 70, 1, 2, 80, 1, 2}, none[] = {1, 2, 3, 2},
                             loop[] = {5, 5, 5, 5, 5};
        struct guess g = find(once, 10, 11);

        (void)state;
        assert_int_equal(g.match, 3);
        assert_int_equal(g.n, 7);
        assert_memory_equal(g.ids, once + 3, 7 * sizeof(int32_t));
        assert_int_equal(find(once, 10, 4).n, 4);
        assert_int_equal(find(once, 10, 0).n, 0);
        g = find(longest, 13, 2);
        assert_int_equal(g.match, 4);
        assert_int_equal(g.ids[0], 50);
        assert_int_equal(find(latest, 8, 3).ids[0], 80);
        assert_int_equal(find(none, 4, 3).n, 0);
        assert_int_equal(find(none, 1, 3).n, 0);
        g = find(loop, 5, 11);
        assert_int_equal(g.match, 4);
        assert_int_equal(g.n, 1);
        assert_int_equal(g.ids[0], 5);
}

/* Odds follow what happened; a chain is learnt up to its first miss. */
static void learns_odds(void **state) {
        struct guess g = {.ids = {1, 2, 3, 4}, .n = 4, .match = 2};
        struct guess_odds odds = {{0.5, 0.5, 0.5, 0.5, 0.5}};
        static const int32_t made[] = {1, 2, 9};

        (void)state;
        guess_learn(&g, &odds, made, 1, 0.5); /* not tried: its first token was right */
        assert_true(odds.right[0] == 0.75 && odds.right[1] == 0.5);
        g.rows = 4;
        guess_learn(&g, &odds, made, 3, 0.5); /* matches of 2 and 3 were right, of 4 was not */
        assert_true(odds.right[0] == 0.875 && odds.right[1] == 0.75 && odds.right[2] == 0.25 &&
                    odds.right[3] == 0.5);
        g.rows = 2;
        assert_true(guess_expected(&g, &odds) == 0.875 + 0.875 * 0.75);
}

static uint32_t choose(double right, double row_usec, uint32_t rows, double usec) {
        struct guess_odds odds = {{right, right, right, right, right}};
        struct guess g = {.n = GUESS_MOST, .match = 3};
        struct step_costs costs = {0};

        for (uint32_t n = 1; n <= 64; n++)
                step_cost_learn(&costs, n, 1000 + row_usec * n, 1);
        guess_choose(&g, &odds, &costs, rows, rows, usec);
        return g.rows;
}

static void tries_where_it_pays(void **state) {
        struct guess g = {.n = 3, .match = 3};
        struct guess_odds odds = {{1, 1, 1, 1, 1}};
        struct step_costs unknown = {0};

        (void)state;
        assert_int_equal(choose(1, 50, 1, 1e9), GUESS_MOST);
        assert_int_equal(choose(0.02, 50, 1, 1e9), 0);
        assert_int_equal(choose(1, 100000, 1, 1e9), 0); /* rows cost as much as steps */
        assert_int_equal(choose(1, 50, 1, 1250), 4);    /* no more than there is time for */
        assert_true(choose(0.6, 100, 1, 1e9) > 0);
        assert_true(choose(0.6, 100, 1, 1e9) < choose(0.9, 100, 1, 1e9));
        assert_int_equal(choose(0.5, 400, 8, 1e9), 0);  /* a step of eight pays already */
        guess_choose(&g, &odds, &unknown, 1, 1, 1e9);
        assert_int_equal(g.rows, 0);
}

/* --- the scheduler --- */

struct result {
        struct generation *g;
        struct scheduler *s;
        struct secure_buf text, records;
        struct generation_usage usage;
        enum finish finish;
        uint32_t cancel_at;
        bool ended;
};

static void on_text(void *userdata, const char *text, size_t n) {
        struct result *r = userdata;

        secure_buf_append(&r->text, text, n);
}

static void on_token_odds(void *userdata, const struct token_odds *records, size_t n) {
        struct result *r = userdata;

        assert_true(n > 0 && records[0].logprob <= 0);
        secure_buf_append(&r->records, (const char *)records, n * RECORD);
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct result *r = userdata;

        (void)tokens_read;
        if (r->cancel_at > 0 && tokens_out >= r->cancel_at)
                scheduler_cancel(r->s, r->g);
}

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct result *r = userdata;

        r->finish = finish;
        r->usage = *usage;
        r->ended = true;
}

static struct scheduler *new_scheduler(enum guessing guessing) {
        struct scheduler *s;

        assert_int_equal(scheduler_new(&s, 2, cpu_flags(CPU_ALL), JOBS), 0);
        assert_int_equal(scheduler_add_model(s, model, kv_bytes_of(&model->hp, KV_S16, 4096)), 0);
        scheduler_set_guessing(s, guessing);
        return s;
}

/* A text that repeats itself, with other words in between; different for each seed. */
static void make_prompt(struct tokens *t, unsigned seed) {
        static const char *const words[] = {
                "Once upon a time there was a dog named Max. ", "Max ran to the big tree. ",
                "He saw a red ball. ", "\"Hello!\" said the bird. ", "They were happy. ",
        };

        assert_int_equal(tokens_push(t, vocab_bos(model->vocab)), 0);
        for (unsigned i = 0; i < 12; i++) {
                const char *w = words[(i * i + i * seed + seed) % ARRAY_SIZE(words)];

                assert_int_equal(vocab_encode(model->vocab, w, strlen(w), false, 0, t), 0);
        }
}

static void submit(struct scheduler *s, struct result *r, unsigned seed, uint32_t max_tokens,
                   const struct sampling *sampling, bool ignore_end) {
        struct generation_request q = {
                .model = model, .owner = seed % 3, .max_tokens = max_tokens, .sampling = *sampling,
                .ignore_end = ignore_end, .odds = true, .n_top = TOP, .text = on_text,
                .token_odds = on_token_odds, .progress = on_progress, .end = on_end,
                .userdata = r,
        };

        r->s = s;
        make_prompt(&q.prompt, seed);
        assert_int_equal(scheduler_submit(s, &q, &r->g), 0);
}

static void finish(struct scheduler *s, const struct result *r) {
        uint64_t begin = scheduler_now();

        while (!r->ended) {
                struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};

                assert_true(scheduler_now() - begin < PATIENCE_USEC);
                scheduler_grant(s, scheduler_now() + LEASE);
                poll(&p, 1, 50);
                scheduler_dispatch(s);
        }
}

static const struct token_odds *odds_at(const struct result *r, size_t i) {
        return (const struct token_odds *)(const void *)r->records.p + i;
}

static void assert_same(struct result *a, struct result *b) {
        assert_int_equal(a->finish, b->finish);
        assert_int_equal(a->usage.out, b->usage.out);
        assert_int_equal(a->text.n, b->text.n);
        if (a->text.n > 0)
                assert_memory_equal(a->text.p, b->text.p, a->text.n);
        assert_int_equal(a->records.n, a->usage.out * RECORD);
        assert_int_equal(b->records.n, a->records.n);
        for (size_t i = 0; i < a->records.n / sizeof(struct token_odds); i++) {
                assert_int_equal(odds_at(a, i)->token, odds_at(b, i)->token);
                assert_true(odds_at(a, i)->logprob == odds_at(b, i)->logprob);
        }
        secure_buf_done(&a->records);
        secure_buf_done(&b->records);
        secure_buf_done(&a->text);
        secure_buf_done(&b->text);
}

static struct sampling samplings[8];

static void make_samplings(void) {
        for (size_t i = 0; i < ARRAY_SIZE(samplings); i++)
                samplings[i] = SAMPLING_GREEDY;
        samplings[1].repeat_penalty = 1.1f;
        samplings[2].dry_multiplier = 0.8f;
        samplings[2].dry_base = 1.75f;
        samplings[2].dry_allowed_length = 2;
        samplings[3].presence_penalty = 0.6f;
        samplings[3].frequency_penalty = 0.3f;
        for (size_t i = 4; i < ARRAY_SIZE(samplings); i++) {
                samplings[i].temperature = 0.8f;
                samplings[i].seed = i;
        }
        samplings[5].top_k = 20;
        samplings[6].top_p = 0.9f;
        samplings[7].min_p = 0.1f;
        samplings[7].repeat_penalty = 1.3f;
}

/* One after the other, with every kind of sampling. */
static void changes_nothing(void **state) {
        struct scheduler *never = new_scheduler(GUESSING_NEVER),
                         *always = new_scheduler(GUESSING_ALWAYS);
        uint32_t guessed = 0, right = 0;

        (void)state;
        for (unsigned i = 0; i < 3 * ARRAY_SIZE(samplings); i++) {
                const struct sampling *how = &samplings[i % ARRAY_SIZE(samplings)];
                struct result a = {0}, b = {0};

                submit(never, &a, i, 100, how, i % 2);
                submit(always, &b, i, 100, how, i % 2);
                finish(never, &a);
                finish(always, &b);
                assert_int_equal(a.usage.guessed, 0);
                guessed += b.usage.guessed;
                right += b.usage.right;
                assert_same(&a, &b);
        }
        assert_true(right > 100 && guessed - right > 100);
        scheduler_free(never);
        scheduler_free(always);
}

/* Every limit falls somewhere into a guess. */
static void limits_hold(void **state) {
        struct scheduler *never = new_scheduler(GUESSING_NEVER),
                         *always = new_scheduler(GUESSING_ALWAYS);

        (void)state;
        for (uint32_t max = 1; max <= 40; max++) {
                struct result a = {0}, b = {0};

                submit(never, &a, 4, max, &samplings[0], true);
                submit(always, &b, 4, max, &samplings[0], true);
                finish(never, &a);
                finish(always, &b);
                assert_int_equal(b.usage.out, max);
                assert_int_equal(b.finish, FINISH_LENGTH);
                assert_same(&a, &b);
        }
        scheduler_free(never);
        scheduler_free(always);
}

/* Together, some are cancelled on the way: the others say what they say alone. */
static void company_and_cancel(void **state) {
        struct scheduler *never = new_scheduler(GUESSING_NEVER);

        (void)state;
        for (unsigned round = 0; round < 6; round++) {
                struct scheduler *s = new_scheduler(round % 2 ? GUESSING_ALWAYS
                                                              : GUESSING_WHERE_IT_PAYS);
                struct result r[JOBS] = {0};

                for (unsigned i = 0; i < JOBS; i++) {
                        r[i].cancel_at = i % 3 == 1 ? 5 + 7 * round : 0;
                        submit(s, &r[i], i + round, 80, &samplings[(i + round) % 8], true);
                }
                for (unsigned i = 0; i < JOBS; i++) {
                        struct result a = {0};

                        finish(s, &r[i]);
                        if (r[i].cancel_at > 0) {
                                assert_true(r[i].usage.out >= r[i].cancel_at);
                                secure_buf_done(&r[i].text);
                                secure_buf_done(&r[i].records);
                                continue;
                        }
                        submit(never, &a, i + round, 80, &samplings[(i + round) % 8], true);
                        finish(never, &a);
                        assert_same(&a, &r[i]);
                }
                scheduler_free(s);
        }
        scheduler_free(never);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_what_followed), cmocka_unit_test(learns_odds),
                cmocka_unit_test(tries_where_it_pays), cmocka_unit_test(changes_nothing),
                cmocka_unit_test(limits_hold),         cmocka_unit_test(company_and_cancel),
        };
        int r;

        if (argc != 2 || open_model(&model, argv[1]) < 0)
                return 2;
        make_samplings();
        r = cmocka_run_group_tests(tests, NULL, NULL);
        model_free(model);
        return r;
}
