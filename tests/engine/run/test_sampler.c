/* The sampler against a naive version of the same rules: which tokens can be drawn and how often;
 * greedy ties, penalties, seeds, and options that are refused. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/run/sampler.h"

enum { VOCAB = 600, DRAWS = 8000 };

static struct sampling plain(float temperature, uint64_t seed) {
        return (struct sampling){.temperature = temperature, .top_p = 1, .repeat_penalty = 1,
                                 .repeat_last = 64, .seed = seed};
}

/* Logits with many equal values, so that ties matter. */
static void some_logits(float *logits, size_t n) {
        uint32_t x = 12345;

        for (size_t i = 0; i < n; i++) {
                x = x * 1664525 + 1013904223;
                logits[i] = (float)(x >> 24) / 16 - 6;
        }
}

static int32_t next_of(const struct sampling *o, const float *logits, uint32_t n) {
        struct sampler *s;
        int32_t token;

        assert_int_equal(sampler_new(&s, n, o), 0);
        token = sampler_next(s, logits);
        assert_null(sampler_free(s));
        return token;
}

static void test_greedy(void **state) {
        const float tie[] = {1, 5, 2, 5}, nan_first[] = {NAN, 1, 3}, all_equal[] = {2, 2, 2};
        struct sampling o = SAMPLING_GREEDY;

        (void)state;
        assert_int_equal(next_of(&o, tie, 4), 1);
        assert_int_equal(next_of(&o, nan_first, 3), 2);
        assert_int_equal(next_of(&o, all_equal, 3), 0);
}

/* One candidate left means the draw cannot matter; among equals the lowest id stays. */
static void test_one_candidate_is_greedy(void **state) {
        const float logits[] = {1, 5, 2, 5, 4.9F};

        (void)state;
        for (uint64_t seed = 0; seed < 50; seed++) {
                struct sampling k = plain(1, seed), p = plain(1, seed), m = plain(0.01F, seed);

                k.top_k = 1;
                p.top_p = 1e-6F;
                m.min_p = 0.9F;
                assert_int_equal(next_of(&k, logits, 5), 1);
                assert_int_equal(next_of(&p, logits, 5), 1);
                assert_int_not_equal(next_of(&m, logits, 5), 4);
        }
}

struct ranked {
        double p;
        int32_t id;
};

static int by_rank(const void *a, const void *b) {
        const struct ranked *x = a, *y = b;

        return x->p != y->p ? (x->p < y->p) - (x->p > y->p) : (x->id > y->id) - (x->id < y->id);
}

/* The rules of sampler.c in the plainest form: sort everything, then cut. */
static void naive_probabilities(double *p, const float *logits, size_t n,
                                const struct sampling *o) {
        struct ranked r[VOCAB];
        double max = -INFINITY, sum = 0, mass = 0, kept = 0;
        size_t k = o->top_k > 0 && o->top_k < n ? o->top_k : n, end = 0;

        for (size_t i = 0; i < n; i++)
                max = fmax(max, (double)logits[i]);
        for (size_t i = 0; i < n; i++)
                r[i] = (struct ranked){exp(((double)logits[i] - max) / (double)o->temperature),
                                       (int32_t)i};
        qsort(r, n, sizeof(*r), by_rank);
        for (size_t i = 0; i < k; i++)
                sum += r[i].p;
        while (end < k && (end == 0 || (mass < (double)o->top_p * sum * (1 - 1e-12) &&
                                        r[end].p >= (double)o->min_p)))
                mass += r[end++].p;
        for (size_t i = 0; i < end; i++)
                kept += r[i].p;
        memset(p, 0, n * sizeof(*p));
        for (size_t i = 0; i < end; i++)
                p[r[i].id] = r[i].p / kept;
}

/* Frequencies of many draws lie within five standard deviations of the naive probabilities, and
 * what must not be drawn is not. */
static void check_distribution(struct sampling o) {
        static float logits[VOCAB];
        static double expected[VOCAB];
        static int seen[VOCAB];
        struct sampler *s;

        some_logits(logits, VOCAB);
        naive_probabilities(expected, logits, VOCAB, &o);
        memset(seen, 0, sizeof(seen));
        assert_int_equal(sampler_new(&s, VOCAB, &o), 0);
        for (int i = 0; i < DRAWS; i++)
                seen[sampler_next(s, logits)]++;
        sampler_free(s);
        for (int i = 0; i < VOCAB; i++) {
                double mean = expected[i] * DRAWS, sd = sqrt(mean * (1 - expected[i]));

                if (expected[i] == 0)
                        assert_int_equal(seen[i], 0);
                if (fabs(seen[i] - mean) > 5 * sd + 5)
                        fail_msg("token %d drawn %d times, expected %.1f +- %.1f", i, seen[i],
                                 mean, sd);
        }
}

