/* Bytes of HTTP answers: heads, chunks, server-sent events, JSON errors. Pure formatting into a
 * buffer; who may say what and when is reply.h. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/rates.h"
#include "daemon/worker/request_error.h"
#include "daemon/worker/secure_buf.h"

struct http_head {
        unsigned status;
        const char *content_type;  /* NULL: no body at all */
        size_t length;             /* of the body, unless stream */
        bool stream;               /* no length: chunked, or until close */
        bool chunked;              /* stream only: HTTP/1.1 peer */
        bool close;                /* the connection ends after this answer */
        uint64_t job;              /* x-request-id; 0: there is none, and it is instead */
        uint64_t conn, nth;        /* the nth answer on a connection; nth 0: no x-request-id */
        uint32_t retry_after_ms;   /* 0: none */
        struct rates *rates;       /* NULL: none */
        uint64_t now;              /* for rates: CLOCK_MONOTONIC, microseconds */
        int should_retry;          /* x-should-retry: -1 leave out, 0 false, 1 true */
        const char *extra;         /* more header lines, each ended by CRLF, or NULL */
};

void http_head(struct secure_buf *out, const struct http_head *h);
void http_chunk(struct secure_buf *out, const char *p, size_t n); /* n > 0 */
/* trailer: header lines, each ended by CRLF; or "". */
void http_last_chunk(struct secure_buf *out, const char *trailer);

/* {"error":{…}} for a refusal. A new reference, or NULL without memory. */
json_t *http_error_json(const struct request_error *e);
/* Status of a refusal (from the error table). */
unsigned http_error_status(const struct request_error *e);
/* The same shape for refusals of HTTP itself (408, 413, 417, 431, 400), which have no row. */
json_t *http_plain_error_json(unsigned status, const char *detail);

/* One line of compact JSON appended. */
void http_json(struct secure_buf *out, const json_t *v);
