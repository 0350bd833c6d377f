/* What a job used and covered, as JSON. Each returns a new reference, or NULL without memory. */
#pragma once

#include <jansson.h>

#include "daemon/worker/job.h"

json_t *result_usage(const struct job_result *r);
json_t *result_correction(uint64_t start, uint64_t end, const char *text, size_t n);
/* The label that fits best and what all have: {"label", "scores": [{label, score, logprob}]}. */
json_t *result_scores(const struct job_result *r);
json_t *result_coverage(uint32_t verb, const struct coverage *c);
/* The numbers of a vector as a JSON array, in the nine digits that tell every binary32 apart. */
void result_numbers(struct secure_buf *to, const float *v, uint32_t n);
/* Takes v, an answer's object: with "bn", what only this server says, if there is anything. */
json_t *result_own(json_t *v, const struct job_result *r);
const char *result_finish(const struct job_result *r); /* "stop" or "length" */
