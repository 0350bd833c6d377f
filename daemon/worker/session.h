/* Sessions: conversations that live here between requests. A session holds its messages as a
 * request would, so that a turn is by construction the request of a client who keeps the
 * conversation himself; keys and values are kept beside them as long as there is room.
 *
 * It does one thing at a time: the broker starts nothing before it has heard the end of what was
 * before, except CLOSE. A turn that fails or is cancelled leaves the session as it was. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/job.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/worker.h"

/* Messages of the broker. 0, -ENOMEM, or -EBADMSG: not now. */
int session_open(struct worker *w, const struct wire_session_open *m);
int session_append(struct worker *w, const struct wire_session_append *m, int fd); /* takes fd */
int session_clear(struct worker *w, const struct wire_session_command *m);
int session_forget(struct worker *w, const struct wire_session_command *m);
int session_close(struct worker *w, const struct wire_session_command *m);
/* All keys and values that nobody uses have gone. */
void sessions_caches_dropped(struct worker *w);

/* Whose keys its turns use (generation_request). */
uint64_t session_owner(uint64_t id);
/* A turn from the bus: the conversation and the input (taken over) as one job. 0, -ENOMEM, or
 * -EBADMSG with *e; on success either the job ends with session_end_turn, or it never was and the
 * turn is taken back. */
int session_begin_turn(struct worker *w, const struct wire_job *m, struct secure_buf *input,
                       struct job_spec *ret, struct request_error *e);
void session_take_back_turn(struct worker *w, uint64_t id);
/* Text of the answer, as the client gets it. */
void session_text(struct worker *w, uint64_t id, const char *text, size_t n);
/* The turn's job has ended; its DONE follows. *result becomes an error when the answer cannot be
 * kept. */
void session_end_turn(struct worker *w, uint64_t id, struct job_result *result);

void sessions_poll(struct worker *w, struct poller *p);
void sessions_run(struct worker *w, const struct poller *p);
/* Wipe all: the worker ends. */
void sessions_done(struct worker *w);
