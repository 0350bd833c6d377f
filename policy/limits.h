/* Every limit of the service in one place. Those of a quota may be configured, for everybody, a
 * group or a user (quota_key.h, config.h); the enumerations below are fixed. Limits of file formats
 * live with their parsers. */
#pragma once

#include <stdint.h>

/* What a quota says. Numbers first, texts last; the rows of quota_key.c are in the same order. */
enum quota_key {
        QUOTA_MAX_CONCURRENT_JOBS, /* running */
        QUOTA_MAX_QUEUED_JOBS,     /* waiting */
        QUOTA_MAX_CONNECTIONS,     /* HTTP and private bus connections */
        QUOTA_MAX_OBJECTS,         /* jobs that can be looked at, and calls of Wait() */
        QUOTA_MAX_SESSIONS,
        QUOTA_MAX_SESSION_KV,      /* bytes, all sessions of the user together */
        QUOTA_SESSION_IDLE_SEC,    /* an unused session is closed */
        QUOTA_MAX_INPUT_BYTES,     /* per job */
        QUOTA_MAX_CONTEXT_TOKENS,  /* per job: prompt and answer together */
        QUOTA_MAX_OUTPUT_TOKENS,   /* per job */
        QUOTA_REQUESTS_PER_MINUTE,
        QUOTA_TOKENS_PER_MINUTE,   /* weighted tokens (quota.h) */
        QUOTA_TOKENS_PER_DAY,      /* the same */
        QUOTA_CPU_TIME_PER_DAY,    /* microseconds of CPU, as the broker measures it */
        QUOTA_WEIGHT,              /* share of the CPU, 1..10000 */
        QUOTA_ALLOW_VERBS,         /* bit i: word i of quota_verbs */
        QUOTA_ALLOW_PRIORITY,      /* bit i: word i of quota_priorities */
        QUOTA_MAX_SEQUENCES,       /* generated at once, in the user's worker */
        QUOTA_KV_BYTES,            /* of the user's worker */
        QUOTA_IDLE_TIMEOUT_SEC,    /* an unused worker ends */
        QUOTA_MODEL_IDLE_SEC,      /* an unused model is unloaded */
        QUOTA_MAX_KEEP_ALIVE_SEC,  /* longest time that a client may ask for instead */
        QUOTA_CONNECTION_IDLE_SEC, /* a silent client connection is closed */
        _QUOTA_NUMBERS,
        QUOTA_ALLOW_MODELS = _QUOTA_NUMBERS, /* patterns of names, spaces between */
        QUOTA_DEFAULT_MODEL,       /* "" = the daemon chooses */
        _QUOTA_MAX,
};

#define QUOTA_INFINITY UINT64_MAX

/* The quota of one user, resolved. Texts belong to the configuration. */
struct limits {
        uint64_t v[_QUOTA_NUMBERS];
        const char *text[_QUOTA_MAX - _QUOTA_NUMBERS];
};

/* Of the whole daemon. */
enum {
        LIMIT_THREADS = 64,            /* of one worker */
        LIMIT_ACCOUNTS = 512,          /* uids known at once */
        LIMIT_CONNECTIONS = 512,       /* all uids together */
        LIMIT_FINISHED_JOBS = 1024,    /* kept readable after their end */
        LIMIT_FINISHED_PER_UID = 64,
        LIMIT_WAITERS_PER_JOB = 8,     /* calls of Wait() that are held */
        LIMIT_DETACHED_PER_UID = 16,   /* that run, or whose results are kept */
        LIMIT_COUNTS_PER_UID = 8,      /* inputs that are being counted */
        LIMIT_KEPT_BYTES = 16 << 20,   /* results kept for one user */
        LIMIT_CONFIG_FILES = 1024,
        LIMIT_CONFIG_SETTINGS = 16384, /* assignments in all files */
};

/* Times. */
#define LIMIT_FINISHED_USEC     UINT64_C(30000000) /* a finished job stays readable */
#define LIMIT_WORKER_START_USEC UINT64_C(10000000) /* from start to READY */
#define LIMIT_PACK_USEC         UINT64_C(900000000)
#define LIMIT_CANCEL_USEC       UINT64_C(5000000)  /* CANCEL to DONE, SHUTDOWN to the end */
#define LIMIT_SESSION_CALL_USEC UINT64_C(60000000) /* for a worker to open or extend a session */
#define LIMIT_COUNT_USEC        UINT64_C(15000000) /* for an input to come and be counted */
#define LIMIT_STOP_USEC         UINT64_C(2000000)  /* for jobs to end when the daemon does */
#define LIMIT_DEADLINE_USEC     UINT64_C(86400000000) /* longest deadline of a job */

/* How long the result of a detached job is kept: unless told otherwise, at least and at most. */
#define LIMIT_KEEP_DEFAULT_USEC UINT64_C(600000000)
#define LIMIT_KEEP_LEAST_USEC   UINT64_C(1000000)
#define LIMIT_KEEP_MOST_USEC    UINT64_C(3600000000)

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

/* Questions to polkit that are open at once, and of one uid (grants count there). How long a yes
 * opens the objects for administrators, and how long one waits for polkit: where it may ask a
 * person, and where not. */
enum { LIMIT_CHECKS = 16, LIMIT_CHECKS_PER_UID = 4 };
#define LIMIT_GRANT_USEC  UINT64_C(300000000)
#define LIMIT_DIALOG_USEC UINT64_C(120000000)
#define LIMIT_POLKIT_USEC UINT64_C(10000000)
