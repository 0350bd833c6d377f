/* Telling the broker how many requests this worker has refused by itself: they never become jobs,
 * so nobody else could count them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/wire/proto.h"

struct poller;
struct request_error;
struct worker;

struct refusals {
        uint32_t counts[WIRE_ERRORS_MAX]; /* by enum error_code; not told yet */
        uint64_t told_at;
        bool new;
};

/* A request got this error; job: its id, 0 if it never became one. Counted unless the broker knows
 * of it. */
void refusals_add(struct worker *w, const struct request_error *e, uint64_t job);

/* Once per loop pass. */
void refusals_poll(const struct worker *w, struct poller *p);
void refusals_run(struct worker *w);
