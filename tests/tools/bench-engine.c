/* bench-engine MODEL [--threads N] [--prefill P] [--decode D] [--batch B] [--reps R] [--cpu LEVEL]
 * [--packing 2|1.6]:
 * tokens per second of reading P tokens at once and of writing D tokens one by one after them, in B
 * sequences side by side. Best and median of R repetitions, because the machine is shared. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/macro.h"
#include "engine/model/shape.h"
#include "tests/tools/open_model.h"

enum { MAX_BATCH = 64, MAX_REPS = 100 };

struct bench {
        struct runner runner;
        size_t prefill, decode, batch, reps;
        double prefill_s[MAX_REPS], decode_s[MAX_REPS];
        struct sequence *seq[MAX_BATCH];
};

static double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Ordinary ids, different from place to place. */
static int32_t some_token(const struct bench *b, size_t i) {
        return (int32_t)(i * 7919 % (b->runner.model->hp.n_vocab - 1) + 1);
}

static int run_prefill(struct bench *b, struct sequence *seq) {
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[1];
        int r = 0;

        for (size_t at = 0; r >= 0 && at < b->prefill;) {
                size_t m = MIN(b->prefill - at, (size_t)ENGINE_MAX_ROWS);

                for (size_t i = 0; i < m; i++)
                        rows[i] = (struct engine_row){seq, some_token(b, at + i),
                                                      at + i + 1 == b->prefill};
                r = engine_step(b->runner.engine, rows, m, logits, NULL);
                at += m;
        }
        return r;
}

static int run_decode(struct bench *b) {
        struct engine_row rows[MAX_BATCH];
        const float *logits[MAX_BATCH];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < b->decode; i++) {
                for (size_t j = 0; j < b->batch; j++)
                        rows[j] = (struct engine_row){b->seq[j], some_token(b, i * 31 + j), true};
                r = engine_step(b->runner.engine, rows, b->batch, logits, NULL);
        }
        return r;
}

static int repeat(struct bench *b, size_t rep) {
        size_t made = 0;
        double start;
        int r = 0;

        for (; r >= 0 && made < b->batch; made += r >= 0)
                r = sequence_new(&b->seq[made], b->runner.engine, b->prefill + b->decode);
        start = now();
        for (size_t j = 0; r >= 0 && j < b->batch; j++)
                r = run_prefill(b, b->seq[j]);
        b->prefill_s[rep] = now() - start;
        start = now();
        if (r >= 0)
                r = run_decode(b);
        b->decode_s[rep] = now() - start;
        for (size_t j = 0; j < made; j++)
                sequence_free(b->seq[j]);
        return r;
}

static int compare_double(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void report(const char *what, double *seconds, size_t reps, size_t tokens) {
        if (tokens == 0)
                return;
        qsort(seconds, reps, sizeof(*seconds), compare_double);
        printf("%-8s %6zu tokens: best %9.2f tok/s, median %9.2f tok/s\n", what, tokens,
               (double)tokens / seconds[0], (double)tokens / seconds[reps / 2]);
}

static size_t matrix_bytes(const struct weight_matrix *w) {
        size_t n = 0;

        for (unsigned i = 0; i < MATRIX_PARTS; i++)
                n += matrix_part_bytes(w, w->mins, (enum matrix_part)i);
        return n;
}

/* Weight bytes that one decoded token reads. */
static size_t bytes_per_token(const struct model *m) {
        size_t n = matrix_bytes(&m->output);

        for (uint32_t i = 0; i < m->hp.n_layer; i++) {
                const struct layer *l = &m->layers[i];

                n += matrix_bytes(&l->q) + matrix_bytes(&l->k) + matrix_bytes(&l->v) +
                     matrix_bytes(&l->o) + matrix_bytes(&l->gate) + matrix_bytes(&l->up) +
                     matrix_bytes(&l->down);
        }
        return n;
}

static void report_memory(void) {
        char line[256];
        FILE *f = fopen("/proc/self/status", "re");

        while (f && fgets(line, sizeof(line), f))
                if (strncmp(line, "VmHWM", 5) == 0 || strncmp(line, "RssAnon", 7) == 0)
                        fputs(line, stdout);
        if (f)
                fclose(f);
}

static int usage(void) {
        fprintf(stderr, "usage: bench-engine MODEL [--threads N] [--prefill P] [--decode D]"
                        " [--batch B] [--reps R] [--cpu LEVEL] [--packing 2|1.6]\n");
        return 64;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"threads", required_argument, NULL, 't'}, {"cpu", required_argument, NULL, 'c'},
                {"prefill", required_argument, NULL, 'p'}, {"reps", required_argument, NULL, 'r'},
                {"decode", required_argument, NULL, 'd'}, {"batch", required_argument, NULL, 'b'},
                {"packing", required_argument, NULL, 'k'},
                {0},
        };
        struct bench b = {.prefill = 128, .decode = 64, .batch = 1, .reps = 5};
        enum ternary_packing packing = TERNARY_2_BITS;
        struct model *model;
        const char *cpu = NULL;
        unsigned threads = 1;
        int r = 0;

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;)
                switch (c) {
                case 't': threads = (unsigned)strtoul(optarg, NULL, 10); break;
                case 'p': b.prefill = strtoul(optarg, NULL, 10); break;
                case 'd': b.decode = strtoul(optarg, NULL, 10); break;
                case 'b': b.batch = strtoul(optarg, NULL, 10); break;
                case 'r': b.reps = strtoul(optarg, NULL, 10); break;
                case 'c': cpu = optarg; break;
                case 'k': packing = strcmp(optarg, "2") ? TERNARY_BASE_3 : TERNARY_2_BITS; break;
                default: return usage();
                }
        if (optind + 1 != argc || b.batch < 1 || b.batch > MAX_BATCH || b.reps < 1 ||
            b.reps > MAX_REPS)
                return usage();
        if (open_model_as(&model, argv[optind], packing) < 0 ||
            runner_start(&b.runner, model, threads, cpu,
                         (b.prefill + b.decode + KV_PAGE) * b.batch) < 0)
                return 1;
        for (size_t i = 0; r >= 0 && i < b.reps; i++)
                r = repeat(&b, i);
        if (r < 0)
                fprintf(stderr, "bench-engine: %s\n", strerror(-r));
        report("prefill", b.prefill_s, b.reps, b.prefill * b.batch);
        report("decode", b.decode_s, b.reps, b.decode * b.batch);
        printf("%.1f MB of weights per decoded token, %u threads, batch %zu\n",
               (double)bytes_per_token(b.runner.model) / 1e6, threads, b.batch);
        report_memory();
        runner_done(&b.runner);
        return r < 0;
}
