/* An answer about a document, as the daemon streams it: events progress, delta, correction, done
 * and error. Its text goes to standard output while it comes. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "client/http.h"
#include "client/options.h"
#include "client/sse.h"

struct document {
        const struct options *o;
        const char *name;    /* of the text in --json: "summary" */
        const char *type;    /* of the body */
        bool hold;           /* print nothing yet */
        struct sse sse;
        struct http_failure failure;
        json_t *text;        /* array of pieces */
        json_t *corrections; /* array of objects */
        json_t *done;        /* the last event */
        bool failed, started, ends_with_newline;
};
/* Send the body and take the answer. 0 or an exit status, with the message printed. */
int document_run(struct document *d, const char *path, const char *body, size_t size);
/* What is to be said at the end: JSON, what was held back, notices. 0 or an exit status. */
int document_print(struct document *d);
/* The whole text, to be freed; NULL without memory. */
char *document_text(const struct document *d);
void document_done(struct document *d);
