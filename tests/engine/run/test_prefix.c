/* Pages that outlive their sequence: what is computed after them has the same bits as without, they
 * stay with their owner, never cost anybody memory, and are wiped when they go. */
#include <errno.h>
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

enum { LENGTH = 150, PAGES = 24, ALICE = 1, BOB = 2 };
#define CAROL (ENGINE_OWNER_LASTING | 3)

static struct model *model;
static struct kernel_ops ops;
static struct pool *pool;
static struct engine *engine;

static void start(enum random_model_kind kind) {
        const struct hparams *hp;

        model = random_model_new(kind);
        hp = &model->hp;
        kernel_ops_init(&ops, cpu_flags(CPU_ALL));
        assert_int_equal(pool_new(&pool, 2), 0);
        assert_int_equal(engine_new(&engine, model, &ops, pool, KV_S16,
                                    kv_bytes_of(hp, KV_S16, (size_t)PAGES * KV_PAGE)), 0);
}

/* Nobody holds anything: no memory is missing, and nothing is left in it. */
static void finish(void) {
        engine_drop_prefixes(engine);
        assert_int_equal(engine->kv.n_free, PAGES);
        for (size_t i = 0; i < engine->kv.arena.size; i++)
                if (engine->kv.arena.base[i] != 0)
                        fail_msg("byte %zu of the KV cache is %u", i, engine->kv.arena.base[i]);
        for (size_t i = 0; i < PAGES * sizeof(*engine->prefixes.nodes); i++)
                assert_int_equal(((uint8_t *)engine->prefixes.nodes)[i], 0);
        engine_free(engine);
        pool_free(pool);
        random_model_free(model);
}

/* Texts of one family agree up to its number of tokens, texts of different families nowhere. */
static void make_text(int32_t *ids, size_t common, unsigned text) {
        for (size_t i = 0; i < LENGTH; i++)
                ids[i] = (int32_t)((common * 13 + i * 31 + i * i +
                                    (i < common ? 0 : text * 97 + 5)) % 331);
}

static struct sequence *resume(uint64_t owner, const int32_t *ids, size_t n) {
        struct sequence *s;

        assert_int_equal(sequence_resume(&s, engine, owner, ids, n, n), 0);
        return s;
}

/* Read ids up to n in chunks; the logits of the last one, valid until the next step. */
static const float *read_ids(struct sequence *s, const int32_t *ids, size_t n, size_t chunk) {
        struct engine_row rows[LENGTH];
        const float *logits[LENGTH] = {0};

        while (sequence_length(s) < n) {
                size_t at = sequence_length(s), m = MIN(n - at, chunk);

                for (size_t i = 0; i < m; i++)
                        rows[i] = (struct engine_row){s, ids[at + i], i + 1 == m};
                assert_int_equal(engine_step(engine, rows, m, logits, NULL), 0);
                sequence_share(s);
        }
        return logits[0];
}

/* The logits after n ids, read by a sequence that shares nothing. */
static void read_alone(const int32_t *ids, size_t n, float *out) {
        struct sequence *s;

        assert_int_equal(sequence_new(&s, engine, n), 0);
        memcpy(out, read_ids(s, ids, n, LENGTH), model->hp.n_vocab * sizeof(*out));
        sequence_free(s);
}

static void check_logits(const float *expected, const float *got) {
        assert_non_null(got);
        assert_memory_equal(expected, got, model->hp.n_vocab * sizeof(*got));
}

static void check_same_bits(enum random_model_kind kind) {
        static const size_t lengths[] = {33, 64, 65, 97, 128, LENGTH};
        float expected[331];
        int32_t ids[LENGTH];

        start(kind);
        make_text(ids, 0, 1);
        sequence_free(resume(ALICE, ids, LENGTH)); /* nothing was read, so nothing is kept */
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                struct sequence *s;

                read_alone(ids, lengths[i], expected);
                s = resume(ALICE, ids, lengths[i]);
                check_logits(expected, read_ids(s, ids, lengths[i], 7 + i));
                sequence_free(s);
                s = resume(ALICE, ids, lengths[i]);
                assert_int_equal(sequence_length(s), (lengths[i] - 1) / KV_PAGE * KV_PAGE);
                check_logits(expected, read_ids(s, ids, lengths[i], LENGTH));
                sequence_free(s);
        }
        finish();
}

