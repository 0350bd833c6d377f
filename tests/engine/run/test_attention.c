/* Attention over several blocks of keys: the same bits whether a task is a block or all of them,
 * for every chunk, thread count and instruction set, alone and beside other sequences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/run/engine.h"
#include "engine/run/state.h"
#include "kernels/cpu.h"
#include "tests/engine/run/random_model.h"

enum {
        LENGTH = 2 * ATTENTION_BLOCK + 50,
        BEFORE = ATTENTION_BLOCK - 3, /* where sequences that go side by side begin to */
        TOGETHER = 6,
        N_SEQUENCES = 4,
        N_VOCAB = 331,
        PROBES = 20,
};

/* Positions whose logits are compared: around the borders of blocks, and the last. */
static const size_t probes[PROBES] = {0,   1,   31,  32,  100, 253, 254, 255, 256, 257,
                                      258, 300, 450, 510, 511, 512, 513, 540, 560, LENGTH - 1};

struct setup {
        struct model *model;
        struct kernel_ops ops;
        struct pool *pool;
        struct engine *engine;
};

struct result {
        float logits[PROBES][N_VOCAB];
};

static void start(struct setup *s, enum random_model_kind kind, enum kv_form form, unsigned threads,
                  const char *cpu) {
        size_t page;
        unsigned mask;

        s->model = random_model_new(kind);
        s->model->hp.n_ctx = 1024;
        page = kv_bytes_of(&s->model->hp, form, KV_PAGE);
        assert_int_equal(cpu_mask_parse(cpu, &mask), 0);
        kernel_ops_init(&s->ops, cpu_flags(mask));
        assert_int_equal(pool_new(&s->pool, threads), 0);
        assert_int_equal(engine_new(&s->engine, s->model, &s->ops, s->pool, form,
                                    80 * page), 0);
}

static void finish(struct setup *s) {
        assert_null(engine_free(s->engine));
        assert_null(pool_free(s->pool));
        random_model_free(s->model);
}

static int32_t token_at(size_t sequence, size_t position) {
        return (int32_t)((sequence * 97 + position * 31 + position * position) % N_VOCAB);
}

/* Positions [from, to) of a sequence in chunks; the probes among them into ret. */
static void run(struct setup *s, struct sequence *seq, size_t number, size_t from, size_t to,
                size_t chunk, struct result *ret) {
        static struct engine_row rows[ENGINE_MAX_ROWS];
        static const float *logits[ENGINE_MAX_ROWS];

        for (size_t at = from; at < to; at += chunk) {
                size_t n = MIN(chunk, to - at);

                for (size_t i = 0; i < n; i++)
                        rows[i] = (struct engine_row){seq, token_at(number, at + i), true};
                assert_int_equal(engine_step(s->engine, rows, n, logits, NULL), 0);
                for (size_t p = 0; p < PROBES; p++)
                        if (probes[p] >= at && probes[p] < at + n)
                                memcpy(ret->logits[p], logits[probes[p] - at],
                                       sizeof(ret->logits[p]));
        }
}

static void run_alone(struct setup *s, size_t chunk, struct result *ret) {
        struct sequence *seq;

        assert_int_equal(sequence_new(&seq, s->engine, LENGTH), 0);
        run(s, seq, 0, 0, LENGTH, chunk, ret);
        assert_null(sequence_free(seq));
}

/* Sequences of different lengths take single steps together over the border of a block. */
static void run_together(struct setup *s, struct result *ret) {
        struct sequence *seq[N_SEQUENCES];
        struct engine_row rows[N_SEQUENCES];
        const float *logits[1];
        static struct result unused;

        for (size_t i = 0; i < N_SEQUENCES; i++) {
                assert_int_equal(sequence_new(&seq[i], s->engine, LENGTH), 0);
                run(s, seq[i], i, 0, BEFORE + i * 90, 111, i == 0 ? ret : &unused);
        }
        for (size_t step = 0; step < TOGETHER; step++) {
                for (size_t i = 0; i < N_SEQUENCES; i++)
                        rows[i] = (struct engine_row){
                                seq[i], token_at(i, BEFORE + i * 90 + step), i == 0};
                assert_int_equal(engine_step(s->engine, rows, N_SEQUENCES, logits, NULL), 0);
                for (size_t p = 0; p < PROBES; p++)
                        if (probes[p] == BEFORE + step)
                                memcpy(ret->logits[p], logits[0], sizeof(ret->logits[p]));
        }
        run(s, seq[0], 0, BEFORE + TOGETHER, LENGTH, 17, ret);
        for (size_t i = 0; i < N_SEQUENCES; i++)
                sequence_free(seq[i]);
}

static void check_same(const char *how, const char *cpu, unsigned threads, size_t chunk,
                       const struct result *a, const struct result *b) {
        for (size_t p = 0; p < PROBES; p++)
                for (size_t i = 0; i < N_VOCAB; i++)
                        if (memcmp(&a->logits[p][i], &b->logits[p][i], sizeof(float)) != 0)
                                fail_msg("%s, %s, %u threads, chunks of %zu: position %zu,"
                                         " logit %zu: %a instead of %a", how, cpu, threads, chunk,
                                         probes[p], i, (double)b->logits[p][i],
                                         (double)a->logits[p][i]);
}

