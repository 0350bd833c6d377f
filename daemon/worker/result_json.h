/* What a job used and covered, as JSON. Each returns a new reference, or NULL without memory. */
#pragma once

#include <jansson.h>

#include "daemon/worker/job.h"

json_t *result_usage(const struct job_result *r);
json_t *result_coverage(const struct coverage *c);
const char *result_finish(const struct job_result *r); /* "stop" or "length" */