static void test_same_bits(void **state) {
        (void)state;
        for (int kind = 0; kind < _RANDOM_MODEL_MAX; kind++)
                check_same_bits((enum random_model_kind)kind);
}

static size_t found(uint64_t owner, const int32_t *ids) {
        struct sequence *s = resume(owner, ids, LENGTH);
        size_t n = sequence_length(s);

        sequence_free(s);
        return n;
}

static void test_owners_and_beginnings(void **state) {
        int32_t ids[LENGTH], other[LENGTH], strange[LENGTH];
        struct sequence *s;

        (void)state;
        start(RANDOM_BITNET);
        make_text(ids, 70, 1);
        make_text(other, 70, 2);
        make_text(strange, 0, 3);
        s = resume(ALICE, ids, LENGTH);
        read_ids(s, ids, LENGTH, 50);
        assert_int_equal(found(ALICE, ids), 128); /* while the first one still lives */
        sequence_free(s);
        assert_int_equal(found(ALICE, ids), 128);
        assert_int_equal(found(ALICE, other), 64);
        assert_int_equal(found(ALICE, strange), 0);
        assert_int_equal(found(BOB, ids), 0);
        engine_drop_prefixes(engine);
        assert_int_equal(found(ALICE, ids), 0);
        finish();
}

static void test_refused(void **state) {
        int32_t ids[LENGTH];
        struct sequence *s;

        (void)state;
        start(RANDOM_BITNET);
        make_text(ids, 0, 1);
        assert_int_equal(sequence_resume(&s, engine, 0, ids, 5, 5), -EINVAL);
        assert_int_equal(sequence_resume(&s, engine, ALICE, ids, 0, 5), -EINVAL);
        assert_int_equal(sequence_resume(&s, engine, ALICE, ids, 6, 5), -EINVAL);
        assert_int_equal(sequence_resume(&s, engine, ALICE, ids, 5, model->hp.n_ctx + 1), -E2BIG);
        s = resume(ALICE, ids, 70);
        read_ids(s, ids, 70, 70);
        assert_int_equal(sequence_truncate(s, 63), -EINVAL);
        assert_int_equal(sequence_length(s), 70);
        assert_int_equal(sequence_truncate(s, 64), 0);
        assert_int_equal(sequence_length(s), 64);
        assert_int_equal(sequence_truncate(s, 80), 0);
        assert_int_equal(sequence_length(s), 64);
        sequence_free(s);
        finish();
}

/* Two that read the same at the same time end up on the same pages. */
static void test_equal_pages_meet(void **state) {
        float expected[331];
        struct sequence *a, *b;
        int32_t ids[LENGTH];

        (void)state;
        start(RANDOM_PLANES);
        make_text(ids, 0, 1);
        read_alone(ids, LENGTH, expected);
        a = resume(ALICE, ids, LENGTH);
        b = resume(ALICE, ids, LENGTH);
        assert_int_equal(sequence_length(b), 0);
        read_ids(a, ids, 100, 9);
        read_ids(b, ids, 110, 11);
        for (size_t i = 0; i < 3; i++)
                assert_ptr_equal(a->pages[i], b->pages[i]);
        assert_ptr_not_equal(a->pages[3], b->pages[3]);
        assert_int_equal(engine->kv.n_free, PAGES - 2 * kv_pages_of(LENGTH) + 3);
        engine_drop_prefixes(engine); /* what they hold they keep */
        check_logits(expected, read_ids(a, ids, LENGTH, 20));
        check_logits(expected, read_ids(b, ids, LENGTH, 3));
        sequence_free(a);
        sequence_free(b);
        finish();
}