static void check_kind(enum random_model_kind kind, enum kv_form form) {
        static const struct {
                const char *cpu;
                unsigned threads;
                size_t chunk;
        } ways[] = {{"avx2", 1, 1},   {"avx2", 2, 6}, {"all", 2, 1}, {"all", 3, 64},
                    {"all", 7, 400}, {"all", 1, 6}, {"c", 2, 64}};
        static struct result expected, got;
        struct setup s;

        start(&s, kind, form, 1, "all");
        run_alone(&s, 100, &expected);
        finish(&s);
        for (size_t p = 1; p < PROBES; p++) {
                assert_true(isfinite(expected.logits[p][0]));
                assert_memory_not_equal(expected.logits[p], expected.logits[p - 1],
                                        sizeof(expected.logits[p]));
        }
        for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                start(&s, kind, form, ways[w].threads, ways[w].cpu);
                memset(&got, 0, sizeof(got));
                run_alone(&s, ways[w].chunk, &got);
                check_same("alone", ways[w].cpu, ways[w].threads, ways[w].chunk, &expected, &got);
                memset(&got, 0, sizeof(got));
                run_together(&s, &got);
                check_same("together", ways[w].cpu, ways[w].threads, 1, &expected, &got);
                finish(&s);
        }
}

static void test_bitnet(void **state) {
        (void)state;
        check_kind(RANDOM_BITNET, KV_F16);
}

static void test_bitnet_s8(void **state) {
        (void)state;
        check_kind(RANDOM_BITNET, KV_S8);
}

static void test_bitnet_s16(void **state) {
        (void)state;
        check_kind(RANDOM_BITNET, KV_S16);
}

static void test_mixed(void **state) {
        (void)state;
        check_kind(RANDOM_MIXED, KV_F16);
}

static void test_mixed_s16(void **state) {
        (void)state;
        check_kind(RANDOM_MIXED, KV_S16);
}

static void test_mixed_s8(void **state) {
        (void)state;
        check_kind(RANDOM_MIXED, KV_S8);
}

/* What was stored behind the end of a sequence, here NaN everywhere, must not be looked at. */
static void check_old_keys(enum kv_form form) {
        static struct result expected, got;
        struct setup s;

        start(&s, RANDOM_BITNET, form, 2, "all");
        run_alone(&s, 90, &expected);
        for (size_t chunk = 1; chunk <= 301; chunk += 150) {
                memset(s.engine->kv.arena.base, 0xff, s.engine->kv.arena.size);
                run_alone(&s, chunk, &got);
                check_same("over NaN", "all", 2, chunk, &expected, &got);
        }
        memset(s.engine->kv.arena.base, 0, s.engine->kv.arena.size);
        finish(&s);
}

static void test_old_keys_do_not_matter(void **state) {
        (void)state;
        check_old_keys(KV_F16);
        check_old_keys(KV_S16);
        check_old_keys(KV_S8);
}

/* How far the logits are from those with f16, as a share of their size. */
static double distance_from_f16(enum random_model_kind kind, enum kv_form form) {
        static struct result exact, close;
        double difference = 0, size = 0;
        struct setup s;

        start(&s, kind, KV_F16, 2, "all");
        run_alone(&s, 90, &exact);
        finish(&s);
        start(&s, kind, form, 2, "all");
        run_alone(&s, 90, &close);
        finish(&s);
        for (size_t p = 0; p < PROBES; p++)
                for (size_t i = 0; i < N_VOCAB; i++) {
                        double a = (double)exact.logits[p][i], b = (double)close.logits[p][i];

                        difference += (a - b) * (a - b);
                        size += a * a;
                }
        return sqrt(difference / size);
}

static void check_close(enum random_model_kind kind, double s16_limit, double s8_limit,
                        double apart) {
        double s16 = distance_from_f16(kind, KV_S16), s8 = distance_from_f16(kind, KV_S8);

        if (s16 <= 0 || s16 > s16_limit || s8 <= apart * s16 || s8 > s8_limit)
                fail_msg("kind %d: 16-bit keys and values change the logits by %g of their size,"
                         " 8-bit ones by %g", kind, s16, s8);
}

/* Integers change the logits a little, and only a little. Where activations are rounded to 8 bits,
 * any difference becomes whole steps of those; where they are not, that of keys and values. */
static void test_integers_are_close(void **state) {
        (void)state;
        check_close(RANDOM_BITNET, 0.03, 0.05, 0);
        check_close(RANDOM_FLOAT, 1.6e-3, 0.03, 3);
}

/* Both ways of cutting up must have been taken, or the tests above say less than they claim. */
static void test_plans(void **state) {
        static struct step s;
        struct setup setup;
        struct sequence *seq;

        (void)state;
        start(&setup, RANDOM_BITNET, KV_S16, 2, "all");
        assert_int_equal(sequence_new(&seq, setup.engine, 1000), 0);
        for (uint32_t n = 1; n <= 400; n++) {
                static struct engine_row rows[400];
                uint32_t row = 0;

                s = (struct step){.e = setup.engine, .rows = rows, .n = n};
                for (uint32_t i = 0; i < n; i++) {
                        rows[i].seq = seq;
                        s.positions[i] = 500 + i;
                }
                plan_attention(&s);
                for (uint32_t g = 0; g < s.attention.n_groups; g++) {
                        assert_int_equal(s.attention.groups[g].row, row);
                        row += s.attention.groups[g].n;
                        assert_int_equal(s.attention.groups[g].keys, 500 + row);
                }
                assert_int_equal(row, n);
                assert_true(s.attention.split || s.attention.n_groups * 2 >= SPLIT_BELOW * 2);
                if (n <= 100 || n >= 300)
                        assert_int_equal(s.attention.split, n <= 100);
        }
        sequence_free(seq);
        finish(&setup);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bitnet),
                cmocka_unit_test(test_mixed),
                cmocka_unit_test(test_bitnet_s16),
                cmocka_unit_test(test_bitnet_s8),
                cmocka_unit_test(test_mixed_s16),
                cmocka_unit_test(test_mixed_s8),
                cmocka_unit_test(test_old_keys_do_not_matter),
                cmocka_unit_test(test_integers_are_close),
                cmocka_unit_test(test_plans),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
