/* bench-steps MODEL [--threads N] [--prefix P] [--rounds R]: how long a step takes by its number of
 * rows, all of one sequence after P tokens, with logits of the last row (reading a prompt) and of
 * every row (checking guessed tokens). Median of R interleaved rounds, and the cost of a row beside
 * that of the first. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/macro.h"
#include "tests/tools/open_model.h"

enum { MAX_ROUNDS = 200 };

static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64, 128};

static double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Milliseconds, or negative. The sequence is left as it was. */
static double run(struct runner *r, struct sequence *s, size_t n, bool all_logits) {
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[ENGINE_MAX_ROWS];
        size_t before = sequence_length(s);
        double begin = now();

        for (size_t i = 0; i < n; i++)
                rows[i] = (struct engine_row){s, (int32_t)((before + i) * 7919 %
                                                           (r->model->hp.n_vocab - 1) + 1),
                                              all_logits || i + 1 == n};
        if (engine_step(r->engine, rows, n, logits, NULL) < 0 || sequence_truncate(s, before) < 0)
                return -1;
        return now() - begin;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static int measure(struct runner *r, struct sequence *s, size_t rounds) {
        static double times[ARRAY_SIZE(sizes)][2][MAX_ROUNDS];

        for (size_t i = 0; i < rounds; i++)
                for (size_t j = 0; j < ARRAY_SIZE(sizes); j++)
                        for (int all = 0; all < 2; all++) {
                                times[j][all][i] = run(r, s, sizes[j], all);
                                if (times[j][all][i] < 0)
                                        return -1;
                        }
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++)
                for (int all = 0; all < 2; all++)
                        qsort(times[j][all], rounds, sizeof(double), compare);
        puts("rows   last row's logits   all rows' logits");
        for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
                double last = times[j][0][rounds / 2], all = times[j][1][rounds / 2];

                printf("%4zu %8.2f ms (%5.2fx) %8.2f ms (%5.2fx)\n", sizes[j], last,
                       last / times[0][0][rounds / 2], all, all / times[0][1][rounds / 2]);
        }
        return 0;
}

static int read_prefix(struct runner *r, struct sequence *s, size_t n) {
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[1];

        while (sequence_length(s) < n) {
                size_t m = MIN(n - sequence_length(s), (size_t)ENGINE_MAX_ROWS);

                for (size_t i = 0; i < m; i++)
                        rows[i] = (struct engine_row){s, (int32_t)(i % 100 + 1), false};
                if (engine_step(r->engine, rows, m, logits, NULL) < 0)
                        return -1;
        }
        return 0;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"threads", required_argument, NULL, 't'},
                {"prefix", required_argument, NULL, 'p'},
                {"rounds", required_argument, NULL, 'r'},
                {0},
        };
        size_t threads = 2, prefix = 256, rounds = 15, tokens;
        struct sequence *s = NULL;
        struct runner r;
        int failed;

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                size_t *to = c == 't' ? &threads : c == 'p' ? &prefix : c == 'r' ? &rounds : NULL;

                if (!to)
                        return 64;
                *to = strtoul(optarg, NULL, 10);
        }
        tokens = prefix + sizes[ARRAY_SIZE(sizes) - 1];
        if (optind + 1 != argc || rounds < 1 || rounds > MAX_ROUNDS ||
            runner_open(&r, argv[optind], (unsigned)threads, NULL, tokens) < 0)
                return 64;
        failed = sequence_new(&s, r.engine, tokens) < 0 || read_prefix(&r, s, prefix) < 0 ||
                 measure(&r, s, rounds) < 0;
        sequence_free(s);
        runner_done(&r);
        return failed;
}
