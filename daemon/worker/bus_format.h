/* Input and output of bus jobs as bytes: what a descriptor's content means. */
#pragma once

#include "daemon/wire/proto.h"
#include "daemon/worker/job.h"

/* Turn the bytes read (taken over) into a job specification, with the options of the message on
 * top. history: an array of messages, as in a request, that come before those of the input, which
 * are returned as a new array in *ret_messages; both NULL without a session. 0, -ENOMEM, or
 * -EBADMSG with *e. */
int bus_format_input(const struct wire_job *m, struct secure_buf *input, const json_t *history,
                     uint64_t *seed_state, struct job_spec *ret, json_t **ret_messages,
                     struct request_error *e);

/* The messages in chat-json (taken over), found legal: a new array. 0, -ENOMEM, or -EBADMSG. */
int bus_format_messages(struct secure_buf *input, json_t **ret, struct request_error *e);

/* One line of JSON each, appended to out. */
void bus_format_text(struct secure_buf *out, const char *text, size_t n);
void bus_format_correction(struct secure_buf *out, uint64_t start, uint64_t end, const char *text,
                           size_t n);
/* Scores or vectors: what an answer is that is no text. Nothing for others. */
void bus_format_result(struct secure_buf *out, const struct job_result *r);
void bus_format_progress(struct secure_buf *out, const struct job_progress *p);
void bus_format_end(struct secure_buf *out, uint32_t verb, const struct job_result *r);
