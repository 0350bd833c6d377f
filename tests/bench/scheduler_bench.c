/* Options, model and scheduler of bench-cancel and bench-gap. */
#include "tests/bench/scheduler_bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu.h"
#include "tests/tools/open_model.h"

static int read_options(struct scheduler_bench *b, int argc, char **argv) {
        static const struct option options[] = {
                { "threads", required_argument, NULL, 't' },
                { "prompt", required_argument, NULL, 'p' },
                { "seconds", required_argument, NULL, 's' },
                { 0 },
        };

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                size_t *to = c == 't'   ? &b->threads
                             : c == 'p' ? &b->prompt
                             : c == 's' ? &b->seconds
                                        : NULL;

                if (!to)
                        return -EINVAL;
                *to = strtoul(optarg, NULL, 10);
        }
        if (optind + 1 == argc && b->prompt > 0)
                return 0;
        fprintf(stderr, "usage: %s [--threads N] [--prompt P] [--seconds S] MODEL\n", argv[0]);
        return -EINVAL;
}

int scheduler_bench_open(struct scheduler_bench *b, int argc, char **argv, size_t more) {
        size_t kv;
        int r = read_options(b, argc, argv);

        if (r == 0)
                r = open_model(&b->model, argv[optind]);
        if (r < 0)
                return r;
        kv = kv_bytes_of(&b->model->hp, KV_S16, b->model->hp.n_ctx + b->prompt + more + KV_PAGE);
        r = scheduler_new(&b->scheduler, (unsigned)b->threads, cpu_flags(CPU_ALL), 4);
        if (r == 0)
                r = scheduler_add_model(b->scheduler, b->model, kv);
        if (r < 0) {
                fprintf(stderr, "%s: no scheduler: errno %d\n", argv[0], -r);
                scheduler_bench_done(b);
        }
        return r;
}

void scheduler_bench_done(struct scheduler_bench *b) {
        scheduler_free(b->scheduler);
        model_free(b->model);
}