static void test_distributions(void **state) {
        static const struct {
                float temperature, top_p, min_p;
                uint32_t top_k;
        } cases[] = {
                {1, 1, 0, 0},       {0.7F, 1, 0, 0},     {1, 1, 0, 40},    {1, 1, 0, 7},
                {1, 0.9F, 0, 0},    {2, 0.999F, 0, 0},   {5, 0.95F, 0, 0}, {1, 0.5F, 0, 40},
                {1, 1, 0.1F, 0},    {0.8F, 1, 0.3F, 40}, {1, 0.9F, 0.2F, 0}, {1, 0.8F, 0.05F, 100},
                {1, 1, 0, VOCAB},   {1, 1, 0, VOCAB + 5}, {100, 1, 0, 599},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct sampling o = plain(cases[i].temperature, i);

                o.top_p = cases[i].top_p;
                o.min_p = cases[i].min_p;
                o.top_k = cases[i].top_k;
                check_distribution(o);
        }
}

/* Among some tokens only: the same choices as from a vocabulary that has no others. */
static void check_mask(struct sampling o, uint32_t every) {
        uint64_t allowed[(VOCAB + 63) / 64] = {0};
        float logits[VOCAB], few[VOCAB];
        int32_t ids[VOCAB];
        uint32_t n = 0;
        struct sampler *masked, *small;

        some_logits(logits, VOCAB);
        for (uint32_t i = 3; i < VOCAB; i += every) {
                allowed[i / 64] |= UINT64_C(1) << (i % 64);
                few[n] = logits[i];
                ids[n++] = (int32_t)i;
        }
        o.masked = true;
        assert_int_equal(sampler_new(&masked, VOCAB, &o), 0);
        assert_int_equal(sampler_new(&small, n, &o), 0);
        for (int i = 0; i < 300; i++)
                assert_int_equal(sampler_next_of(masked, logits, allowed),
                                 ids[sampler_next(small, few)]);
        sampler_free(masked);
        sampler_free(small);
}

static void test_masks(void **state) {
        (void)state;
        for (uint32_t every = 1; every < VOCAB; every = every * 3 + 1) {
                struct sampling o = plain(1, every);

                check_mask(SAMPLING_GREEDY, every);
                check_mask(o, every);
                o.presence_penalty = 1.5F;
                o.dry_multiplier = 0.8F;
                o.dry_base = 1.75F;
                check_mask(o, every);
                o.top_p = 0.9F;
                check_mask(o, every);
                o.top_k = 2;
                check_mask(o, every);
                o.min_p = 0.1F;
                check_mask(o, every);
        }
}

/* Nothing allowed; logits that are no numbers, or so low that nothing else would choose them. */
static void test_strange_masks(void **state) {
        const float logits[] = {NAN, 5, -INFINITY, -1e38F, INFINITY};
        struct sampling o = SAMPLING_GREEDY;

        (void)state;
        o.masked = true;
        for (int hot = 0; hot < 2; hot++) {
                struct sampler *s;

                o.temperature = (float)hot;
                assert_int_equal(sampler_new(&s, 5, &o), 0);
                assert_int_equal(sampler_next_of(s, logits, &(uint64_t){0}), -1);
                for (int i = 0; i < 5; i++)
                        assert_int_equal(sampler_next_of(s, logits, &(uint64_t){1U << i}), i);
                assert_int_equal(sampler_next_of(s, logits, &(uint64_t){0x0d}), 3);
                assert_int_equal(sampler_next_of(s, logits, NULL), 4);
                sampler_free(s);
        }
}

static void draw_many(uint64_t seed, int32_t *out, size_t n) {
        struct sampling o = plain(1.5F, seed);
        float logits[VOCAB];
        struct sampler *s;

        some_logits(logits, VOCAB);
        assert_int_equal(sampler_new(&s, VOCAB, &o), 0);
        for (size_t i = 0; i < n; i++)
                out[i] = sampler_next(s, logits);
        sampler_free(s);
}

/* Same seed, same tokens; and the very tokens of seed 1, which no machine may change. */
static void test_seeds(void **state) {
        static const int32_t seed_1[8] = {501, 472, 47, 471, 115, 384, 586, 341};
        int32_t a[64], b[64], c[64];

        (void)state;
        draw_many(1, a, 64);
        draw_many(1, b, 64);
        draw_many(2, c, 64);
        assert_memory_equal(a, b, sizeof(a));
        assert_memory_not_equal(a, c, sizeof(a));
        for (int i = 0; i < 8; i++)
                assert_int_equal(a[i], seed_1[i]);
}

