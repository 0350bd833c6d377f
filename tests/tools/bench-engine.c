/* bench-engine MODEL [OPTION VALUE]…: tokens per second of reading a prompt in full steps and of
 * writing tokens one by one after it, in several sequences side by side.
 *
 * Every length given to --prefill is measured with every number given to --batch. The prompt is the
 * context of the tokens that follow; they are written --again times, each time forgotten again, as
 * reading a long context takes much longer than the writing that is to be measured. Best and median
 * of all repetitions, because the machine is shared. Memory is taken once, for the largest case.
 * --load measures instead how long a model takes from its file to the end of a first small step. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/macro.h"
#include "engine/run/state.h"
#include "tests/tools/model_cost.h"
#include "tests/tools/open_model.h"

enum { MAX_BATCH = 64, MAX_SAMPLES = 1000, MAX_CASES = 16, FIRST_TOKENS = 16 };

struct samples {
        double seconds[MAX_SAMPLES];
        size_t n;
};

struct list {
        size_t values[MAX_CASES], n;
};

struct bench {
        const char *path, *cpu;
        enum ternary_packing packing; /* of a file that is not packed yet */
        unsigned threads;
        struct list prefill, batch;
        size_t decode, again, reps;
        struct runner runner;
        struct sequence *seq[MAX_BATCH];
        struct samples read, written; /* of the present case */
};

static double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void note(struct samples *s, double seconds) {
        if (s->n < MAX_SAMPLES)
                s->seconds[s->n++] = seconds;
}

/* Ordinary ids, different from place to place. */
static int32_t some_token(const struct bench *b, size_t i) {
        return (int32_t)(i * 7919 % (b->runner.model->hp.n_vocab - 1) + 1);
}

static int read_prompt(struct bench *b, struct sequence *seq, size_t n) {
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[1];
        int r = 0;

        for (size_t at = 0; r >= 0 && at < n;) {
                size_t m = MIN(n - at, (size_t)ENGINE_MAX_ROWS);

                for (size_t i = 0; i < m; i++)
                        rows[i] = (struct engine_row){seq, some_token(b, at + i), at + i + 1 == n};
                r = engine_step(b->runner.engine, rows, m, logits, NULL);
                at += m;
        }
        return r;
}

static int write_tokens(struct bench *b, size_t batch) {
        struct engine_row rows[MAX_BATCH];
        const float *logits[MAX_BATCH];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < b->decode; i++) {
                for (size_t j = 0; j < batch; j++)
                        rows[j] = (struct engine_row){b->seq[j], some_token(b, i * 31 + j), true};
                r = engine_step(b->runner.engine, rows, batch, logits, NULL);
        }
        return r;
}

/* One prompt in each sequence, then the tokens after it, `again` times. */
static int measure(struct bench *b, size_t prefill, size_t batch) {
        double start = now();
        int r = 0;

        for (size_t j = 0; r >= 0 && j < batch; j++)
                r = read_prompt(b, b->seq[j], prefill);
        note(&b->read, now() - start);
        for (size_t k = 0; r >= 0 && k < b->again; k++) {
                start = now();
                r = write_tokens(b, batch);
                note(&b->written, now() - start);
                for (size_t j = 0; r >= 0 && j < batch; j++)
                        r = sequence_truncate(b->seq[j], prefill);
        }
        return r;
}

static int repeat(struct bench *b, size_t prefill, size_t batch) {
        size_t made = 0;
        int r = 0;

        for (; r >= 0 && made < batch; made += r >= 0)
                r = sequence_new(&b->seq[made], b->runner.engine, prefill + b->decode);
        if (r >= 0)
                r = measure(b, prefill, batch);
        for (size_t j = 0; j < made; j++)
                sequence_free(b->seq[j]);
        return r;
}

static int compare_double(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void report(const char *what, struct samples *s, size_t tokens) {
        if (tokens > 0 && s->n > 0) {
                qsort(s->seconds, s->n, sizeof(s->seconds[0]), compare_double);
                printf("%s: best %.2f tok/s, median %.2f tok/s\n", what,
                       (double)tokens / s->seconds[0], (double)tokens / s->seconds[s->n / 2]);
        }
        s->n = 0;
}

static int run_case(struct bench *b, size_t prefill, size_t batch) {
        char what[80];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < b->reps; i++)
                r = repeat(b, prefill, batch);
        if (r < 0)
                return r;
        snprintf(what, sizeof(what), "prefill %zu x %zu", batch, prefill);
        report(what, &b->read, prefill * batch);
        snprintf(what, sizeof(what), "decode %zu x %zu after %zu", batch, b->decode, prefill);
        report(what, &b->written, b->decode * batch);
        return 0;
}

/* What one token leaves out: gates that are not positive, and zeros of what `down` multiplies; of
 * the last token's last layer, as the engine's scratch still has them. */
