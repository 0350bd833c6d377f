/* What the broker tells the administrator: a message id and integers, never a string that came
 * from a client, a worker or a model file. The exceptions are a name of the catalogue and the path
 * of a configuration file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/config.h"

enum log_event {
        LOG_READY,           /* models */
        LOG_STOPPING,
        LOG_RELOADED,
        LOG_CONFIG_BAD,      /* by log_config_bad */
        LOG_BUS_MISSING,     /* errno */
        LOG_BUS_LOST,        /* errno */
        LOG_ACCEPT_FAILED,   /* errno */
        LOG_WORKER_STARTED,  /* uid, pid */
        LOG_WORKER_READY,    /* uid, pid, Landlock ABI */
        LOG_WORKER_IDLE,     /* uid, pid */
        LOG_WORKER_FAILED,   /* uid, pid, reason (enum worker_failure) */
        LOG_WORKER_EXITED,   /* pid, status */
        LOG_WORKER_FAULT,    /* uid, pid, code */
        LOG_WORKER_OVERRUN,  /* uid, pid, leases not given back in time */
        LOG_START_FAILED,    /* uid, errno */
        LOG_MODEL_READY,     /* index, bytes */
        LOG_MODEL_BAD,       /* by log_model_bad */
        LOG_MODEL_CHANGED,   /* index: the packed file did not match its digest */
        LOG_PACK_STARTED,    /* index, bytes */
        LOG_PACK_FAILED,     /* index, errno, attempt */
        LOG_IDENTITY_UNKNOWN,/* uid, errno: the user database did not answer */
        LOG_QUOTA_FILE,      /* errno: what was used today cannot be read or written */
        LOG_IDLE,            /* the daemon ends, nobody was there */
        LOG_PRESSURE,        /* enum pressure_step, workers */
        LOG_NO_PRESSURE,     /* errno: nothing says how short memory is */
        LOG_MODEL_COLD,      /* index, bytes: read again, the page cache had lost it */
        LOG_WORKER_ENDED,    /* uid, pid, CPU time: in order */
        LOG_JOB_LOST,        /* uid, job, verb (enum wire_verb): its worker failed */
        LOG_JOB_REFUSED,     /* by log_refused */
        LOG_REFUSALS,        /* how many more than were logged one by one */
        LOG_QUOTA_CHANGED,   /* uid, keys, whether in a file */
        _LOG_MAX,
};

/* To the journal's native socket (system mode) or to standard error (the start). */
void log_to_journal(bool yes);
void log_event(enum log_event event, uint64_t a, uint64_t b, uint64_t c);
/* Why a model is not served: its name in the catalogue (which has passed the rule for names), the
 * constant text of an enum model_error_code, and the numbers that go with it. */
void log_model_bad(const char *name, uint32_t code, uint64_t position, uint64_t value,
                   uint64_t limit);
/* A job or a connection was not taken: enum wire_verb and id of the job, 0 where there is none, and
 * enum error_code. Not every one is written when there are many. */
void log_refused(uint64_t uid, uint32_t verb, uint64_t job, uint32_t error);
/* Why a configuration is refused; the one in force stays. */
void log_config_bad(const struct config_problem *problem);

/* An entry as the journal gets it: "NAME=value" each, the first one MESSAGE. line: instead of the
 * event's own sentence, or NULL. */
enum { LOG_NUMBERS = 4, LOG_FIELDS = 3 + LOG_NUMBERS, LOG_FIELD_SIZE = 672 };
struct log_entry {
        unsigned n;
        char fields[LOG_FIELDS][LOG_FIELD_SIZE];
};
void log_build(struct log_entry *e, enum log_event event, const char *line,
               const uint64_t v[LOG_NUMBERS]);
