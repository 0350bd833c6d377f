/* A scheduler around a model, as the benchmarks of it begin. */
#pragma once

#include <stddef.h>

#include "daemon/worker/scheduler.h"
#include "engine/model/model.h"

struct scheduler_bench {
        size_t threads, prompt, seconds; /* defaults, then what --threads and so on say */
        struct model *model;
        struct scheduler *scheduler;
};

/* Reads "[--threads N] [--prompt P] [--seconds S] MODEL". There is room for a context of the
 * model's, and for one of prompt + more tokens. Negative: it said why on stderr. */
int scheduler_bench_open(struct scheduler_bench *b, int argc, char **argv, size_t more);
void scheduler_bench_done(struct scheduler_bench *b);
