/* The parts of a serving worker, and the few numbers that all of them need. Everything runs on the
 * main thread; only the scheduler has others behind it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/refusals.h"
#include "daemon/worker/resident.h"

struct bus_job;
struct conn;
struct count;
struct job;
struct link;
struct models;
struct scheduler;
struct session;
struct user;

struct worker {
        struct link *link;
        struct models *models;
        struct scheduler *scheduler;
        struct conn *conns;        /* lists; each entry is freed by its own module's reaper */
        struct job *jobs;
        struct bus_job *bus_jobs;
        struct count *counts;
        struct session *sessions;
        struct user *users;
        struct wire_limits limits; /* HELLO's: of the whole worker */
        bool shared;               /* by several users */
        struct resident resident;  /* what the broker was told of memory */
        struct refusals refusals;  /* what it was not told yet */
        const char *isa;           /* of the kernels, for receipts */
        const char *kv;            /* how keys and values are kept, for receipts */
        uint64_t next_ref;         /* for jobs from HTTP, without the top bit */
        uint64_t seed_state;       /* for default_sampling */
        uint64_t now;              /* CLOCK_MONOTONIC, microseconds, taken once per loop pass */
        uint64_t stop_by;          /* SHUTDOWN came: end at this time at the latest; 0: running */
};

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
