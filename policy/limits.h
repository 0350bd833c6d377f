/* Every limit of the service in one place. Those in struct limits may be configured (config.h);
 * the enumerations are fixed. Limits of file formats live with their parsers. */
#pragma once

#include <stdint.h>

struct limits {
        uint32_t max_concurrent_jobs;  /* running, per uid */
        uint32_t max_queued_jobs;      /* waiting, per uid */
        uint32_t max_connections;      /* HTTP and private bus connections, per uid */
        uint32_t max_output_tokens;    /* per job */
        uint32_t max_sequences;        /* generated at once, per worker */
        uint64_t max_input_bytes;      /* per job */
        uint64_t kv_bytes;             /* per worker */
        uint32_t idle_timeout_sec;     /* an unused worker ends */
        uint32_t connection_idle_sec;  /* a silent client connection is closed */
};

#define LIMITS_DEFAULT                                                                             \
        (struct limits) {                                                                          \
                .max_concurrent_jobs = 4, .max_queued_jobs = 16, .max_connections = 32,            \
                .max_output_tokens = 4096, .max_sequences = 16,                                    \
                .max_input_bytes = UINT64_C(64) << 20, .kv_bytes = UINT64_C(1) << 30,              \
                .idle_timeout_sec = 300, .connection_idle_sec = 60,                                \
        }

/* Of the whole daemon. */
enum {
        LIMIT_THREADS = 64,            /* of one worker */
        LIMIT_ACCOUNTS = 512,          /* uids known at once */
        LIMIT_CONNECTIONS = 512,       /* all uids together */
        LIMIT_FINISHED_JOBS = 1024,    /* kept readable after their end */
        LIMIT_FINISHED_PER_UID = 64,
        LIMIT_WAITERS_PER_JOB = 8,     /* calls of Wait() that are held */
};

/* Times. */
#define LIMIT_FINISHED_USEC     UINT64_C(30000000) /* a finished job stays readable */
#define LIMIT_WORKER_START_USEC UINT64_C(10000000) /* from start to READY */
#define LIMIT_PACK_USEC         UINT64_C(900000000)
#define LIMIT_CANCEL_USEC       UINT64_C(5000000)  /* CANCEL to DONE, SHUTDOWN to the end */
#define LIMIT_STOP_USEC         UINT64_C(2000000)  /* for jobs to end when the daemon does */
#define LIMIT_DEADLINE_USEC     UINT64_C(86400000000) /* longest deadline of a job */

/* Starting workers: at most a burst at once, then one each interval; after a crash the same uid
 * waits longer each time. */
enum { START_BURST = 20 };
#define START_INTERVAL_USEC    UINT64_C(50000)
#define START_BACKOFF_USEC     UINT64_C(100000)
#define START_BACKOFF_MAX_USEC UINT64_C(5000000)
#define START_FORGIVE_USEC     UINT64_C(30000000) /* one that lived so long clears the record */

/* Messages of one worker in one second; more is an attack on the broker's loop. */
enum { LIMIT_MESSAGES_PER_SEC = 20000 };
/* Faults that one worker may report in its life; each is a line of the log. */
enum { LIMIT_FAULTS = 16 };

/* Private connections to the bus, of one uid, and the replies that may wait on one of them for a
 * client that does not read. */
enum { LIMIT_BUS_PEERS = 8, LIMIT_BUS_REPLIES = 64 };
