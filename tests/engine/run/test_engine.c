/* The engine on small random models: results are the same bits whatever else is in the step,
 * however a prompt is cut, on any number of threads and any instruction set; a step that fails
 * leaves every sequence as it was; budgets hold and memory is wiped. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/run/engine.h"
#include "engine/run/state.h"
#include "kernels/cpu.h"
#include "tests/engine/run/random_model.h"

enum { LENGTH = 71, OTHERS = 7, KV_TOKENS = 2048 };

struct setup {
        struct model *model;
        struct kernel_ops ops;
        struct pool *pool;
        struct engine *engine;
};

static size_t page_bytes(const struct hparams *hp) {
        return kv_bytes_of(hp, KV_S16, KV_PAGE);
}

static void start(struct setup *s, enum random_model_kind kind, unsigned threads, const char *cpu) {
        unsigned mask;

        s->model = random_model_new(kind);
        assert_int_equal(cpu_mask_parse(cpu, &mask), 0);
        kernel_ops_init(&s->ops, cpu_flags(mask));
        assert_int_equal(pool_new(&s->pool, threads), 0);
        assert_int_equal(engine_new(&s->engine, s->model, &s->ops, s->pool, KV_S16,
                                    KV_TOKENS / KV_PAGE * page_bytes(&s->model->hp)), 0);
}

static void finish(struct setup *s) {
        assert_null(engine_free(s->engine));
        assert_null(pool_free(s->pool));
        random_model_free(s->model);
}

static int32_t token_at(size_t sequence, size_t position) {
        return (int32_t)((sequence * 97 + position * 31 + position * position) % 331);
}

/* Add rows [from, to) of sequence `number` to a step. */
static size_t add_rows(struct engine_row *rows, size_t n, struct sequence *seq, size_t number,
                       size_t from, size_t to) {
        for (size_t i = from; i < to; i++)
                rows[n++] = (struct engine_row){seq, token_at(number, i), true};
        return n;
}

/* Sequence 0 alone, `chunk` tokens in a step; logits [LENGTH, n_vocab]. */
static void run_alone(struct setup *s, size_t chunk, float *out) {
        size_t v = s->model->hp.n_vocab;
        struct engine_row rows[LENGTH];
        const float *logits[LENGTH];
        struct sequence *seq;

        assert_int_equal(sequence_new(&seq, s->engine, LENGTH), 0);
        for (size_t at = 0; at < LENGTH; at += chunk) {
                size_t to = MIN(at + chunk, (size_t)LENGTH);
                size_t n = add_rows(rows, 0, seq, 0, at, to);

                assert_int_equal(engine_step(s->engine, rows, n, logits, NULL), 0);
                for (size_t i = 0; i < n; i++)
                        memcpy(out + (at + i) * v, logits[i], v * sizeof(*out));
                assert_int_equal(sequence_length(seq), to);
        }
        assert_null(sequence_free(seq));
}

/* Sequence 0 in uneven pieces, in the middle of seven others that come in pieces of other sizes;
 * only it wants logits. */
static void run_in_company(struct setup *s, float *out) {
        static const size_t pieces[] = {1, 5, 2, 30, 1, 1, 31};
        size_t v = s->model->hp.n_vocab, at = 0, other_at[OTHERS] = {0};
        struct sequence *seq, *others[OTHERS];
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[ENGINE_MAX_ROWS];

        assert_int_equal(sequence_new(&seq, s->engine, LENGTH), 0);
        for (size_t i = 0; i < OTHERS; i++)
                assert_int_equal(sequence_new(&others[i], s->engine, 200), 0);
        for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
                size_t n = 0;

                for (size_t i = 0; i < OTHERS; i++) {
                        size_t more = (p * 5 + i * 3) % 20;

                        if (i == 3)
                                n = add_rows(rows, n, seq, 0, at, at + pieces[p]);
                        n = add_rows(rows, n, others[i], i + 1, other_at[i], other_at[i] + more);
                        other_at[i] += more;
                }
                for (size_t i = 0; i < n; i++)
                        rows[i].want_logits = rows[i].seq == seq;
                assert_int_equal(engine_step(s->engine, rows, n, logits, NULL), 0);
                for (size_t i = 0; i < pieces[p]; i++)
                        memcpy(out + (at + i) * v, logits[i], v * sizeof(*out));
                at += pieces[p];
        }
        assert_int_equal(at, LENGTH);
        sequence_free(seq);
        for (size_t i = 0; i < OTHERS; i++)
                sequence_free(others[i]);
}

static void check_same(const char *what, const float *a, const float *b, size_t n_vocab) {
        for (size_t i = 0; i < LENGTH * n_vocab; i++)
                if (memcmp(&a[i], &b[i], sizeof(*a)) != 0)
                        fail_msg("%s: position %zu, logit %zu: %a instead of %a", what,
                                 i / n_vocab, i % n_vocab, (double)b[i], (double)a[i]);
}

