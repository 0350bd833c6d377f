/* Where the jobs of a worker stand that wait, and for how long they may. */
#pragma once

#include <stdint.h>

#include "daemon/broker/worker.h"

struct queue_place {
        uint32_t position;     /* 1: the next one; 0: it runs, or has ended */
        uint64_t tokens_ahead; /* that the jobs before it may still read and write */
        uint64_t wait_usec;    /* until it starts; 0: not known */
};

struct queue_place queue_place(const struct job *job);
/* In how many milliseconds a job of this user will end and make room. Never 0. */
uint32_t queue_retry_ms(const struct member *m);

/* The worker tells of a running job, before job->progress is replaced. */
void queue_progress(struct job *job, const struct wire_progress *progress);
/* A job runs from now on. */
void queue_started(struct member *m);
/* It is about to end; done as for job_end. */
void queue_ended(struct job *job, const struct wire_done *done);
/* Tell the worker the new place of every job that has one. With progress it is told all of them now
 * and then. */
void queue_tell(struct member *m);