static void test_repetition(void **state) {
        const float logits[] = {4, 3.5F, -1, -1.05F};
        struct sampling o = SAMPLING_GREEDY;
        struct sampler *s;

        (void)state;
        o.repeat_penalty = 2;
        o.repeat_last = 2;
        assert_int_equal(sampler_new(&s, 4, &o), 0);
        assert_int_equal(sampler_next(s, logits), 0);  /* now 2, 3.5, -1, -1.05 */
        assert_int_equal(sampler_next(s, logits), 1);  /* now 2, 1.75 */
        assert_int_equal(sampler_next(s, logits), 0);  /* window 1, 0: still 2 against 1.75 */
        sampler_accept(s, 2);
        sampler_accept(s, 3);                          /* both have left the window */
        assert_int_equal(sampler_next(s, logits), 0);
        sampler_free(s);

        const float negative[] = {-1, -1.5F};

        assert_int_equal(sampler_new(&s, 2, &o), 0);
        assert_int_equal(sampler_next(s, negative), 0); /* now -2, -1.5 */
        assert_int_equal(sampler_next(s, negative), 1);
        sampler_accept(s, 7); /* no such token: nothing to remember */
        sampler_accept(s, -1);
        sampler_free(s);
}

static void test_presence_and_frequency(void **state) {
        const float logits[] = {4, 3, 2};
        struct sampling o = SAMPLING_GREEDY;
        struct sampler *s;

        (void)state;
        o.frequency_penalty = 0.6F;
        assert_int_equal(sampler_new(&s, 3, &o), 0);
        sampler_accept(s, 0); /* a prompt token does not count */
        assert_int_equal(sampler_next(s, logits), 0); /* 3.4 */
        assert_int_equal(sampler_next(s, logits), 0); /* 2.8 */
        assert_int_equal(sampler_next(s, logits), 1); /* 2.8 against 2.4 */
        assert_int_equal(sampler_next(s, logits), 0); /* 2.2 */
        sampler_free(s);

        o.frequency_penalty = 0;
        o.presence_penalty = 1.5F;
        assert_int_equal(sampler_new(&s, 3, &o), 0);
        assert_int_equal(sampler_next(s, logits), 0); /* 2.5 once and for all */
        assert_int_equal(sampler_next(s, logits), 1); /* 1.5 */
        assert_int_equal(sampler_next(s, logits), 0);
        assert_int_equal(sampler_next(s, logits), 0);
        sampler_free(s);
}

/* With L = 2, the (n + 1)-th zero in a row costs multiplier * base^(n - 1 - L) of what stays 0.5
 * ahead: zeros end after the n of which that is more, whatever the prompt was. */
static void check_loop_ends(float multiplier, int zeros) {
        const float logits[] = {2, 1.5F};
        struct sampling o = SAMPLING_GREEDY;
        struct sampler *s;

        o.dry_multiplier = multiplier;
        o.dry_base = 1.75F;
        o.dry_allowed_length = 2;
        assert_int_equal(sampler_new(&s, 2, &o), 0);
        for (int i = 0; i < 10; i++)
                sampler_accept(s, 0); /* the prompt may repeat itself */
        for (int i = 0; i < zeros; i++)
                assert_int_equal(sampler_next(s, logits), 0);
        assert_int_equal(sampler_next(s, logits), 1);
        sampler_free(s);
}

static void test_loops_end(void **state) {
        (void)state;
        check_loop_ends(0.8F, 4);  /* 0.8 * 1.75 > 0.5 */
        check_loop_ends(0.2F, 5);  /* 0.2 * 1.75 < 0.5 < 0.2 * 1.75^2 */
        check_loop_ends(0.1F, 6);  /* 0.1 * 1.75^2 < 0.5 < 0.1 * 1.75^3 */
}

/* Text far longer than the window that is searched, and repetitions longer than are compared: the
 * penalty stays below 2^32, which a logit of 1e12 outweighs. */
static void test_loops_in_long_text(void **state) {
        float logits[4] = {0};
        struct sampling o = SAMPLING_GREEDY;
        struct sampler *s;

        (void)state;
        o.dry_multiplier = 1;
        o.dry_base = 2;
        o.dry_allowed_length = 1;
        assert_int_equal(sampler_new(&s, 4, &o), 0);
        for (int i = 0; i < 2000; i++) {
                logits[i % 4] = 1e12F;
                assert_int_equal(sampler_next(s, logits), i % 4);
                logits[i % 4] = 0;
        }
        sampler_free(s);
}

