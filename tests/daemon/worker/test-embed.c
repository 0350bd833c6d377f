/* Vectors of texts against a plain computation: the states of a text read token by token, pooled
 * and normalised here, are what the scheduler makes of it in any company; and a state is what the
 * output matrix turns into logits. The model is one of text, told to pool. */
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/worker/embed.h"
#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"
#include "policy/error.h"
#include "tests/tools/open_model.h"

enum { TEXTS = 30, LENGTH_MAX = 150, KV_TOKENS = 4096, PATIENCE_USEC = 60000000 };

static const char *model_path;

static void make_text(struct tokens *t, const struct model *m, unsigned seed) {
        static const char *const words[] = { "Once ", "a dog ", "saw the ", "moon, ", "and then " };

        for (unsigned i = 0; i < 1 + seed * 7 % 25; i++) {
                const char *w = words[(i * i + seed) % ARRAY_SIZE(words)];

                assert_int_equal(embed_encode(m->vocab, w, strlen(w), 0, t), 0);
        }
        assert_true(t->n <= LENGTH_MAX);
}

/* The outputs of every position, [n][width]. */
struct outputs {
        float *p;
        size_t width;
};

static void keep(void *ctx, size_t position, const float *row) {
        struct outputs *o = ctx;

        memcpy(o->p + position * o->width, row, o->width * sizeof(*row));
}

static void start(struct runner *r, enum model_pooling pooling) {
        struct model *m;

        assert_int_equal(open_model(&m, model_path), 0);
        m->hp.pooling = pooling;
        assert_int_equal(runner_start(r, m, 1, NULL, KV_S16, KV_TOKENS), 0);
}

static struct outputs outputs_of(struct runner *r, const struct tokens *t, size_t width,
                                 size_t chunk) {
        struct outputs o = { .p = calloc(t->n, width * sizeof(float)), .width = width };

        assert_int_equal(runner_logits(r, t->ids, t->n, chunk, keep, &o), 0);
        return o;
}

static void states_become_logits(void **state) {
        struct tokens t = {};
        struct outputs logits, states;
        struct runner words, vectors;
        const struct model *m;
        float *row;

        (void)state;
        start(&words, POOLING_NONE);
        start(&vectors, POOLING_MEAN);
        m = words.model;
        make_text(&t, m, 5);
        logits = outputs_of(&words, &t, m->hp.n_vocab, 7);
        states = outputs_of(&vectors, &t, m->hp.n_embd, 7);
        row = calloc(m->output.cols, sizeof(*row));
        for (uint32_t token = 0; token < m->hp.n_vocab; token += 97) {
                matrix_row(&m->output, token, row);
                for (size_t at = 0; at < t.n; at++) {
                        double sum = 0, logit = (double)logits.p[at * logits.width + token];

                        for (uint32_t i = 0; i < m->hp.n_embd; i++)
                                sum += (double)row[i] * (double)states.p[at * states.width + i];
                        assert_true(fabs(sum - logit) < 0.02 * (1 + fabs(logit)));
                }
        }
        free(row);
        free(logits.p);
        free(states.p);
        tokens_done(&t);
        runner_done(&words);
        runner_done(&vectors);
}

static void plain(struct runner *runner, const struct tokens *t, size_t width, float *ret) {
        enum model_pooling pooling = runner->model->hp.pooling;
        struct outputs o = outputs_of(runner, t, width, 1);
        size_t begin = pooling == POOLING_LAST ? t->n - 1 : 0,
               end = pooling == POOLING_CLS ? 1 : t->n;
        double *sum = calloc(width, sizeof(*sum)), squares = 0;

        for (size_t at = begin; at < end; at++)
                for (size_t i = 0; i < width; i++)
                        sum[i] += (double)o.p[at * width + i];
        for (size_t i = 0; i < width; i++)
                squares += sum[i] * sum[i];
        for (size_t i = 0; i < width; i++)
                ret[i] = (float)(sum[i] / sqrt(squares));
        free(sum);
        free(o.p);
}

struct answer {
        float *vectors;
        size_t bytes;
        uint64_t read;
        int error, ends;
};

static void on_progress(void *userdata, uint64_t tokens_read) {
        struct answer *a = userdata;

        assert_true(tokens_read >= a->read);
        a->read = tokens_read;
}