static void report_zeros(const struct engine *e) {
        const uint32_t n = e->model->hp.n_ff;
        uint32_t gates = 0, zeros = 0;

        for (uint32_t i = 0; i < n; i++) {
                gates += e->run.gate[i] == 0;
                zeros += e->threads[0].input.by_token.q[i] == 0;
        }
        printf("zeros: %.1f %% of gates, %.1f %% of what down multiplies\n",
               100.0 * gates / n, 100.0 * zeros / n);
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

static void report_cost(const struct bench *b) {
        struct model_cost c = model_cost(b->runner.model);

        printf("%.1f MB of weights a step (up and down %.1f MB), %.1f MMAC a token in the layers,"
               " %.1f in the head, KV %llu bytes a position\n", (double)c.weight_bytes / 1e6,
               (double)c.gate_rest_bytes / 1e6, (double)c.layer_macs / 1e6,
               (double)c.head_macs / 1e6, (unsigned long long)c.kv_bytes);
}

static size_t largest(const struct list *l) {
        size_t max = 0;

        for (size_t i = 0; i < l->n; i++)
                max = MAX(max, l->values[i]);
        return max;
}

/* The first step maps every page of the weights; it is part of loading, not of reading. */
static int warm_up(struct bench *b) {
        int r = sequence_new(&b->seq[0], b->runner.engine, FIRST_TOKENS);

        if (r >= 0) {
                r = read_prompt(b, b->seq[0], FIRST_TOKENS);
                sequence_free(b->seq[0]);
        }
        return r;
}

static int open_runner(struct bench *b, size_t kv_tokens) {
        struct model *model;
        int r = open_model_as(&model, b->path, b->packing);

        return r < 0 ? r : runner_start(&b->runner, model, b->threads, b->cpu, KV_S16, kv_tokens);
}

static int run_all(struct bench *b) {
        size_t tokens = (largest(&b->prefill) + b->decode + KV_PAGE) * largest(&b->batch);
        int r = open_runner(b, tokens);

        if (r < 0)
                return r;
        r = warm_up(b);
        for (size_t i = 0; r >= 0 && i < b->prefill.n; i++)
                for (size_t j = 0; r >= 0 && j < b->batch.n; j++)
                        r = run_case(b, b->prefill.values[i], b->batch.values[j]);
        if (r < 0)
                fprintf(stderr, "bench-engine: %s\n", strerror(-r));
        report_cost(b);
        if (b->decode > 0 && largest(&b->batch) == 1 &&
            b->runner.model->hp.activation == ACTIVATION_RELU2)
                report_zeros(b->runner.engine);
        report_memory();
        runner_done(&b->runner);
        return r;
}

/* From the file to the engine, and on to the end of a first step. */
static int load(struct bench *b) {
        double start = now();
        int r = open_runner(b, (size_t)FIRST_TOKENS + KV_PAGE);

        if (r < 0)
                return r;
        note(&b->read, now() - start);
        r = warm_up(b);
        note(&b->written, now() - start);
        runner_done(&b->runner);
        return r;
}

static int load_all(struct bench *b) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < b->reps; i++)
                r = load(b);
        if (r < 0)
                return r;
        qsort(b->read.seconds, b->read.n, sizeof(double), compare_double);
        qsort(b->written.seconds, b->written.n, sizeof(double), compare_double);
        printf("load: ready after best %.2f ms, median %.2f ms;"
               " first step of %d tokens ended after best %.2f ms, median %.2f ms\n",
               b->read.seconds[0] * 1e3, b->read.seconds[b->read.n / 2] * 1e3, FIRST_TOKENS,
               b->written.seconds[0] * 1e3, b->written.seconds[b->written.n / 2] * 1e3);
        return 0;
}

static int usage(void) {
        fprintf(stderr, "usage: bench-engine MODEL [--threads N] [--prefill P,…] [--decode D]"
                        " [--again K] [--batch B,…] [--reps R] [--cpu LEVEL]"
                        " [--packing 2|1.6] [--load]\n");
        return 64;
}

static void parse_list(struct list *l, const char *text) {
        char *end;

        for (l->n = 0; l->n < MAX_CASES; text = end + 1) {
                l->values[l->n++] = strtoul(text, &end, 10);
                if (*end != ',')
                        break;
        }
}

static bool parse(struct bench *b, int argc, char **argv, bool *ret_load) {
        static const struct option options[] = {
                {"threads", required_argument, NULL, 't'}, {"cpu", required_argument, NULL, 'c'},
                {"prefill", required_argument, NULL, 'p'}, {"reps", required_argument, NULL, 'r'},
                {"decode", required_argument, NULL, 'd'}, {"batch", required_argument, NULL, 'b'},
                {"again", required_argument, NULL, 'a'}, {"load", no_argument, NULL, 'l'},
                {"packing", required_argument, NULL, 'k'},
                {0},
        };

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;)
                switch (c) {
                case 't': b->threads = (unsigned)strtoul(optarg, NULL, 10); break;
                case 'p': parse_list(&b->prefill, optarg); break;
                case 'd': b->decode = strtoul(optarg, NULL, 10); break;
                case 'a': b->again = strtoul(optarg, NULL, 10); break;
                case 'b': parse_list(&b->batch, optarg); break;
                case 'r': b->reps = strtoul(optarg, NULL, 10); break;
                case 'c': b->cpu = optarg; break;
                case 'k': b->packing = strcmp(optarg, "2") ? TERNARY_BASE_3 : TERNARY_2_BITS; break;
                case 'l': *ret_load = true; break;
                default: return false;
                }
        if (optind + 1 != argc || b->reps < 1 || b->again < 1 ||
            b->reps * b->again > MAX_SAMPLES || largest(&b->batch) > MAX_BATCH)
                return false;
        for (size_t i = 0; i < b->batch.n; i++)
                if (b->batch.values[i] < 1)
                        return false;
        b->path = argv[optind];
        return true;
}

int main(int argc, char **argv) {
        struct bench b = {
                .threads = 1, .prefill = {{128}, 1}, .batch = {{1}, 1}, .decode = 64, .again = 1,
                .reps = 5,
        };
        bool only_load = false;

        if (!parse(&b, argc, argv, &only_load))
                return usage();
        return (only_load ? load_all(&b) : run_all(&b)) < 0;
}