/* One that was made before the other one read takes over what that has read by now. */
static void test_catching_up(void **state) {
        float expected[331];
        struct sequence *first, *late[2];
        int32_t ids[LENGTH], other[LENGTH];

        (void)state;
        start(RANDOM_PLANES);
        make_text(ids, 70, 1);
        make_text(other, 70, 2);
        first = resume(ALICE, ids, LENGTH);
        late[0] = resume(ALICE, ids, LENGTH);
        late[1] = resume(ALICE, other, LENGTH);
        read_ids(late[0], ids, 40, 40); /* a page and a part of the next, which are given back */
        read_ids(first, ids, 140, 30);
        assert_int_equal(sequence_catch_up(first, ids, LENGTH), 140);
        assert_int_equal(sequence_catch_up(late[0], ids, LENGTH), 128);
        assert_int_equal(sequence_catch_up(late[1], other, LENGTH), 64);
        assert_int_equal(sequence_catch_up(late[1], other, 0), 64);
        assert_int_equal(engine->kv.n_free, PAGES - 3 * kv_pages_of(LENGTH) + 4 + 2);
        sequence_free(first);
        read_alone(ids, LENGTH, expected);
        check_logits(expected, read_ids(late[0], ids, LENGTH, 5));
        read_alone(other, LENGTH, expected);
        check_logits(expected, read_ids(late[1], other, LENGTH, 50));
        sequence_free(late[0]);
        sequence_free(late[1]);
        finish();
}

/* Kept pages give way, the longest unused first, and are never more than half of the budget. */
static void test_kept_pages_give_way(void **state) {
        int32_t ids[8][LENGTH];
        struct sequence *s, *big;

        (void)state;
        start(RANDOM_BITNET);
        for (unsigned i = 0; i < 8; i++) {
                make_text(ids[i], 0, i);
                s = resume(ALICE, ids[i], LENGTH);
                read_ids(s, ids[i], LENGTH, 64);
                sequence_free(s);
                assert_true(prefixes_idle(&engine->prefixes) <= PAGES / 2);
                assert_int_equal(engine_kv_free(engine), engine_kv_bytes(engine, PAGES * KV_PAGE));
        }
        assert_int_equal(prefixes_idle(&engine->prefixes), PAGES / 2);
        assert_int_equal(found(ALICE, ids[4]), 0);
        assert_int_equal(found(ALICE, ids[5]), 128);
        assert_int_equal(found(ALICE, ids[6]), 128); /* the last use of them all is that of 7 */
        assert_int_equal(found(ALICE, ids[7]), 128);
        assert_int_equal(sequence_new(&big, engine, 18 * KV_PAGE), -E2BIG);
        assert_int_equal(sequence_new(&s, engine, 256), 0);
        assert_int_equal(sequence_new(&big, engine, 256), 0);
        assert_int_equal(prefixes_idle(&engine->prefixes), PAGES - 16);
        sequence_free(s);
        assert_int_equal(found(ALICE, ids[5]), 0);
        assert_int_equal(found(ALICE, ids[7]), 128);
        sequence_free(big);
        finish();
}

/* What is kept for a lasting owner goes last, and all of it when it is to be forgotten. */
static void test_lasting_owner(void **state) {
        int32_t ids[LENGTH], other[LENGTH];
        struct sequence *s, *big, *third;

        (void)state;
        start(RANDOM_BITNET);
        make_text(ids, 70, 1);
        s = resume(CAROL, ids, LENGTH);
        read_ids(s, ids, LENGTH, 64);
        sequence_free(s);
        for (unsigned i = 2; i < 9; i++) {
                make_text(other, i == 2 ? 70 : 0, i);
                s = resume(i == 2 ? CAROL : ALICE, other, LENGTH);
                read_ids(s, other, LENGTH, 64);
                sequence_free(s);
        }
        assert_int_equal(prefixes_idle(&engine->prefixes), PAGES / 2);
        assert_int_equal(found(CAROL, ids), 128);
        assert_int_equal(engine_kept(engine, CAROL), engine_kv_bytes(engine, 6 * KV_PAGE));
        assert_int_equal(found(ALICE, other), 128);
        engine_forget(engine, CAROL);
        assert_int_equal(engine_kept(engine, CAROL), 0);
        assert_int_equal(found(CAROL, ids), 0);
        assert_int_equal(found(ALICE, other), 128);
        s = resume(CAROL, ids, LENGTH);
        read_ids(s, ids, LENGTH, 64);
        engine_forget(engine, CAROL); /* what it holds it keeps */
        assert_int_equal(sequence_length(s), LENGTH);
        sequence_free(s);
        assert_int_equal(found(CAROL, ids), 0);
        s = resume(CAROL, ids, LENGTH);
        read_ids(s, ids, LENGTH, 64);
        sequence_free(s);
        assert_int_equal(sequence_new(&s, engine, 256), 0); /* but memory that is wanted is given */
        assert_int_equal(sequence_new(&big, engine, 256), 0);
        assert_int_equal(sequence_resume(&third, engine, ALICE, other, LENGTH, 256), 0);
        assert_int_equal(engine_kept(engine, CAROL), 0);
        sequence_free(third);
        sequence_free(big);
        sequence_free(s);
        finish();
}