static void on_end(void *userdata, int error, const float *vectors) {
        struct answer *a = userdata;

        a->error = error;
        a->ends++;
        if (vectors)
                memcpy(a->vectors, vectors, a->bytes);
}

static struct embed_request request_of(struct scheduler *s, const struct model *m,
                                       struct answer *a, size_t n) {
        struct embed_request r = { .scheduler = s, .model = m, .n = n, .progress = on_progress,
                                   .end = on_end, .userdata = a };

        r.inputs = calloc(n, sizeof(*r.inputs));
        for (unsigned i = 0; i < n; i++)
                make_text(&r.inputs[i], m, i);
        return r;
}

static void run(struct scheduler *s, const struct answer *a, unsigned lease) {
        uint64_t begin = scheduler_now();

        while (a->ends == 0) {
                struct pollfd p = { .fd = scheduler_fd(s), .events = POLLIN };

                assert_true(scheduler_now() - begin < PATIENCE_USEC);
                scheduler_grant(s, scheduler_now() + lease);
                poll(&p, 1, 50);
                scheduler_dispatch(s);
        }
        assert_int_equal(a->ends, 1);
}

static struct scheduler *scheduler_of(const struct model *m, unsigned threads, uint32_t sequences) {
        struct scheduler *s;

        assert_int_equal(scheduler_new(&s, threads, cpu_flags(CPU_ALL), sequences), 0);
        assert_int_equal(scheduler_add_model(s, m, kv_bytes_of(&m->hp, KV_S16, KV_TOKENS)), 0);
        return s;
}

/* All together; with short leases, so that texts are read in pieces; and one after the other. */
static void same_as_plain(void **state) {
        static const struct {
                unsigned threads, lease;
                uint32_t sequences;
        } ways[] = { { 2, 200000, 32 }, { 1, 300, 5 }, { 2, 100000, 1 } };
        struct model *m;

        (void)state;
        assert_int_equal(open_model(&m, model_path), 0);
        for (int pooling = POOLING_MEAN; pooling <= POOLING_LAST; pooling++) {
                size_t width = m->hp.n_embd;
                float *wanted = calloc(TEXTS, width * sizeof(*wanted));
                struct runner runner;

                start(&runner, (enum model_pooling)pooling);
                m->hp.pooling = (enum model_pooling)pooling;
                for (unsigned i = 0; i < TEXTS; i++) {
                        struct tokens t = {};

                        make_text(&t, m, i);
                        plain(&runner, &t, width, wanted + i * width);
                        tokens_done(&t);
                }
                for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                        struct scheduler *s = scheduler_of(m, ways[i].threads, ways[i].sequences);
                        struct answer a = { .bytes = TEXTS * width * sizeof(float) };
                        struct embed_request r = request_of(s, m, &a, TEXTS);
                        struct embed *e;

                        a.vectors = calloc(1, a.bytes);
                        assert_int_equal(embed_start(&e, &r), 0);
                        run(s, &a, ways[i].lease);
                        assert_int_equal(a.error, ERROR_NONE);
                        assert_memory_equal(a.vectors, wanted, a.bytes);
                        free(a.vectors);
                        scheduler_free(s);
                }
                free(wanted);
                runner_done(&runner);
        }
        model_free(m);
}

static void cancel(void **state) {
        struct model *m;
        struct scheduler *s;
        struct answer a = {};
        struct embed_request r;
        struct embed *e;

        (void)state;
        assert_int_equal(open_model(&m, model_path), 0);
        m->hp.pooling = POOLING_MEAN;
        s = scheduler_of(m, 2, 4);
        r = request_of(s, m, &a, TEXTS);
        assert_int_equal(embed_start(&e, &r), 0);
        embed_cancel(e);
        run(s, &a, 200000);
        assert_int_equal(a.error, ERROR_CANCELLED);
        r = request_of(s, m, &a, 1);
        r.inputs[0].n = 0; /* refused: still the caller's */
        assert_true(embed_start(&e, &r) < 0);
        embed_inputs_free(r.inputs, 1);
        scheduler_free(s);
        model_free(m);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(states_become_logits),
                cmocka_unit_test(same_as_plain),
                cmocka_unit_test(cancel),
        };

        if (argc != 2)
                return 2;
        model_path = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
