/* Positions come from policy/admission, time from policy/pace. What is ahead of a job is what its
 * user's other jobs may still read and write; how long that takes was measured on the broker's
 * clock while his jobs ran, so that what other users take of the machine is in it. */
#include <stddef.h>

#include "daemon/broker/queue.h"
#include "engine/base/macro.h"
#include "policy/quota.h"

enum { RETRY_LEAST_MS = 1000, RETRY_MOST_MS = 3600 * 1000 };

/* Estimates change while places stay. */
static const uint64_t TELL_USEC = 5000000;

/* Keeps sums of what workers claim far from an overflow. */
#define MOST_TOKENS (UINT64_C(1) << 48)

/* Jobs in the order in which they have or get a place. */
struct walk {
        const struct member *m;
        struct pace_places places;
        uint64_t tokens;
};

static struct job *job_of(struct admission_entry *e) {
        return (struct job *)((char *)e - offsetof(struct job, admission));
}

static uint64_t tokens_left(const struct job *job) {
        const struct wire_progress *p = &job->progress;
        uint64_t all = MIN(p->tokens_in, MOST_TOKENS) + MIN(job->tokens_wanted, MOST_TOKENS);
        uint64_t done = MIN(p->tokens_read, MOST_TOKENS) + MIN(p->tokens_out, MOST_TOKENS);

        return all > done ? all - done : 0;
}

static uint64_t work_left(const struct member *m, const struct job *job) {
        uint64_t expected = pace_expected(&m->pace, job->promised);

        return expected > job->work ? expected - job->work : 1;
}

/* What an interactive job waits for: those in the background pause for it. */
static struct walk begin(const struct member *m, bool background) {
        struct walk walk = { .m = m };
        const struct job *job;

        for (uint32_t i = 0; (job = jobs_at(workers_settings(m->worker->owner)->jobs, i)); i++)
                if (job->member == m && job->admission.state == ADMISSION_RUNNING &&
                    (background || !job->admission.background)) {
                        walk.tokens += tokens_left(job);
                        pace_place(&walk.places, work_left(m, job));
                }
        return walk;
}

static void pass(struct walk *walk, const struct job *job) {
        walk->tokens += tokens_left(job);
        pace_wait(&walk->places, work_left(walk->m, job));
}

/* What the entry e waits for, or would if it came now. Interactive jobs come first in the list. */
static struct walk walk_to(const struct member *m, const struct admission_entry *e) {
        struct walk walk = begin(m, e->background);

        for (struct admission_entry *i = m->admission.waiting; i && i != e; i = i->next)
                pass(&walk, job_of(i));
        return walk;
}

static uint64_t wait_usec(const struct walk *walk) {
        return pace_usec(&walk->m->pace, pace_next(&walk->places));
}

struct queue_place queue_place(const struct job *job) {
        const struct member *m = job->member;
        struct queue_place place = {};
        struct walk walk;

        if (!m || job->admission.state == ADMISSION_RUNNING)
                return place;
        walk = walk_to(m, &job->admission);
        place.position = admission_position(&m->admission, &job->admission);
        place.tokens_ahead = walk.tokens;
        if (job->admission.state == ADMISSION_WAITING)
                place.wait_usec = wait_usec(&walk);
        return place;
}

uint32_t queue_retry_ms(const struct member *m) {
        struct walk walk = begin(m, true);
        uint64_t ms = wait_usec(&walk) / 1000;

        return (uint32_t)MIN(MAX(ms, (uint64_t)RETRY_LEAST_MS), (uint64_t)RETRY_MOST_MS);
}

static void tell(struct member *m, bool anew) {
        struct admission_entry *e = m->admission.waiting;
        uint32_t position = 1;
        struct walk walk;

        if (!e)
                return;
        if (anew)
                m->queue_told = now_monotonic();
        walk = begin(m, e->background);
        for (bool background = e->background; e; e = e->next, position++) {
                struct job *job = job_of(e);
                union wire_message queued = { .queued = {
                        .h.type = WIRE_QUEUED, .ref = job->ref, .job = job->id,
                        .position = position } };

                if (e->background && !background) {
                        background = true;
                        walk = walk_to(m, e);
                }
                queued.queued.tokens_ahead = walk.tokens;
                queued.queued.wait_usec = wait_usec(&walk);
                if (anew || job->told_position != position)
                        worker_send(m->worker, &queued, -1);
                job->told_position = position;
                pass(&walk, job);
        }
}

void queue_tell(struct member *m) {
        tell(m, false);
}

static void count(struct job *job, uint64_t work, bool running) {
        uint64_t more = work > job->work ? work - job->work : 0;

        job->work += more;
        pace_count(&job->member->pace, more, running, now_monotonic());
}

void queue_progress(struct job *job, const struct wire_progress *p) {
        if (job->admission.state != ADMISSION_RUNNING)
                return;
        count(job, quota_cost(p->tokens_read, 0, p->tokens_out), true);
        if (now_monotonic() - job->member->queue_told >= TELL_USEC)
                tell(job->member, true);
}

void queue_started(struct member *m) {
        pace_count(&m->pace, 0, true, now_monotonic());
}

void queue_ended(struct job *job, const struct wire_done *done) {
        struct member *m = job->member;

        if (job->admission.state != ADMISSION_RUNNING)
                return;
        count(job,
              done ? quota_cost(done->tokens_in, done->tokens_cached, done->tokens_out) : 0,
              m->admission.running > 1);
        if (done)
                pace_ended(&m->pace, job->promised, job->work);
}