static void check_everywhere(enum random_model_kind kind, unsigned threads, const char *cpu,
                             const float *expected, float *out) {
        static const size_t chunks[] = {1, 7, 33, LENGTH};
        char what[64];
        struct setup s;

        start(&s, kind, threads, cpu);
        for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
                snprintf(what, sizeof(what), "kind %d, %s, %u threads, chunks of %zu", kind, cpu,
                         threads, chunks[i]);
                run_alone(&s, chunks[i], out);
                check_same(what, expected, out, s.model->hp.n_vocab);
        }
        snprintf(what, sizeof(what), "kind %d, %s, %u threads, in company", kind, cpu, threads);
        run_in_company(&s, out);
        check_same(what, expected, out, s.model->hp.n_vocab);
        finish(&s);
}

/* Logits that do not vary, or are not numbers, would make the comparison say nothing. */
static void check_plausible(const float *logits, size_t n_vocab) {
        double sum = 0, squares = 0, n = (double)(LENGTH * n_vocab);

        for (size_t i = 0; i < LENGTH * n_vocab; i++) {
                assert_true(isfinite(logits[i]));
                sum += (double)logits[i];
                squares += (double)logits[i] * (double)logits[i];
        }
        if (!(squares / n - sum / n * (sum / n) > 0.01))
                fail_msg("logits vary by %g only", squares / n - sum / n * (sum / n));
        assert_memory_not_equal(logits, logits + n_vocab, n_vocab * sizeof(*logits));
}

static void check_kind(enum random_model_kind kind) {
        static const char *levels[] = {"c", "avx2", "avxvnni", "avx512vl", "avx512vnni",
                                       "avx512vbmi"};
        unsigned tried = CPU_ALL;
        struct setup s;
        size_t size;
        float *expected, *out;

        start(&s, kind == RANDOM_BASE3 ? RANDOM_BITNET : kind, 1, "c");
        size = LENGTH * s.model->hp.n_vocab * sizeof(*expected);
        expected = malloc(size);
        out = malloc(size);
        assert_true(expected && out);
        run_alone(&s, 1, expected);
        check_plausible(expected, s.model->hp.n_vocab);
        finish(&s);
        for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
                unsigned mask, flags;

                assert_int_equal(cpu_mask_parse(levels[i], &mask), 0);
                flags = cpu_flags(mask);
                if (flags != tried) /* else this machine lacks the level: it has been here */
                        check_everywhere(kind, 2, levels[i], expected, out);
                tried = flags;
        }
        check_everywhere(kind, 1, "all", expected, out);
        check_everywhere(kind, 3, "all", expected, out);
        free(expected);
        free(out);
}

static void test_same_bits_bitnet(void **state) {
        (void)state;
        check_kind(RANDOM_BITNET);
}

/* Which is to say, the same as with 2 bits a weight. */
static void test_same_bits_base3(void **state) {
        (void)state;
        check_kind(RANDOM_BASE3);
}

static void test_same_bits_planes(void **state) {
        (void)state;
        check_kind(RANDOM_PLANES);
}

static void test_same_bits_mixed(void **state) {
        (void)state;
        check_kind(RANDOM_MIXED);
}

/* Memory that was used before, here filled with NaN, must not be looked at. */
static void test_old_memory_does_not_matter(void **state) {
        struct setup s;
        float *expected, *out;
        size_t size;

        (void)state;
        start(&s, RANDOM_PLANES, 2, "all");
        size = LENGTH * s.model->hp.n_vocab * sizeof(*out);
        expected = malloc(size);
        out = malloc(size);
        assert_true(expected && out);
        run_alone(&s, LENGTH, expected);
        memset(s.engine->kv.arena.base, 0xff, s.engine->kv.arena.size);
        memset(s.engine->run.h, 0xff, (size_t)((uint8_t *)s.engine->run.logits -
                                               (uint8_t *)s.engine->run.h));
        run_alone(&s, 9, out);
        check_same("over NaN", expected, out, s.model->hp.n_vocab);
        free(expected);
        free(out);
        finish(&s);
}

/* The flag goes up while a layer is being computed: hook an operation and count. */
static int flag, adds_left;
static add_fn *real_add;

static void counting_add(float *y, const float *x, size_t n) {
        if (adds_left > 0 && --adds_left == 0)
                flag = 1;
        real_add(y, x, n);
}

static void test_cancel(void **state) {
        struct engine_row rows[20];
        const float *logits[20];
        float before[331], after[331];
        struct sequence *seq;
        struct setup s;

        (void)state;
        start(&s, RANDOM_BITNET, 1, "all");
        real_add = s.ops.add;
        s.ops.add = counting_add;
        assert_int_equal(sequence_new(&seq, s.engine, 60), 0);
        add_rows(rows, 0, seq, 0, 0, 20);
        assert_int_equal(engine_step(s.engine, rows, 20, logits, &flag), 0);
        add_rows(rows, 0, seq, 0, 20, 30);
        assert_int_equal(engine_step(s.engine, rows, 10, logits, &flag), 0);
        memcpy(before, logits[9], sizeof(before));
        sequence_truncate(seq, 20);
        assert_int_equal(sequence_length(seq), 20);

        adds_left = 25; /* in the second layer: two additions a row and layer, ten rows */
        assert_int_equal(engine_step(s.engine, rows, 10, logits, &flag), -ECANCELED);
        assert_int_equal(adds_left, 0);
        assert_int_equal(sequence_length(seq), 20);
        assert_int_equal(engine_step(s.engine, rows, 10, logits, &flag), -ECANCELED);
        flag = 0;
        assert_int_equal(engine_step(s.engine, rows, 10, logits, &flag), 0);
        assert_int_equal(sequence_length(seq), 30);
        memcpy(after, logits[9], sizeof(after));
        assert_memory_equal(before, after, sizeof(before));
        sequence_free(seq);
        finish(&s);
}

