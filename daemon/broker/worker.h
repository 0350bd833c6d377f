/* A worker process of one uid, from its start to its end, with all it holds: queued and handed-over
 * connections, jobs, a place among the CPU leases. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/broker/holds.h"
#include "daemon/broker/jobs.h"
#include "daemon/broker/leases.h"
#include "daemon/broker/receipt_key.h"
#include "daemon/broker/sessions.h"
#include "daemon/broker/settings.h"
#include "daemon/broker/spawn.h"
#include "daemon/broker/store.h"
#include "daemon/wire/frame.h"
#include "policy/account.h"
#include "policy/admission.h"
#include "policy/pace.h"
#include "policy/start.h"

enum worker_state {
        WORKER_DELAYED,  /* its start has to wait */
        WORKER_STARTING, /* HELLO is sent */
        WORKER_SERVING,
        WORKER_CLOSING,  /* SHUTDOWN is sent: takes nothing new */
};

/* Why a worker was ended; logged as a number. */
enum worker_failure {
        FAILURE_NONE = 0,
        FAILURE_START,     /* no process */
        FAILURE_EXITED,    /* end of the connection */
        FAILURE_ILLEGAL,   /* a message that is not allowed, or not now */
        FAILURE_SANDBOX,   /* READY without its filter */
        FAILURE_TIMEOUT,   /* no READY, no DONE after CANCEL, no end after SHUTDOWN */
        FAILURE_FLOOD,     /* too many messages */
        FAILURE_NOT_READING,
        FAILURE_STOPPED,   /* the broker ends */
        FAILURE_OVERRUN,   /* computes without a lease */
};

enum { WORKER_MAX_WANTS = 16 };

struct conn {
        struct conn *next;
        uint64_t id;
        struct charge charge;
        int fd;            /* until it is handed over */
};

struct workers;
struct counts;
struct metrics;

struct worker {
        struct workers *owner;
        struct worker *next;
        struct account *account;
        enum worker_state state;
        enum worker_failure doom;      /* set: it will be ended as soon as the loop is reached */
        uint32_t slot;
        int sock;
        pid_t pid;
        uint64_t started_usec;
        sd_event_source *io, *timer, *doomed, *child;
        struct conn *conns;
        uint64_t next_conn;
        struct admission admission;
        struct pace pace;              /* of its jobs */
        uint64_t queue_told;           /* when it was told all places, monotonic */
        uint32_t kept;                 /* results it keeps: it must not end */
        struct lease_domain lease;
        uint64_t billed;               /* of lease.charged */
        char wants[WORKER_MAX_WANTS][WIRE_NAME_MAX]; /* names of models that are not ready yet */
        unsigned n_wants;
        uint64_t second;               /* message count of this second */
        uint32_t messages;
        uint32_t faults;               /* that it reported */
        struct wire_resident resident; /* what it said last */
        uint64_t keep_until;           /* a model is to stay loaded for a client */
        uint64_t idle_since;           /* 0: it is not */
        uint32_t catalog_next;         /* models told of since the catalogue changed */
        bool open;                     /* it was told of all once: may have connections and jobs */
};

struct workers_settings {
        sd_event *event;
        const struct spawn *spawn;
        struct store *store;
        struct jobs *jobs;
        struct leases *leases;
        struct accounts *accounts;
        struct metrics *metrics;
        struct holds *holds;
        struct sessions *sessions;
        struct counts *counts;
        const struct settings *settings; /* who has which account */
        uint32_t threads, cpu_mask;
        uint8_t receipt_secret[RECEIPT_KEY_SIZE];
        enum wire_kv kv;
        /* Answer to a connection whose worker could not be started; the descriptor is taken. */
        void (*unavailable)(int fd, void *userdata);
        /* Descriptors have run out: give some back. */
        void (*exhausted)(void *userdata);
        /* The last worker has gone after workers_shut_down. */
        void (*all_gone)(void *userdata);
        void *userdata;
};

int workers_new(struct workers **ret, const struct workers_settings *settings);
/* Ends all workers and their jobs; returns when no process is left. */
struct workers *workers_free(struct workers *w);
const struct workers_settings *workers_settings(const struct workers *w);
uint32_t workers_count(const struct workers *w);
/* NULL after the last one. */
const struct worker *workers_at(const struct workers *w, uint32_t index);
/* For control_stop: no job is admitted any more; ask all workers to end. */
void workers_set_stopping(struct workers *w);
bool workers_stopping(const struct workers *w);
void workers_shut_down(struct workers *w);

/* The worker of an account, started if there is none. Borrowed. 0 or -ENOMEM. */
int workers_get(struct workers *w, struct account *account, struct worker **ret);
/* The same without starting one. */
struct worker *workers_find(const struct workers *w, const struct account *account);

/* Takes the connection and its charge (on success). 0 or -ENOMEM. */
int worker_add_conn(struct worker *w, int fd, struct charge *charge);
/* The job belongs to this worker from now on; it is sent when the worker serves. */
void worker_add_job(struct worker *w, struct job *job);

/* Send; on failure the worker is doomed, never freed under the caller. */
void worker_send(struct worker *w, union wire_message *m, int fd);
void worker_doom(struct worker *w, enum worker_failure why);

/* The job has ended inside the worker: end it, let the next one run, refresh the lease class. */
void worker_job_ended(struct worker *w, struct job *job, enum error_code error, uint64_t value,
                      uint64_t limit, const struct wire_done *done);
uint32_t worker_max_running(const struct worker *w);
/* Its admission says that it runs. */
void worker_send_admitted(struct worker *w, struct job *job);
/* Wipe a result that a worker keeps (job->keeper). */
void worker_discard(struct job *job);
/* A job that has not ended changes its class. */
void worker_set_priority(struct worker *w, struct job *job, enum wire_priority priority);
/* It has been told of all. Before that no model is handed out. */
bool worker_knows_models(const struct worker *w);
/* What its user gets by this name; "" = the user's default. NULL: nothing. */
const struct store_model *worker_model(const struct worker *w, const char *name);
/* May its user start such a job? ERROR_NONE, or why not; the priority may become background. */
enum error_code worker_allows(const struct worker *w, uint32_t verb, const char *model,
                              uint32_t *priority);
/* Charge its account for the CPU it has used since the last call. */
void worker_bill(struct worker *w);
void workers_bill(struct workers *w);
/* The buckets of its account have changed. */
void worker_send_rates(struct worker *w);
/* Something that decides about idleness or the lease class has changed. */
void worker_settle(struct worker *w);
/* It said READY: send the catalogue, then all that has waited. */
void worker_serve(struct worker *w);
/* Its connection has ended. */
void worker_hung_up(struct worker *w);
/* Ends it now. Never call it from code that still uses the worker. */
void worker_end(struct worker *w, enum worker_failure why);

/* A lease for a model of an account (holds.h): its worker is started and told. 0,
 * ACCOUNT_E_QUOTA or -ENOMEM. */
int workers_hold(struct workers *w, struct account *account, const char *name, struct hold **ret);
/* The lease ends (NULL is fine); returns NULL. */
struct hold *workers_let_go(struct workers *w, struct hold *hold);

/* Memory is short: what is kept only for speed; workers without work, with held_too also those
 * that a lease keeps. */
void workers_drop_caches(struct workers *w);
void workers_end_idle(struct workers *w, bool held_too);
/* As far as is known, some worker has the model loaded. */
bool workers_use_model(const struct workers *w, const char *name);

/* Tell all serving workers: models changed (and answer those who wait), limits changed. */
void workers_models_changed(struct workers *w);
void workers_limits_changed(struct workers *w);