struct live {
        struct sequence *s;
        unsigned text;
        size_t n;
};

/* A sequence that would have got its memory without anybody's pages being kept gets it. */
static void begin_one(struct live *l, struct live *all, size_t n_all, int32_t (*texts)[LENGTH]) {
        size_t pages = kv_pages_of(l->n);
        int r;

        for (size_t i = 0; i < n_all; i++)
                pages += all[i].s ? all[i].s->n_pages : 0;
        r = sequence_resume(&l->s, engine, ALICE + l->text % 2, texts[l->text], l->n, l->n);
        if (pages <= PAGES)
                assert_int_equal(r, 0);
        else
                assert_true(r == 0 || r == -ENOSPC);
        if (r < 0)
                l->s = NULL;
}

static void read_on(struct live *l, const int32_t *ids, const float *expected) {
        size_t some = sequence_length(l->s) + 1 + (size_t)rand() % 60, to = MIN(l->n, some);
        const float *logits = read_ids(l->s, ids, to, 1 + (size_t)rand() % 40);

        if (logits && to == l->n)
                check_logits(expected, logits);
}

/* Many sequences of a few texts come, go, read on and are cut; all is as if each were alone. */
static void test_random_lives(void **state) {
        static const size_t ends[] = {40, 64, 99, LENGTH};
        static int32_t texts[8][LENGTH];
        static float expected[8][4][331];
        struct live all[6] = {0};
        int reads = 0, cuts = 0;

        (void)state;
        srand(7);
        start(RANDOM_PLANES);
        for (unsigned t = 0; t < 8; t++) {
                make_text(texts[t], t < 4 ? 80 : 33, t);
                for (size_t i = 0; i < 4; i++)
                        read_alone(texts[t], ends[i], expected[t][i]);
        }
        for (int i = 0; i < 1500; i++) {
                struct live *l = &all[rand() % 6];
                unsigned what = (unsigned)rand() % 100, end = (unsigned)rand() % 4;

                if (!l->s) {
                        l->text = (unsigned)rand() % 8;
                        l->n = ends[end];
                        begin_one(l, all, ARRAY_SIZE(all), texts);
                } else if (what < 60) {
                        for (end = 0; ends[end] != l->n;)
                                end++;
                        read_on(l, texts[l->text], expected[l->text][end]);
                        reads++;
                } else if (what < 65 && sequence_length(l->s) < l->n) {
                        sequence_catch_up(l->s, texts[l->text], l->n);
                } else if (what < 70) {
                        size_t length = sequence_length(l->s);

                        cuts += length > 5 && sequence_truncate(l->s, length - 5) == 0;
                } else if (what < 97) {
                        l->s = sequence_free(l->s);
                } else if (what < 99) {
                        engine_forget(engine, ALICE + (uint64_t)rand() % 2);
                } else {
                        engine_drop_prefixes(engine);
                }
        }
        assert_true(reads > 300 && cuts > 10);
        for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                sequence_free(all[i].s);
        finish();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_bits),
                cmocka_unit_test(test_owners_and_beginnings),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_equal_pages_meet),
                cmocka_unit_test(test_catching_up),
                cmocka_unit_test(test_kept_pages_give_way),
                cmocka_unit_test(test_lasting_owner),
                cmocka_unit_test(test_random_lives),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
