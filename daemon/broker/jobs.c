/* An array of jobs in the order of their ids, which only grow; lookup is a binary search. Jobs not
 * finished are bounded by the accounts' charges, finished ones by number (per uid and in all) and
 * by time: one timer forgets them. The same timer ends the time for which a worker keeps the result
 * of a detached job; until then the job is not forgotten, and there are few of them for a uid. Ids
 * start at a random place, so that they tell nothing about how many jobs other users had before. */
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/metrics.h"
#include "daemon/broker/worker.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

struct jobs {
        sd_event *event;
        struct metrics *metrics;
        sd_event_source *timer;
        struct job_sink sink;
        struct job **all;
        uint32_t count, capacity;
        uint64_t next_id;
};

static int on_forget(sd_event_source *source, uint64_t usec, void *userdata);

int jobs_new(struct jobs **ret, sd_event *event, struct metrics *metrics) {
        struct jobs *jobs = calloc(1, sizeof(*jobs));
        uint64_t random;
        int r;

        if (!jobs)
                return -ENOMEM;
        randombytes_buf(&random, sizeof(random));
        jobs->next_id = (random >> 16) + 1; /* far below WIRE_REF_WORKER for all time */
        jobs->event = event;
        jobs->metrics = metrics;
        r = sd_event_add_time(event, &jobs->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_forget, jobs);
        if (r < 0) {
                free(jobs);
                return r;
        }
        *ret = jobs;
        return 0;
}

void jobs_set_sink(struct jobs *jobs, const struct job_sink *sink) {
        jobs->sink = *sink;
}

static void forget(struct jobs *jobs, uint32_t index) {
        struct job *job = jobs->all[index];

        assert(job_finished(job));
        if (job->keeper)
                worker_discard(job);
        if (jobs->sink.forgotten)
                jobs->sink.forgotten(job, jobs->sink.userdata);
        memmove(&jobs->all[index], &jobs->all[index + 1],
                (jobs->count - index - 1) * sizeof(*jobs->all));
        jobs->count--;
        charge_done(&job->object);
        free(job);
}

struct jobs *jobs_free(struct jobs *jobs) {
        if (!jobs)
                return NULL;
        while (jobs->count > 0)
                forget(jobs, jobs->count - 1);
        sd_event_source_disable_unref(jobs->timer);
        free(jobs->all);
        free(jobs);
        return NULL;
}

/* The oldest finished job of an account makes room for a new one. False: there is none. */
static bool forget_oldest(struct jobs *jobs, const struct account *account) {
        for (uint32_t i = 0; i < jobs->count; i++)
                if (jobs->all[i]->object.account == account && job_finished(jobs->all[i]) &&
                    !jobs->all[i]->keeper) {
                        forget(jobs, i);
                        return true;
                }
        return false;
}

static int refuse(const struct account *account, enum charge_kind kind, enum error_code code,
                  struct refusal *ret) {
        *ret = (struct refusal){ .code = code, .retry_after_ms = 1000,
                                 .value = account->used[kind],
                                 .limit = account_limit(account, kind) };
        return ACCOUNT_E_QUOTA;
}

static int charge_job(struct jobs *jobs, struct account *account, struct job *job,
                      struct refusal *ret_refusal) {
        if (account_charge(account, CHARGE_JOB, &job->charge) != 0)
                return refuse(account, CHARGE_JOB, ERROR_QUEUE_FULL, ret_refusal);
        while (account_charge(account, CHARGE_OBJECT, &job->object) != 0)
                if (!forget_oldest(jobs, account)) {
                        charge_done(&job->charge);
                        return refuse(account, CHARGE_OBJECT, ERROR_OBJECTS, ret_refusal);
                }
        return 0;
}

