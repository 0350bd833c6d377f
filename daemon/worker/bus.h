/* Jobs from the bus: options in a message, text in through one descriptor, out through another. */
#pragma once

#include "daemon/wire/proto.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/worker.h"

/* Takes the input descriptor. The output follows in its own message. 0, -ENOMEM or -EBADMSG (the
 * reference is in use). */
int bus_job_new(struct worker *w, const struct wire_job *m, int input);
/* Takes the output descriptor. -EBADMSG when that job does not wait for one. */
int bus_job_output(struct worker *w, const struct wire_job_output *m, int output);
/* For a job that still reads its input (later jobs.c knows it). */
void bus_jobs_cancel(struct worker *w, const struct wire_cancel *m);
/* For the same. */
void bus_jobs_set_priority(struct worker *w, const struct wire_set_priority *m);
/* Another reader of a detached job, from the start; takes the descriptor. */
void bus_jobs_take(struct worker *w, const struct wire_take_output *m, int output);
/* The result of a detached job is wanted no more. */
void bus_jobs_discard(struct worker *w, const struct wire_discard *m);
/* Nothing is kept any more for readers to come. */
void bus_jobs_shutdown(struct worker *w);

void bus_jobs_poll(struct worker *w, struct poller *p);
void bus_jobs_handle(struct worker *w, const struct poller *p);
