/* bench-gap MODEL [--threads N] [--prompt P] [--seconds S]: what a running chat feels while another
 * request's prompt of P tokens is read. Prints the gaps between two tokens of the chat before and
 * meanwhile, and how long the prompt took; stops after S seconds in any case. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "tests/bench/scheduler_bench.h"

enum { MAX_GAPS = 100000, ALONE_USEC = 2000000, LEASE_USEC = 1000000, CHAT_PROMPT = 64 };

struct gaps {
        double ms[MAX_GAPS];
        size_t n;
        uint64_t last; /* time of the last token, 0: none yet */
};

struct watched {
        struct generation *g; /* NULL: ended */
        struct gaps *gaps;    /* NULL: not watched */
        uint32_t read, out;
};

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct watched *w = userdata;
        uint64_t now = scheduler_now();

        w->read = tokens_read;
        if (tokens_out == w->out)
                return;
        w->out = tokens_out;
        if (w->gaps && w->gaps->last > 0 && w->gaps->n < MAX_GAPS)
                w->gaps->ms[w->gaps->n++] = (double)(now - w->gaps->last) / 1e3;
        if (w->gaps)
                w->gaps->last = now;
}

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct watched *w = userdata;

        (void)finish;
        (void)usage;
        w->g = NULL;
}

static bool submit(struct scheduler *s, struct watched *w, const struct model *m, size_t n,
                   uint32_t max_tokens) {
        struct generation_request r = {
                .model = m, .max_tokens = max_tokens, .sampling = SAMPLING_GREEDY,
                .ignore_end = true, .progress = on_progress, .end = on_end, .userdata = w,
        };

        for (size_t i = 0; i < n; i++)
                if (tokens_push(&r.prompt, (int32_t)((i * 7919 + n) % (m->hp.n_vocab - 1) + 1)) < 0)
                        return false;
        return scheduler_submit(s, &r, &w->g) == 0;
}

static void turn(struct scheduler *s) {
        struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};

        scheduler_grant(s, scheduler_now() + LEASE_USEC);
        poll(&p, 1, 100);
        scheduler_dispatch(s);
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void report(const char *what, struct gaps *g) {
        if (g->n == 0)
                return;
        qsort(g->ms, g->n, sizeof(*g->ms), compare);
        printf("%-22s %5zu gaps: median %6.1f ms, 95 %% under %6.1f, worst %6.1f\n", what, g->n,
               g->ms[g->n / 2], g->ms[g->n * 95 / 100], g->ms[g->n - 1]);
}

static void watch(struct scheduler *s, const struct model *m, size_t prompt, uint64_t limit) {
        static struct gaps alone, meanwhile;
        struct watched chat = {.gaps = &alone}, reader = {0};
        uint64_t begin;

        if (!submit(s, &chat, m, CHAT_PROMPT, m->hp.n_ctx - CHAT_PROMPT))
                return;
        while (chat.out == 0)
                turn(s);
        for (begin = scheduler_now(); scheduler_now() - begin < ALONE_USEC;)
                turn(s);
        meanwhile.last = scheduler_now();
        chat.gaps = &meanwhile;
        if (!submit(s, &reader, m, prompt, 1))
                return;
        for (begin = scheduler_now(); reader.g && chat.g && scheduler_now() - begin < limit;)
                turn(s);
        report("alone", &alone);
        report("while a prompt is read", &meanwhile);
        printf("%u of %zu tokens of the prompt were read in %.2f s\n", reader.read, prompt,
               (double)(scheduler_now() - begin) / 1e6);
}

int main(int argc, char **argv) {
        struct scheduler_bench b = { .threads = 2, .prompt = 4000, .seconds = 25 };

        if (scheduler_bench_open(&b, argc, argv, KV_PAGE) < 0)
                return 64;
        watch(b.scheduler, b.model, b.prompt, b.seconds * 1000000);
        scheduler_bench_done(&b);
        return 0;
}
