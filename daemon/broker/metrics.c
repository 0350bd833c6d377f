/* Counters and their text. Counters only grow; a scraper takes differences. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "daemon/broker/metrics.h"
#include "engine/base/macro.h"
#include "policy/quota.h"

void metrics_job(struct metrics *m, const struct job *job) {
        enum metrics_result result = job->error == ERROR_NONE        ? METRICS_DONE
                                     : job->error == ERROR_CANCELLED ? METRICS_CANCELLED
                                                                     : METRICS_FAILED;

        if ((unsigned)job->verb < _WIRE_VERB_MAX)
                m->jobs[job->verb][result]++;
        /* The worker's words: however large, the sums of everybody only grow. */
        m->tokens_in += MIN(job->progress.tokens_in, QUOTA_MOST_CLAIMED);
        m->tokens_out += MIN(job->progress.tokens_out, QUOTA_MOST_CLAIMED);
}

struct text {
        char *p;
        size_t n, size;
        bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...) {
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(t->p + t->n, t->size - t->n, format, args);
        va_end(args);
        if (n < 0 || (size_t)n >= t->size - t->n)
                t->full = true;
        else
                t->n += (size_t)n;
}

static void head(struct text *t, const char *name, const char *type, const char *help) {
        put(t, "# HELP bitnetd_%s %s\n# TYPE bitnetd_%s %s\n", name, help, name, type);
}

static void one(struct text *t, const char *name, const char *type, const char *help,
                uint64_t value) {
        head(t, name, type, help);
        put(t, "bitnetd_%s %" PRIu64 "\n", name, value);
}

static void put_jobs(struct text *t, const struct metrics *m) {
        static const char *const results[_METRICS_RESULT_MAX] = { "done", "cancelled", "failed" };

        head(t, "jobs_total", "counter", "Jobs that have ended.");
        for (unsigned verb = WIRE_VERB_CHAT; verb < _WIRE_VERB_MAX; verb++) {
                const struct job job = { .verb = (enum wire_verb)verb };

                for (unsigned r = 0; r < _METRICS_RESULT_MAX; r++)
                        put(t, "bitnetd_jobs_total{verb=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                            job_verb_name(&job), results[r], m->jobs[verb][r]);
        }
}

/* Errors that are spelled alike are one line. */
static void put_refusals(struct text *t, const struct metrics *m) {
        uint64_t sums[_ERROR_MAX] = {};

        head(t, "refusals_total", "counter", "Jobs and connections that were not taken.");
        for (unsigned e = 1; e < _ERROR_MAX; e++)
                sums[error_from_http_code(error_row((enum error_code)e)->http_code)] +=
                        m->refusals[e];
        for (unsigned e = 1; e < _ERROR_MAX; e++)
                if (sums[e])
                        put(t, "bitnetd_refusals_total{code=\"%s\"} %" PRIu64 "\n",
                            error_row((enum error_code)e)->http_code, sums[e]);
}

static void put_now(struct text *t, const struct metrics_now *now) {
        one(t, "workers", "gauge", "Worker processes.", now->workers);
        one(t, "jobs_running", "gauge", "Jobs that are being worked on.", now->jobs_running);
        one(t, "jobs_waiting", "gauge", "Jobs that wait for their turn.", now->jobs_waiting);
        one(t, "models", "gauge", "Models in the catalogue.", now->models);
        head(t, "compute_seconds_total", "counter",
             "Time under a CPU lease, times the threads granted.");
        put(t, "bitnetd_compute_seconds_total %" PRIu64 ".%06" PRIu64 "\n",
            now->compute_usec / 1000000, now->compute_usec % 1000000);
}

size_t metrics_format(const struct metrics *m, const struct metrics_now *now, char *text,
                      size_t size) {
        struct text t = { .p = text, .size = size };

        put_jobs(&t, m);
        one(&t, "tokens_in_total", "counter", "Prompt tokens of ended jobs.", m->tokens_in);
        one(&t, "tokens_out_total", "counter", "Tokens written by ended jobs.", m->tokens_out);
        put_refusals(&t, m);
        one(&t, "connections_total", "counter", "Connections accepted.", m->connections);
        one(&t, "workers_started_total", "counter", "Worker processes started.",
            m->workers_started);
        one(&t, "workers_failed_total", "counter", "Workers that did not end by themselves.",
            m->workers_failed);
        put_now(&t, now);
        return t.full ? 0 : t.n;
}
