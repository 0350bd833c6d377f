/* Answers on a connection: whole ones, and streams piece by piece. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/conn.h"
#include "daemon/worker/request_error.h"

/* Whole answers; each completes the request (conn_answered). The x-request-id is the
 * job, or names connection and answer when there is none (0). */
void reply_json(struct conn *c, unsigned status, json_t *body, uint64_t job); /* takes body */
/* The same for a body that is JSON text already. */
void reply_json_text(struct conn *c, const struct secure_buf *body, uint64_t job);
void reply_text(struct conn *c, const char *text, size_t n, const char *extra, uint64_t job);
void reply_error(struct conn *c, const struct request_error *e, uint64_t job);
void reply_memory(struct conn *c);
/* A request that could not begin: *e, or, when that says nothing, that there is no memory. */
void reply_failure(struct conn *c, const struct request_error *e);
/* The error in the shape of the interface that the request came by. A new reference or NULL. */
json_t *reply_error_json(const struct conn *c, const struct request_error *e);
/* No body: OPTIONS (204). */
void reply_allow(struct conn *c, const char *allow);
void reply_method(struct conn *c, const char *allow); /* 405 */
/* A refusal of HTTP itself; the connection ends. */
void reply_plain_error(struct conn *c, unsigned status, const char *detail);

/* Streams: head, then events or bare text, then the end. */
void reply_stream(struct conn *c, const char *content_type, const char *extra, uint64_t job);
/* Takes data; event may be NULL. */
void reply_event(struct conn *c, const char *event, json_t *data);
/* One line of JSON; takes data. */
void reply_line(struct conn *c, json_t *data);
void reply_bytes(struct conn *c, const char *p, size_t n);
/* trailer: header lines after the chunks, or "" (HTTP/1.0 gets none). ok: a regular end. Not ok:
 * the connection closes; with truncate the stream is left open-ended, so that a client without an
 * error channel sees that it is not whole. */
void reply_stream_end(struct conn *c, const char *trailer, bool ok, bool truncate);
