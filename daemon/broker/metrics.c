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
static void put_refusals_by(struct text *t, const uint64_t counts[_ERROR_MAX], const char *by) {
        uint64_t sums[_ERROR_MAX] = {};

        for (unsigned e = 1; e < _ERROR_MAX; e++)
                sums[error_from_http_code(error_row((enum error_code)e)->http_code)] +=
                        counts[e];
        for (unsigned e = 1; e < _ERROR_MAX; e++)
                if (sums[e])
                        put(t, "bitnetd_refusals_total{code=\"%s\",by=\"%s\"} %" PRIu64 "\n",
                            error_row((enum error_code)e)->http_code, by, sums[e]);
}

static void put_refusals(struct text *t, const struct metrics *m) {
        head(t, "refusals_total", "counter",
             "What the broker did not take (jobs, counts, sessions, connections) and workers did "
             "not.");
        put_refusals_by(t, m->refusals, "broker");
        put_refusals_by(t, m->worker_refusals, "worker");
}

/* States without a job are left out, but for one line, so that the name is always there. */
static void put_states(struct text *t, const struct metrics_now *now) {
        head(t, "jobs", "gauge", "Jobs that have not ended, by their state.");
        for (unsigned verb = WIRE_VERB_CHAT; verb < _WIRE_VERB_MAX; verb++) {
                const struct job job = { .verb = (enum wire_verb)verb };

                for (unsigned s = 0; s < WIRE_STATE_DONE; s++)
                        if (now->jobs[verb][s] || s == WIRE_STATE_QUEUED)
                                put(t, "bitnetd_jobs{verb=\"%s\",state=\"%s\"} %" PRIu32 "\n",
                                    job_verb_name(&job), wire_state_name(s), now->jobs[verb][s]);
        }
}

static void put_memory(struct text *t, const struct metrics *m, const struct metrics_now *now) {
        static const char *const steps[] = { "none", "caches", "workers", "weights" };

        one(t, "worker_private_bytes", "gauge", "Memory of all workers that is not shared.",
            now->private_bytes);
        one(t, "kv_bytes", "gauge", "Of those, keys and values.", now->kv_bytes);
        one(t, "kv_kept_bytes", "gauge", "Of those, kept only for reuse.", now->kv_kept_bytes);
        one(t, "weights_mapped_bytes", "gauge",
            "Model files mapped by workers, each counted once per worker.", now->weights_bytes);
        one(t, "memory_pressure_step", "gauge",
            "What is being given back: 0 nothing, 1 caches, 2 also workers, 3 also weights.",
            now->pressure_step);
        head(t, "memory_reliefs_total", "counter", "Reactions to memory pressure.");
        for (unsigned i = 1; i < _METRICS_RELIEF_MAX; i++)
                put(t, "bitnetd_memory_reliefs_total{step=\"%s\"} %" PRIu64 "\n", steps[i],
                    m->relief[i]);
}

static void put_now(struct text *t, const struct metrics_now *now) {
        head(t, "build_info", "gauge", "The version, as a label.");
        put(t, "bitnetd_build_info{version=\"" BITNETD_VERSION "\"} 1\n");
        one(t, "connections", "gauge", "Connections that are open.", now->connections);
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
        one(&t, "bus_calls_total", "counter", "Method calls on the bus.", m->bus_calls);
        put_now(&t, now);
        put_states(&t, now);
        put_memory(&t, m, now);
        return t.full ? 0 : t.n;
}
