/* What has happened since the start, in numbers, for the administrator: Prometheus text on a socket
 * of its own. No label is ever a text of a user or a worker. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/broker/jobs.h"
#include "policy/error.h"

enum { _METRICS_RELIEF_MAX = 4 };
enum metrics_result { METRICS_DONE, METRICS_CANCELLED, METRICS_FAILED, _METRICS_RESULT_MAX };

struct metrics {
        uint64_t jobs[_WIRE_VERB_MAX][_METRICS_RESULT_MAX];
        uint64_t tokens_in, tokens_out;
        uint64_t refusals[_ERROR_MAX];
        uint64_t worker_refusals[_ERROR_MAX]; /* as the workers say */
        uint64_t connections, bus_calls, workers_started, workers_failed;
        uint64_t relief[_METRICS_RELIEF_MAX]; /* by enum pressure_step */
        uint32_t pressure_step;               /* now */
};

/* What is so at this moment. */
struct metrics_now {
        uint32_t workers, jobs_running, jobs_waiting, models;
        uint32_t jobs[_WIRE_VERB_MAX][_WIRE_STATE_MAX]; /* that have not ended */
        uint32_t pressure_step;
        uint64_t connections;                           /* open */
        /* As the workers say, all together. */
        uint64_t private_bytes, kv_bytes, kv_kept_bytes, weights_bytes;
        uint64_t compute_usec; /* time under a lease, all domains, since the start */
};

/* A job has ended. */
void metrics_job(struct metrics *m, const struct job *job);

/* The exposition format 0.0.4. Returns the length without the end, or 0 when it does not fit. */
size_t metrics_format(const struct metrics *m, const struct metrics_now *now, char *text,
                      size_t size);
