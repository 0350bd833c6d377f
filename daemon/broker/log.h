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
        _LOG_MAX,
};

/* To the journal's native socket (system mode) or to standard error (the start). */
void log_to_journal(bool yes);
void log_event(enum log_event event, uint64_t a, uint64_t b, uint64_t c);
/* Why a model is not served: its name in the catalogue (which has passed the rule for names), the
 * constant text of an enum model_error_code, and the numbers that go with it. */
void log_model_bad(const char *name, uint32_t code, uint64_t position, uint64_t value,
                   uint64_t limit);
/* Why a configuration is refused; the one in force stays. */
void log_config_bad(const struct config_problem *problem);
