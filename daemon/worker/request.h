/* One HTTP/1.1 request, parsed from bytes as they arrive. Knows no socket: the connection feeds it,
 * the fuzzer too. */
#pragma once

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/request_error.h"
#include "daemon/worker/secure_buf.h"

enum {
        REQUEST_HEADER_MAX = 32 * 1024, /* request line and headers; also the trailer */
        REQUEST_TYPE_MAX = 96,          /* bytes kept of a header we read */
};

struct request {
        http_parser parser;
        uint64_t max_body;
        struct secure_buf url, name, value, body;
        size_t header_bytes;
        bool value_open;             /* the last header piece was a value */
        char content_type[REQUEST_TYPE_MAX]; /* lower case, parameters cut off */
        char accept[REQUEST_TYPE_MAX];       /* lower case, cut when longer */
        bool expect_continue;        /* valid once headers_done */
        bool bad_expect;
        unsigned transfer;           /* headers Transfer-Encoding */
        bool bad_transfer;
        uint64_t chunk_left;         /* bytes of the chunk that are still to come */
        bool chunk_ended;            /* a line must end here */
        char before;                 /* the last byte of a line so far, or 0 */
        bool started;                /* the first byte came */
        bool headers_done, complete;
        unsigned status;             /* 0, or the HTTP status to refuse with */
        const char *detail;          /* a fixed sentence for it */
};

void request_init(struct request *r, uint64_t max_body);
void request_done(struct request *r);

/* Feed n bytes. Returns how many were used; fewer than n only when the request is complete (the
 * rest belongs to the next one) or refused (r->status is set, nothing more is parsed). */
size_t request_feed(struct request *r, const char *p, size_t n);

bool request_keep_alive(const struct request *r);

/* Path without query, percent-decoded, into path. 0, or -EINVAL (bad escape, NUL, too long). */
int request_path(const struct request *r, char *path, size_t size);
/* Value of a query parameter, decoded. 1 found, 0 absent, -EINVAL (bad escape, too long). */
int request_query(const struct request *r, const char *name, char *value, size_t size);
/* Names of query parameters as they stand there, one after the other; *at is 0 at first. False: no
 * more. */
bool request_query_name(const struct request *r, size_t *at, const char **ret, size_t *ret_size);
/* The Accept header names this type before any other (no wildcard matching). */
bool request_accepts_first(const struct request *r, const char *type);
