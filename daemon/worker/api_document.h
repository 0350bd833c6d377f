/* Requests about documents. Options in the query, and the body as the document of a job: these
 * return 0 unless they say otherwise, -ENOMEM, or -EBADMSG with *e. */
#pragma once

#include "daemon/worker/conn.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/job.h"

/* One option: 1 with the value, 0 absent. */
int query_option(struct conn *c, const char *name, char *value, size_t size,
                 struct request_error *e);
/* Unlike fields of JSON, options of a query are all ours: others than these and those of
 * query_common are refused. */
int query_check_names(struct conn *c, const char *const *names, size_t n, struct request_error *e);
/* A word; number gives its number, or -EINVAL. Absent: *ret stays. */
int query_word(struct conn *c, const char *name, int (*number)(const char *), uint32_t *ret,
               struct request_error *e);
int query_flag(struct conn *c, const char *name, bool *ret, struct request_error *e);
/* model, stream, deadline_ms, priority */
int query_common(struct conn *c, struct job_spec *spec, struct request_error *e);
int query_max_tokens(struct conn *c, struct job_spec *spec, struct request_error *e);
/* The body is text by its type; it is one, and becomes the text of the job. */
int query_check_type(struct conn *c, struct request_error *e);
int query_document(struct conn *c, struct job_spec *spec, struct request_error *e);

/* Of their answers (struct exchange_format): events progress and delta, the coverage record of bare
 * text and whether it was cut (finish: stop or length) as header or trailer lines, and such a text
 * as a whole. */
#define DOCUMENT_TRAILER_NAMES                                                                     \
        "Trailer: x-bitnetd-bytes, x-bitnetd-tokens, x-bitnetd-tokens-used, x-bitnetd-dropped, "   \
        "x-bitnetd-pieces, x-bitnetd-rounds, x-bitnetd-left, x-bitnetd-finish\r\n"
void document_progress(struct exchange *x, const struct job_progress *p);
void document_text(struct exchange *x, const char *text, size_t n);
void document_coverage(const struct job_result *r, char *lines, size_t size);
void document_bare(struct exchange *x, const struct job_result *r);
