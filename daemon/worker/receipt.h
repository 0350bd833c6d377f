/* Receipts: what an answer was made of, as digests and numbers, so that it can be made again and
 * compared. Digests of texts are keyed with a secret of the user's that only the broker keeps:
 * nobody who reads a receipt can try out what the text might have been. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "daemon/worker/job.h"

struct receipt;

bool receipt_possible(uint32_t verb);

/* The input is digested here, before the job takes it apart. 0 or -ENOMEM. */
int receipt_new(struct receipt **ret, const struct job_spec *spec);
struct receipt *receipt_free(struct receipt *r);
/* The key, and the digest of the model. */
void receipt_admitted(struct receipt *r, const struct wire_admitted *m);
/* A piece of the answer. */
void receipt_text(struct receipt *r, const char *text, size_t n);

/* Once, at the end: max_tokens is the limit that applied. A new reference, or NULL without
 * memory. */
json_t *receipt_json(struct receipt *r, const struct worker *w, const struct job_spec *spec,
                     const char *model, uint64_t max_tokens, const struct job_result *result);
