/* The job table: every job of every face (bus, HTTP), from its acceptance until a while after its
 * end. A job ends exactly once, by job_end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/broker/clock.h"
#include "daemon/wire/proto.h"
#include "policy/account.h"
#include "policy/admission.h"
#include "policy/error.h"

struct member;
struct worker;
struct jobs;
struct tasks;
struct job;
struct metrics;

/* Work of the broker itself, which is a job like others but has no worker (tasks.h). */
struct job_task {
        const char *verb;              /* NULL: the job is a worker's */
        double part;                   /* done, 0..1 */
        bool settled;                  /* it is over; the job ends as soon as the loop is reached */
        enum error_code outcome;
        uint64_t value, limit;
        void (*cancel)(struct job *job, enum error_code reason);
        struct tasks *owner;
};

struct job {
        struct jobs *owner;
        uint64_t id;
        uid_t uid;
        struct charge charge;          /* until the end */
        struct charge object;          /* until it is forgotten */
        struct reservation reservation; /* of tokens, from its admission to the end */
        struct worker *worker;         /* until the end; borrowed, like this: */
        struct member *member;         /* its user there */
        uint64_t ref;                  /* the worker's name for it: id for jobs from the bus */
        struct admission_entry admission;

        enum wire_verb verb;
        enum wire_priority priority;
        char model[WIRE_NAME_MAX];     /* "" until known */
        enum wire_job_state state;
        enum error_code error;         /* ERROR_NONE unless finished badly */
        uint64_t value, limit;
        uint64_t created_usec, started_usec, finished_usec; /* since the epoch, 0 = not yet */
        uint64_t forget_at;            /* monotonic, once finished */
        struct wire_progress progress; /* the newest */
        struct wire_done done;         /* once finished; zero when the worker sent none */
        uint64_t tokens_wanted;        /* of the answer, at most; 0 before it asked for admission */
        uint64_t promised, work;       /* weighted tokens it may use, and has used (queue.c) */
        uint32_t told_position;        /* in the queue */
        struct member *keeper;         /* its user where its output is, once it has ended; borrowed;
                                        * or NULL */
        uint64_t keep_until;           /* monotonic, with a keeper */

        /* Bus jobs, until they are handed to the worker. */
        struct wire_job request;
        int input, output;

        struct job_task task;
        bool cancelling;
        sd_event_source *timer;        /* deadline, then the time allowed for cancelling */
        void *face;                    /* of the bus side, or NULL */
};

/* How the table tells the face that shows jobs to people. */
struct job_sink {
        void (*progressed)(struct job *job, void *userdata); /* as often as the worker says so */
        void (*ended)(struct job *job, void *userdata);
        void (*forgotten)(struct job *job, void *userdata); /* job->face is to be freed */
        void *userdata;
};

/* Ended jobs are counted in metrics (borrowed). */
int jobs_new(struct jobs **ret, sd_event *event, struct metrics *metrics);
/* All jobs must have ended. */
struct jobs *jobs_free(struct jobs *jobs);
void jobs_set_sink(struct jobs *jobs, const struct job_sink *sink);

/* A new job, in state queued. 0, ACCOUNT_E_QUOTA with *ret_refusal, or -ENOMEM. */
int jobs_add(struct jobs *jobs, struct account *account, struct job **ret,
             struct refusal *ret_refusal);
/* The newest job, of which nobody has heard yet, is none. */
void jobs_take_back(struct jobs *jobs, struct job *job);
struct job *jobs_find(const struct jobs *jobs, uint64_t id);
/* The unfinished job of a worker by its ref or id. */
struct job *jobs_find_ref(const struct jobs *jobs, const struct worker *worker, uint64_t ref);
/* By position, in order of ids; NULL after the last. Positions move when jobs are added, end or
 * are forgotten. */
struct job *jobs_at(const struct jobs *jobs, uint32_t index);
/* Jobs of a uid that are detached, as long as they run or their results are kept. */
uint32_t jobs_detached(const struct jobs *jobs, uid_t uid);
/* Some unfinished job of a worker, or NULL. */
struct job *jobs_of_worker(const struct jobs *jobs, const struct worker *worker);

/* The one end of a job: charges and descriptors are returned, the sink is told. done may be NULL.
 * The caller has taken the job out of its worker's admission before. */
void job_end(struct job *job, enum error_code error, uint64_t value, uint64_t limit,
             const struct wire_done *done);
/* Its progress or state has changed: the sink is told. */
void job_progressed(struct job *job);
static inline bool job_detached(const struct job *job) {
        return job->request.keep_usec != 0;
}

static inline bool job_finished(const struct job *job) {
        return job->finished_usec != 0;
}

const char *job_verb_name(const struct job *job);
const char *job_priority_name(const struct job *job);
/* Share of the work done, 0..1; false when it is not known. */
bool job_progress(const struct job *job, double *ret);
