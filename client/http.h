/* One HTTP request to the daemon over its Unix socket (libcurl). The reply is handed over piece by
 * piece; a refusal is parsed into its code, numbers and text. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/error.h"

struct http_request {
        const char *socket;        /* path of api.sock */
        const char *path;          /* "/v1/models", already escaped */
        const char *body;          /* NULL: GET */
        size_t body_size;
        const char *content_type;  /* of the body */
        const char *accept;        /* or NULL */
        /* Called with pieces of a reply of status 200; return false to hang up. May be NULL. */
        bool (*data)(void *userdata, const char *p, size_t n);
        /* Called often while waiting; return false to hang up. May be NULL. */
        bool (*idle)(void *userdata);
        void *userdata;
};

struct http_failure {
        enum error_code code;
        char text[256];   /* a sentence for people */
};

/* 0: status 200 and the reply complete. 1: *failure is filled (a refusal, no daemon, a reply cut
 * off). -ECANCELED: data or idle hung up. -ENOMEM. */
int http_perform(const struct http_request *r, struct http_failure *failure);

/* A whole reply. request: what is posted, NULL: GET; accept: or NULL. An interrupt hangs up. 0; 1:
 * *failure is filled, also when memory is short; -ECANCELED: interrupted. */
struct http_body {
        char *p;             /* NUL-terminated; NULL: nothing came */
        size_t n, room;
};
int http_fetch(const char *socket, const char *path, const char *accept, const json_t *request,
               struct http_body *ret, struct http_failure *failure);
bool http_body_add(struct http_body *b, const char *p, size_t n); /* false: no memory */
void http_body_done(struct http_body *b); /* wipes */

/* The same for a reply that is one JSON value (a new reference; NULL: it was none). */
int http_json(const char *socket, const char *path, const json_t *request, json_t **ret,
              struct http_failure *failure);

/* Read the "error" object of a reply (also in the middle of a stream). */
void http_parse_failure(const char *json, size_t n, struct http_failure *failure);