/* Hopeless logits must end in some token, not in a loop or a crash. */
static void test_strange_logits(void **state) {
        float logits[VOCAB];

        (void)state;
        for (int kind = 0; kind < 4; kind++) {
                for (int i = 0; i < VOCAB; i++)
                        logits[i] = kind == 0   ? NAN
                                    : kind == 1 ? -INFINITY
                                    : kind == 2 ? INFINITY
                                                : (i == 17 ? 0 : -INFINITY);
                for (uint32_t k = 0; k < 3; k++) {
                        struct sampling o = plain(0.5F, k);
                        int32_t token;

                        o.top_k = k * 20;
                        o.top_p = k == 1 ? 1 : 0.9F;
                        token = next_of(&o, logits, VOCAB);
                        assert_in_range(token, 0, VOCAB - 1);
                        if (kind == 3)
                                assert_int_equal(token, 17);
                }
        }
}

static void test_refused_options(void **state) {
        struct sampling bad[11];
        struct sampler *s = NULL;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                bad[i] = plain(1, 0);
        bad[0].temperature = -1;
        bad[1].temperature = NAN;
        bad[2].top_p = 0;
        bad[3].top_p = 1.5F;
        bad[4].min_p = -0.1F;
        bad[5].repeat_penalty = 0;
        bad[6].repeat_last = UINT32_MAX;
        bad[7].presence_penalty = INFINITY;
        bad[8].top_p = NAN;
        bad[9].dry_multiplier = NAN;
        bad[10].dry_multiplier = 1;
        bad[10].dry_base = 5;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(sampler_new(&s, 10, &bad[i]), -EINVAL);
        bad[0] = plain(1, 0);
        assert_int_equal(sampler_new(&s, 0, &bad[0]), -EINVAL);
        assert_null(s);
        assert_null(sampler_free(NULL));
}

/* Against the C library in double; the token itself is the same number as among the best. */
static void test_odds(void **state) {
        float logits[VOCAB];
        struct token_odds odds[1 + ODDS_TOP_MAX];
        double sum = 0, mass = 0;

        (void)state;
        some_logits(logits, VOCAB);
        for (int i = 0; i < VOCAB; i++)
                sum += exp((double)logits[i]);
        for (int i = 0; i < VOCAB; i++) {
                sampler_odds(logits, VOCAB, i, 0, odds);
                assert_int_equal(odds[0].token, i);
                assert_true(fabs(odds[0].logprob - ((double)logits[i] - log(sum))) < 1e-6);
                mass += exp(odds[0].logprob);
        }
        assert_true(fabs(mass - 1) < 1e-6);
        sampler_odds(logits, VOCAB, 7, ODDS_TOP_MAX, odds);
        for (int i = 1; i <= ODDS_TOP_MAX; i++) {
                struct token_odds alone;

                sampler_odds(logits, VOCAB, odds[i].token, 0, &alone);
                assert_true(alone.logprob == odds[i].logprob);
                assert_true(i == 1 || odds[i - 1].logprob > odds[i].logprob ||
                            (odds[i - 1].logprob == odds[i].logprob &&
                             odds[i - 1].token < odds[i].token));
        }
}

static void test_odds_of_strange_logits(void **state) {
        const float few[] = {NAN, 3, -INFINITY, 3, -1e30F}, none[] = {NAN, NAN};
        struct token_odds odds[3];

        (void)state;
        sampler_odds(few, 5, 3, 2, odds);
        assert_true(fabs(odds[0].logprob + log(2)) < 1e-12);
        assert_int_equal(odds[1].token, 1);
        assert_int_equal(odds[2].token, 3);
        for (int32_t i = 0; i < 5; i += 2) {
                sampler_odds(few, 5, i, 0, odds);
                assert_true(odds[0].logprob == ODDS_LEAST);
        }
        sampler_odds(none, 2, 0, 2, odds);
        assert_true(odds[0].logprob == ODDS_LEAST && odds[2].logprob == ODDS_LEAST);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_greedy),
                cmocka_unit_test(test_one_candidate_is_greedy),
                cmocka_unit_test(test_distributions),
                cmocka_unit_test(test_masks),
                cmocka_unit_test(test_strange_masks),
                cmocka_unit_test(test_seeds),
                cmocka_unit_test(test_repetition),
                cmocka_unit_test(test_presence_and_frequency),
                cmocka_unit_test(test_loops_end),
                cmocka_unit_test(test_loops_in_long_text),
                cmocka_unit_test(test_strange_logits),
                cmocka_unit_test(test_refused_options),
                cmocka_unit_test(test_odds),
                cmocka_unit_test(test_odds_of_strange_logits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