int jobs_add(struct jobs *jobs, struct account *account, struct job **ret,
             struct refusal *ret_refusal) {
        struct job *job;
        int r;

        if (jobs->count == jobs->capacity) {
                uint32_t capacity = jobs->capacity ? 2 * jobs->capacity : 64;
                struct job **grown = reallocarray(jobs->all, capacity, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                jobs->all = grown;
                jobs->capacity = capacity;
        }
        job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        r = charge_job(jobs, account, job, ret_refusal);
        if (r != 0) {
                free(job);
                return r;
        }
        job->owner = jobs;
        job->id = job->ref = jobs->next_id++;
        job->uid = account->id.uid;
        job->input = job->output = -1;
        job->created_usec = now_realtime();
        jobs->all[jobs->count++] = job;
        *ret = job;
        return 0;
}

void jobs_take_back(struct jobs *jobs, struct job *job) {
        assert(jobs->all[jobs->count - 1] == job && !job->face && !job->worker);
        jobs->count--;
        charge_done(&job->charge);
        charge_done(&job->object);
        free(job);
}

struct job *jobs_find(const struct jobs *jobs, uint64_t id) {
        uint32_t low = 0, high = jobs->count;

        while (low < high) {
                uint32_t middle = low + (high - low) / 2;

                if (jobs->all[middle]->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < jobs->count && jobs->all[low]->id == id ? jobs->all[low] : NULL;
}

struct job *jobs_find_ref(const struct jobs *jobs, const struct worker *worker, uint64_t ref) {
        if (!(ref & WIRE_REF_WORKER)) {
                struct job *job = jobs_find(jobs, ref);

                return job && job->worker == worker ? job : NULL;
        }
        for (uint32_t i = jobs->count; i > 0; i--)
                if (jobs->all[i - 1]->worker == worker && jobs->all[i - 1]->ref == ref)
                        return jobs->all[i - 1];
        return NULL;
}

struct job *jobs_at(const struct jobs *jobs, uint32_t index) {
        return index < jobs->count ? jobs->all[index] : NULL;
}

uint32_t jobs_detached(const struct jobs *jobs, uid_t uid) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < jobs->count; i++) {
                const struct job *job = jobs->all[i];

                n += job->uid == uid && job_detached(job) && (!job_finished(job) || job->keeper);
        }
        return n;
}

struct job *jobs_of_worker(const struct jobs *jobs, const struct worker *worker) {
        for (uint32_t i = 0; i < jobs->count; i++)
                if (jobs->all[i]->worker == worker)
                        return jobs->all[i];
        return NULL;
}

/* Forget finished jobs whose time has come, and the oldest of a uid or of all beyond the bounds. */
static void trim(struct jobs *jobs, uid_t uid) {
        uint64_t now = now_monotonic(), next = UINT64_MAX;
        uint32_t of_uid = 0, finished = 0;

        for (uint32_t i = jobs->count; i > 0; i--) {
                struct job *job = jobs->all[i - 1];

                if (!job_finished(job))
                        continue;
                if (job->keeper && job->keep_until <= now)
                        worker_discard(job);
                if (job->keeper) {
                        next = MIN(next, job->keep_until);
                        continue;
                }
                finished++;
                of_uid += job->uid == uid;
                if (job->forget_at <= now || finished > LIMIT_FINISHED_JOBS ||
                    (job->uid == uid && of_uid > LIMIT_FINISHED_PER_UID))
                        forget(jobs, i - 1);
                else
                        next = MIN(next, job->forget_at);
        }
        sd_event_source_set_time(jobs->timer, next);
        sd_event_source_set_enabled(jobs->timer, SD_EVENT_ONESHOT);
}

static int on_forget(sd_event_source *source, uint64_t usec, void *userdata) {
        trim(userdata, (uid_t)-1);
        return 0;
}

static void close_input(int *fd) {
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

/* The last word on what was read and written. */
static void take_counters(struct job *job, const struct wire_done *done) {
        struct wire_progress *p = &job->progress;

        job->done = *done;
        p->tokens_in = p->tokens_read = done->tokens_in;
        p->tokens_out = done->tokens_out;
        p->bytes_in = done->bytes_in;
        p->bytes_covered = done->bytes_covered;
        p->pieces = p->pieces_done = done->pieces;
        p->rounds = done->rounds;
}

/* What it really used, also when it failed; of a worker that died the last it told. */
static uint64_t cost(const struct job *job) {
        const struct wire_progress *p = &job->progress;

        return quota_cost(p->tokens_read, job->done.tokens_cached, p->tokens_out);
}

void job_end(struct job *job, enum error_code error, uint64_t value, uint64_t limit,
             const struct wire_done *done) {
        struct jobs *jobs = job->owner;
        uid_t uid = job->uid;

        assert(!job_finished(job) && job->admission.state == ADMISSION_NONE);
        job->state = error == ERROR_NONE        ? WIRE_STATE_DONE
                     : error == ERROR_CANCELLED ? WIRE_STATE_CANCELLED
                                                : WIRE_STATE_FAILED;
        job->error = error;
        job->value = value;
        job->limit = limit;
        if (done)
                take_counters(job, done);
        account_settle(job->charge.account, &job->reservation, cost(job));
        metrics_job(jobs->metrics, job);
        if (job->member)
                job->member->jobs--;
        job->worker = NULL;
        job->member = NULL;
        job->finished_usec = now_realtime();
        job->forget_at = now_monotonic() + LIMIT_FINISHED_USEC;
        job->keep_until = now_monotonic() + job->request.keep_usec;
        job->timer = sd_event_source_disable_unref(job->timer);
        close_input(&job->input);
        close_input(&job->output);
        charge_done(&job->charge);
        if (jobs->sink.ended)
                jobs->sink.ended(job, jobs->sink.userdata);
        trim(jobs, uid);
}

void job_progressed(struct job *job) {
        const struct job_sink *sink = &job->owner->sink;

        if (sink->progressed)
                sink->progressed(job, sink->userdata);
}

const char *job_verb_name(const struct job *job) {
        unsigned i = (unsigned)job->verb - WIRE_VERB_CHAT;

        if (job->task.verb)
                return job->task.verb;
        return i < QUOTA_VERBS ? quota_verbs[i] : "";
}

const char *job_priority_name(const struct job *job) {
        return quota_priorities[job->priority];
}

bool job_progress(const struct job *job, double *ret) {
        const struct wire_progress *p = &job->progress;
        uint64_t part, whole;

        if (job->state == WIRE_STATE_DONE) {
                *ret = 1;
                return true;
        }
        if (job->task.verb) {
                *ret = job->task.part;
                return true;
        }
        /* How long an answer gets is not known before it ends; only what is read in pieces has
         * stages. */
        if (p->pieces <= 1 && job->state == WIRE_STATE_GENERATING)
                return false;
        part = p->pieces > 1 ? p->pieces_done : p->tokens_read;
        whole = p->pieces > 1 ? p->pieces : p->tokens_in;
        if (whole == 0)
                return false;
        *ret = part >= whole ? 1 : (double)part / (double)whole;
        return true;
}
