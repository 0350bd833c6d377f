/* A task is a job without worker. The store says when what was begun for a model is over; the jobs
 * about that model are marked then, and end from the loop, so that a caller has its reply before it
 * hears of the end, and nothing ends inside the store's own calls. Several may wait for the same
 * verification: cancelling one of them ends only that one, and the last one the verification. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/tasks.h"
#include "engine/base/macro.h"

static const uint64_t LOOK_USEC = 250000;

struct tasks {
        struct jobs *jobs;
        struct accounts *accounts;
        struct store *store;
        sd_event_source *timer;        /* looks at progress, and ends what is settled */
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

int tasks_new(struct tasks **ret, sd_event *event, struct jobs *jobs, struct accounts *accounts) {
        struct tasks *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        t->jobs = jobs;
        t->accounts = accounts;
        r = sd_event_add_time(event, &t->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, t);
        if (r < 0) {
                free(t);
                return r;
        }
        *ret = t;
        return 0;
}

void tasks_set_store(struct tasks *t, struct store *store) {
        t->store = store;
}

/* The first one that has not ended; when settled is set, of those. */
static struct job *find_task(const struct tasks *t, bool settled) {
        struct job *job;

        for (uint32_t i = 0; (job = jobs_at(t->jobs, i)); i++)
                if (job->task.verb && !job_finished(job) && (job->task.settled || !settled))
                        return job;
        return NULL;
}

static void look_in(struct tasks *t, uint64_t usec) {
        sd_event_source_set_time(t->timer, usec ? now_monotonic() + usec : 0);
        sd_event_source_set_enabled(t->timer, SD_EVENT_ONESHOT);
}

static void settle(struct job *job, enum error_code outcome) {
        if (job->task.settled)
                return;
        job->task.settled = true;
        job->task.outcome = outcome;
        look_in(job->task.owner, 0);
}

static void end(struct job *job) {
        const struct job_task *task = &job->task;

        if (task->outcome == ERROR_NONE)
                job->task.part = 1;
        job_end(job, task->outcome, task->value, task->limit, NULL);
}

struct tasks *tasks_free(struct tasks *t) {
        struct job *job;

        if (!t)
                return NULL;
        while ((job = find_task(t, false))) {
                settle(job, ERROR_STOPPING);
                end(job);
        }
        sd_event_source_disable_unref(t->timer);
        free(t);
        return NULL;
}

static enum wire_job_state state_of(enum store_stage stage) {
        switch (stage) {
        case STORE_COPYING:
                return WIRE_STATE_COPYING;
        case STORE_HASHING:
                return WIRE_STATE_HASHING;
        case STORE_PACKING:
                return WIRE_STATE_PACKING;
        case STORE_WAITING:
        case STORE_NOTHING:
                break;
        }
        return WIRE_STATE_QUEUED;
}

static void look_at(struct job *job) {
        struct store_progress p = store_progress(job->task.owner->store, job->model);

        job->state = state_of(p.stage);
        if (p.stage > STORE_WAITING && !job->started_usec)
                job->started_usec = now_realtime();
        job->progress.state = job->state;
        job->progress.bytes_in = p.size;
        job->progress.bytes_covered = p.done;
        job->task.part = MAX(job->task.part, p.part);
        job_progressed(job);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct tasks *t = userdata;
        struct job *job;

        while ((job = find_task(t, true)))
                end(job);
        for (uint32_t i = 0; (job = jobs_at(t->jobs, i)); i++)
                if (job->task.verb && !job_finished(job))
                        look_at(job);
        if (find_task(t, false))
                look_in(t, LOOK_USEC);
        return 0;
}

static bool is_about(const struct job *job, const char *model) {
        return job->task.verb && !job_finished(job) && !job->task.settled &&
               strcmp(job->model, model) == 0;
}

void tasks_settled(struct tasks *t, const struct store_model *model, enum error_code how) {
        struct job *job;

        for (uint32_t i = 0; (job = jobs_at(t->jobs, i)); i++) {
                if (!is_about(job, model->name))
                        continue;
                if (how == ERROR_MODEL_BAD) {
                        job->task.value = model->value;
                        job->task.limit = model->limit;
                }
                settle(job, how);
        }
}

static bool others_wait(const struct job *not_this) {
        const struct job *job;

        for (uint32_t i = 0; (job = jobs_at(not_this->owner, i)); i++)
                if (job != not_this && !job->cancelling && is_about(job, not_this->model))
                        return true;
        return false;
}

/* When the daemon ends nobody waits for the store: it gives up by itself then. */
static void cancel(struct job *job, enum error_code reason) {
        bool others = others_wait(job), settled = job->task.settled;

        job->cancelling = true;
        if (!settled && !others && store_cancel(job->task.owner->store, job->model) == 0 &&
            reason == ERROR_CANCELLED)
                return; /* it ends when the store has cleaned up */
        if (!settled)
                settle(job, reason);
        if (reason == ERROR_STOPPING)
                end(job);
}

static int begin(struct tasks *t, enum task_kind kind, const char *name, int fd) {
        switch (kind) {
        case TASK_INSTALL:
                return store_install(t->store, name, fd);
        case TASK_REMOVE:
                return store_remove(t->store, name);
        case TASK_VERIFY:
                return store_verify(t->store, name);
        }
        return -EINVAL;
}

static int add(struct tasks *t, const struct account_id *who, struct job **ret,
               struct refusal *ret_refusal) {
        struct account *account = NULL;
        int r;

        *ret_refusal = (struct refusal){ .code = ERROR_OVERLOADED };
        if (accounts_get(t->accounts, who, &account) != 0)
                return ERROR_OVERLOADED;
        r = jobs_add(t->jobs, account, ret, ret_refusal);
        account_unref(account);
        return r == 0 ? 0 : (int)ret_refusal->code;
}

int task_start(struct tasks *t, enum task_kind kind, const struct account_id *who,
               const char *name, int fd, bool detached, struct job **ret,
               struct refusal *ret_refusal) {
        static const char *const verbs[] = { "install", "remove", "verify" };
        struct job *job;
        int r = add(t, who, &job, ret_refusal);

        if (r != 0)
                return r;
        job->task = (struct job_task){ .verb = verbs[kind], .cancel = cancel, .owner = t };
        job->request.keep_usec = detached;
        snprintf(job->model, sizeof(job->model), "%s", name);
        r = begin(t, kind, name, fd);
        if (r < 0) {
                jobs_take_back(t->jobs, job);
                return r;
        }
        if (kind == TASK_REMOVE)
                settle(job, ERROR_NONE);
        look_in(t, 0);
        *ret = job;
        return 0;
}
