/* Summaries without the daemon, for evaluation: engine, scheduler and summaries in one process.
 *
 *   summarize-file [--threads N] [--jobs N] MODEL < REQUESTS > ANSWERS
 *
 * One JSON object per line: {"id", "text", "type": "tldr", "length": "short", "format":
 * "plain-text", "context": "…", "truncate": TOKENS}; all but the text may be missing. truncate
 * keeps the beginning of the text only, for comparison with what a single prompt can do. Answers
 * come in order: {"id", "summary", "error", "coverage", "tokens_in", "tokens_out", "seconds"}. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/secure_buf.h"
#include "daemon/worker/split.h"
#include "daemon/worker/summarize.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"
#include "tests/tools/open_model.h"

enum { MAX_SEQUENCES = 16, KV_TOKENS = 40000, LEASE_USEC = 1000000 };

struct job {
        struct summarize *summarize; /* NULL: ended */
        json_t *answer;
        struct secure_buf text;
        double begin;
};

static double seconds(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct job *j = userdata;

        secure_buf_append(&j->text, text, n);
}

static void on_end(void *userdata, int error, const struct coverage *c,
                   const struct summarize_usage *usage) {
        struct job *j = userdata;

        json_object_set_new(j->answer, "summary", json_stringn(j->text.p ? j->text.p : "",
                                                               j->text.n));
        json_object_set_new(j->answer, "error", json_integer(error));
        json_object_set_new(j->answer, "coverage", json_pack(
                "{sI sI sI sI sI sI}", "bytes", (json_int_t)c->bytes,
                "tokens", (json_int_t)c->tokens, "tokens_used", (json_int_t)c->tokens_used,
                "dropped", (json_int_t)c->dropped, "pieces", (json_int_t)c->pieces,
                "rounds", (json_int_t)c->rounds));
        json_object_set_new(j->answer, "tokens_in", json_integer((json_int_t)usage->in));
        json_object_set_new(j->answer, "tokens_out", json_integer((json_int_t)usage->out));
        json_object_set_new(j->answer, "seconds", json_real(seconds() - j->begin));
        secure_buf_done(&j->text);
        j->summarize = NULL;
}

static uint32_t choice(json_t *request, const char *key, const char *const *names, uint32_t n) {
        const char *value = json_string_value(json_object_get(request, key));

        for (uint32_t i = 0; value && i < n; i++)
                if (strcmp(names[i], value) == 0)
                        return i;
        return 0;
}

/* Keep at most so many tokens. */
static size_t truncated(const struct vocab *v, const char *text, size_t n, json_t *limit) {
        struct splitter s = {.vocab = v, .text = text, .n = n, .tokens_left = 0};
        struct piece p = {.n = n};

        s.limit = (uint32_t)json_integer_value(limit);
        if (s.limit >= SPLIT_MIN_TOKENS && split_next(&s, &p) < 0)
                return 0;
        return p.n;
}

static int start(struct job *j, json_t *request, struct scheduler *s, const struct model *model) {
        static const char *const types[] = {"tldr", "teaser", "key-points", "headline"};
        static const char *const lengths[] = {"short", "medium", "long"};
        static const char *const formats[] = {"plain-text", "markdown"};
        json_t *text = json_object_get(request, "text"), *context;
        struct summarize_request r = {
                .scheduler = s, .model = model, .sampling = SAMPLING_GREEDY,
                .type = choice(request, "type", types, ARRAY_SIZE(types)),
                .length = choice(request, "length", lengths, ARRAY_SIZE(lengths)),
                .format = choice(request, "format", formats, ARRAY_SIZE(formats)),
                .text = on_text, .end = on_end, .userdata = j,
        };

        if (!json_is_string(text))
                return -EINVAL;
        r.n = truncated(model->vocab, json_string_value(text), json_string_length(text),
                        json_object_get(request, "truncate"));
        r.document = strndup(json_string_value(text), r.n);
        context = json_object_get(request, "context");
        if (json_is_string(context))
                r.context = strdup(json_string_value(context));
        j->answer = json_object();
        json_object_set(j->answer, "id", json_object_get(request, "id"));
        j->begin = seconds();
        return summarize_start(&j->summarize, &r);
}

/* One turn of the loop that a daemon would have. */
static void turn(struct scheduler *s, struct job *jobs, size_t n) {
        struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};
        bool more = false;

        for (size_t i = 0; i < n; i++)
                if (jobs[i].summarize)
                        more |= summarize_run(jobs[i].summarize);
        scheduler_grant(s, (uint64_t)(seconds() * 1e6) + LEASE_USEC);
        poll(&p, 1, more ? 0 : LEASE_USEC / 2000);
        scheduler_dispatch(s);
}

static bool running(const struct job *jobs, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (jobs[i].summarize)
                        return true;
        return false;
}

/* Read up to n requests, answer them together, in order. False at the end of the input. */
static bool batch(struct scheduler *s, const struct model *model, struct job *jobs, size_t n) {
        size_t started = 0, room = 0;
        char *line = NULL;

        while (started < n && getline(&line, &room, stdin) > 0) {
                json_t *request = json_loads(line, 0, NULL);
                int r = request ? start(&jobs[started], request, s, model) : -EINVAL;

                json_decref(request);
                if (r < 0) {
                        fprintf(stderr, "summarize-file: %s\n", strerror(-r));
                        exit(1);
                }
                started++;
        }
        free(line);
        while (running(jobs, started))
                turn(s, jobs, started);
        for (size_t i = 0; i < started; i++) {
                json_dumpf(jobs[i].answer, stdout, JSON_COMPACT);
                puts("");
                json_decref(jobs[i].answer);
        }
        fflush(stdout);
        return started == n;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"threads", required_argument, NULL, 't'}, {"jobs", required_argument, NULL, 'j'},
                {0}};
        unsigned threads = 2;
        size_t n_jobs = 8;
        struct scheduler *s;
        struct model *model;
        struct job *jobs;
        size_t kv;
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (c == 't')
                        threads = (unsigned)strtoul(optarg, NULL, 10);
                else if (c == 'j')
                        n_jobs = strtoul(optarg, NULL, 10);
                else
                        return 2;
        }
        if (optind + 1 != argc || n_jobs == 0 || open_model(&model, argv[optind]) < 0)
                return 2;
        kv = kv_bytes_of(&model->hp, KV_S16, KV_TOKENS);
        if (scheduler_new(&s, threads, cpu_flags(CPU_ALL), MAX_SEQUENCES) < 0 ||
            scheduler_add_model(s, model, kv) < 0)
                return 1;
        jobs = calloc(n_jobs, sizeof(*jobs));
        while (jobs && batch(s, model, jobs, n_jobs))
                memset(jobs, 0, n_jobs * sizeof(*jobs));
        free(jobs);
        scheduler_free(s);
        model_free(model);
        return 0;
}
