/* Requests of Ollama's clients, translated into the fields of OpenAI's. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "daemon/worker/request_error.h"

/* The body of a request to /api/… as params_parse and messages_parse read it; streams unless the
 * request says otherwise. A new reference, or NULL with *e filled (or without memory). */
json_t *ollama_translate(const json_t *root, struct request_error *e);

/* /api/generate: put "prompt" and "system" of root into to["messages"]; raw: the prompt is to be
 * continued as it is. 0, -ENOMEM, or -EBADMSG with *e filled. */
int ollama_prompt(json_t *to, const json_t *root, bool *ret_raw, struct request_error *e);

/* Seconds since the epoch as RFC 3339. A new reference. */
json_t *ollama_time(uint64_t seconds);
