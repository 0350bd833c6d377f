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

void bus_jobs_poll(struct worker *w, struct poller *p);
void bus_jobs_handle(struct worker *w, const struct poller *p);
