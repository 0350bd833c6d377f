/* Jobs that go on without us. */
#pragma once

#include <jansson.h>

#include "client/options.h"

/* --background and --deadline as a field of an HTTP request. 0 or an exit status. */
int detach_add_options(json_t *request, const struct options *o);
/* Start a job over D-Bus and print its id. method: "Generate" or "Summarize"; request: what the
 * input would be over HTTP (a document as "text"), with the options of it. 0 or an exit status. */
int detach_start(const struct options *o, const char *method, const json_t *request);
