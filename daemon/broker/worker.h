/* A worker process of one isolation domain, which is one uid unless configured otherwise, from its
 * start to its end, with all it holds: queued and handed-over connections, jobs, a place among the
 * CPU leases. What belongs to one user of it is in member.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/broker/holds.h"
#include "daemon/broker/jobs.h"
#include "daemon/broker/leases.h"
#include "daemon/broker/member.h"
#include "daemon/broker/receipt_key.h"
#include "daemon/broker/sessions.h"
#include "daemon/broker/settings.h"
#include "daemon/broker/spawn.h"
#include "daemon/broker/store.h"
#include "daemon/wire/frame.h"
#include "policy/account.h"
#include "policy/config.h"
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

struct conn {
        struct conn *next;
        uint64_t id;
        struct charge charge;
        int fd;            /* until it is handed over */
};

struct workers;
struct counts;
struct metrics;
struct tasks;

/* Whom a worker is for: a uid, the users of a primary group, or everybody (id 0), as far as their
 * accounts are of this slice: so a uid has at most one account in a worker. */
struct domain {
        enum isolation kind;
        uint32_t id;
        char slice[SLICE_RULE_SIZE];
};

struct worker {
        struct workers *owner;
        struct worker *next;
        struct domain domain;
        struct member *members;        /* in the order in which they came; never none */
        uid_t first_uid;               /* for whom it was started; named in the log */
        enum worker_state state;
        enum worker_failure doom;      /* set: it will be ended as soon as the loop is reached */
        uint32_t slot;
        int sock;
        pid_t pid;
        uint64_t started_usec;
        sd_event_source *io, *timer, *doomed, *child;
        struct conn *conns;
        uint64_t next_conn;
        struct lease_domain lease;
        uint64_t billed;               /* of lease.charged */
        uint64_t second;               /* message count of this second */
        uint32_t messages;
        uint32_t faults;               /* that it reported */
        struct wire_resident resident; /* what it said last */
        uint64_t keep_until;           /* a model is to stay loaded for a client */
        uint64_t idle_since;           /* all members are; 0: they are not */
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
        struct tasks *tasks;
        uint32_t threads, cpu_mask;
        uint8_t receipt_secret[RECEIPT_KEY_SIZE];
        enum wire_kv kv;
        /* The domain of an account, and the limits of a whole worker of several users. */
        struct domain (*domain)(const struct account *account, void *userdata);
        void (*limits)(const struct domain *domain, struct limits *ret, void *userdata);
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

/* A user in the worker of his domain, which is started if there is none. Borrowed. 0 or -ENOMEM. */
int workers_get(struct workers *w, struct account *account, struct member **ret);
/* The same as far as he is in one already, or NULL. */
struct member *workers_find(const struct workers *w, const struct account *account);
/* His worker is, or would be, one of several users. */
bool workers_share(const struct workers *w, const struct account *account);
/* It serves and was told of all models. */
static inline bool worker_is_open(const struct worker *w) {
        return w->open && w->state == WORKER_SERVING;
}

/* Takes the connection and its charge (on success). 0 or -ENOMEM. */
int worker_add_conn(struct member *m, int fd, struct charge *charge);
/* The job belongs to this worker from now on; it is sent when the worker serves. */
void worker_add_job(struct member *m, struct job *job);

/* Send; on failure the worker is doomed, never freed under the caller. */
void worker_send(struct worker *w, union wire_message *m, int fd);
void worker_doom(struct worker *w, enum worker_failure why);

/* The job has ended inside the worker: end it, let the next one run, refresh the lease class. */
void worker_job_ended(struct job *job, enum error_code error, uint64_t value,
                      uint64_t limit, const struct wire_done *done);
/* Its admission says that it runs. */
void worker_send_admitted(struct job *job);
/* Wipe a result that a worker keeps (job->keeper). */
void worker_discard(struct job *job);
/* A job that has not ended changes its class. */
void worker_set_priority(struct job *job, enum wire_priority priority);
/* It has been told of all. Before that no model is handed out. */
bool worker_knows_models(const struct worker *w);
/* members_bill of all, as far as it can be divided. */
void workers_bill(struct workers *w);
/* Something that decides about idleness or the lease class has changed. */
void worker_settle(struct worker *w);
/* It said READY: send the catalogue, then all that has waited. */
void worker_serve(struct worker *w);
/* Its connection has ended. */
void worker_hung_up(struct worker *w);
/* Ends it now. Never call it from code that still uses the worker. */
void worker_end(struct worker *w, enum worker_failure why);

/* Memory is short: what is kept only for speed; workers without work, with held_too also those
 * that a lease keeps. */
void workers_drop_caches(struct workers *w);
void workers_end_idle(struct workers *w, bool held_too);
/* As far as is known, some worker has the model loaded. */
bool workers_use_model(const struct workers *w, const char *name);

/* Tell all serving workers: models changed (and answer those who wait), limits changed. */
void workers_models_changed(struct workers *w);
void workers_limits_changed(struct workers *w);
