/* bench-cancel MODEL [--threads N] [--prompt P] [--seconds S]: how long after a cancel the CPU is
 * idle, for a generation alone, while it decodes and while its prompt of P tokens is read. The
 * moments are spread over the steps. Prints median, 99th percentile and worst of each. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "tests/bench/scheduler_bench.h"

enum { MAX_TRIALS = 1000, LEASE_USEC = 1000000, DECODE_PROMPT = 16, SPREAD_USEC = 90000 };

struct trial {
        struct generation *g; /* NULL: ended */
        uint32_t read, out;
};

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct trial *t = userdata;

        t->read = tokens_read;
        t->out = tokens_out;
}

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct trial *t = userdata;

        (void)finish;
        (void)usage;
        t->g = NULL;
}

static bool submit(struct scheduler *s, struct trial *t, const struct model *m, size_t n) {
        struct generation_request r = {
                .model = m, .max_tokens = 200, .sampling = SAMPLING_GREEDY,
                .ignore_end = true, .progress = on_progress, .end = on_end, .userdata = t,
        };

        for (size_t i = 0; i < n; i++)
                if (tokens_push(&r.prompt, (int32_t)((i * 7919 + n) % (m->hp.n_vocab - 1) + 1)) < 0)
                        return false;
        return scheduler_submit(s, &r, &t->g) == 0;
}

static void wait_for(struct scheduler *s, uint64_t usec) {
        struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};

        poll(&p, 1, (int)MAX(usec / 1000, (uint64_t)1));
        scheduler_dispatch(s);
}

/* Milliseconds from the cancel to the moment nothing computes; negative: it had ended before. */
static double trial(struct scheduler *s, const struct model *m, size_t prompt, bool decode,
                    uint64_t spread) {
        struct trial t = {0};
        uint64_t begin, at = 0;

        if (!submit(s, &t, m, decode ? DECODE_PROMPT : prompt))
                return -1;
        while (t.g) {
                uint64_t now = scheduler_now();

                if (at == 0 && (decode ? t.out > 1 : t.read > 0))
                        at = now + spread;
                if (at != 0 && now >= at)
                        break;
                scheduler_grant(s, now + LEASE_USEC);
                wait_for(s, at == 0 ? 20000 : at - now);
        }
        if (!t.g)
                return -1;
        begin = scheduler_now();
        scheduler_cancel(s, t.g);
        while (t.g || scheduler_state(s).computing)
                wait_for(s, 100000);
        return (double)(scheduler_now() - begin) / 1e3;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void measure(struct scheduler *s, const struct model *m, size_t prompt, bool decode,
                    uint64_t limit) {
        double ms[MAX_TRIALS];
        uint64_t begin = scheduler_now();
        size_t n = 0;

        for (size_t i = 0; n < MAX_TRIALS && scheduler_now() - begin < limit; i++) {
                double took = trial(s, m, prompt, decode, i * 7919 % SPREAD_USEC);

                if (took >= 0)
                        ms[n++] = took;
        }
        if (n == 0)
                return;
        qsort(ms, n, sizeof(*ms), compare);
        printf("%-8s %4zu cancels: median %6.1f ms, 99 %% under %6.1f, worst %6.1f\n",
               decode ? "decode" : "prefill", n, ms[n / 2], ms[n * 99 / 100], ms[n - 1]);
}

int main(int argc, char **argv) {
        struct scheduler_bench b = { .threads = 2, .prompt = 2000, .seconds = 20 };

        if (scheduler_bench_open(&b, argc, argv, 1024) < 0)
                return 64;
        for (int decode = 0; decode < 2; decode++)
                measure(b.scheduler, b.model, b.prompt, decode, b.seconds * 500000);
        scheduler_bench_done(&b);
        return 0;
}