static void test_refused_steps(void **state) {
        struct engine_row rows[ENGINE_MAX_ROWS + 1];
        const float *logits[ENGINE_MAX_ROWS];
        struct sequence *a, *b, *stranger;
        struct setup s, other;

        (void)state;
        start(&s, RANDOM_BITNET, 2, "all");
        start(&other, RANDOM_BITNET, 1, "all");
        assert_int_equal(sequence_new(&a, s.engine, 10), 0);
        assert_int_equal(sequence_new(&b, s.engine, 200), 0);
        assert_int_equal(sequence_new(&stranger, other.engine, 10), 0);
        add_rows(rows, 0, b, 0, 0, 5);
        add_rows(rows, 5, a, 1, 0, 11);
        assert_int_equal(engine_step(s.engine, rows, 16, logits, NULL), -ENOSPC);
        rows[4].token = 331;
        assert_int_equal(engine_step(s.engine, rows, 5, logits, NULL), -EINVAL);
        rows[4].token = -1;
        assert_int_equal(engine_step(s.engine, rows, 5, logits, NULL), -EINVAL);
        rows[4] = (struct engine_row){stranger, 1, true};
        assert_int_equal(engine_step(s.engine, rows, 5, logits, NULL), -EINVAL);
        assert_int_equal(engine_step(s.engine, rows, ENGINE_MAX_ROWS + 1, logits, NULL), -EINVAL);
        assert_int_equal(sequence_length(a), 0);
        assert_int_equal(sequence_length(b), 0);
        assert_int_equal(engine_step(s.engine, rows, 0, logits, NULL), 0);
        /* and after all that, the same sequences still work */
        assert_int_equal(engine_step(s.engine, rows, 4, logits, NULL), 0);
        assert_int_equal(engine_step(s.engine, rows + 5, 10, logits, NULL), 0);
        assert_int_equal(sequence_length(a), 10);
        assert_int_equal(engine_step(s.engine, rows + 5, 1, logits, NULL), -ENOSPC);
        sequence_free(a);
        sequence_free(b);
        sequence_free(stranger);
        finish(&other);
        finish(&s);
}

static void test_budget_and_wiping(void **state) {
        struct engine_row rows[100];
        const float *logits[100];
        struct sequence *seq, *rest;
        struct setup s;
        size_t all, bytes;

        (void)state;
        start(&s, RANDOM_PLANES, 2, "all");
        all = engine_kv_free(s.engine);
        assert_int_equal(all, KV_TOKENS / KV_PAGE * page_bytes(&s.model->hp));
        assert_int_equal(engine_kv_bytes(s.engine, 0), 0);
        assert_int_equal(engine_kv_bytes(s.engine, 33), 2 * page_bytes(&s.model->hp));
        assert_int_equal(engine_kv_bytes(s.engine, SIZE_MAX / 2), SIZE_MAX);
        assert_int_equal(sequence_new(&seq, s.engine, 257), -E2BIG);
        assert_int_equal(sequence_new(&seq, s.engine, 256), 0);
        assert_int_equal(all - engine_kv_free(s.engine), engine_kv_bytes(s.engine, 256));
        for (int i = 1; i < KV_TOKENS / 256; i++) {
                assert_int_equal(sequence_new(&rest, s.engine, 256), 0);
                rest->written = 0;
                /* leak it for a moment: its pages are what makes the budget run out */
                rows[i] = (struct engine_row){rest, 0, false};
        }
        assert_int_equal(sequence_new(&rest, s.engine, 1), -ENOSPC);
        for (int i = 1; i < KV_TOKENS / 256; i++)
                sequence_free(rows[i].seq);

        add_rows(rows, 0, seq, 0, 0, 100);
        assert_int_equal(engine_step(s.engine, rows, 100, logits, NULL), 0);
        sequence_truncate(seq, 3); /* what was written past the end must go as well */
        sequence_free(seq);
        assert_int_equal(engine_kv_free(s.engine), all);
        bytes = s.engine->kv.arena.size;
        for (size_t i = 0; i < bytes; i++)
                if (s.engine->kv.arena.base[i] != 0)
                        fail_msg("byte %zu of the KV cache is %u", i, s.engine->kv.arena.base[i]);
        finish(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_bits_bitnet),
                cmocka_unit_test(test_same_bits_base3),
                cmocka_unit_test(test_same_bits_planes),
                cmocka_unit_test(test_same_bits_mixed),
                cmocka_unit_test(test_old_memory_does_not_matter),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_refused_steps),
                cmocka_unit_test(test_budget_and_wiping),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
