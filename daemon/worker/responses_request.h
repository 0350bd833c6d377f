/* Requests of OpenAI's Responses interface, translated into the fields of a chat. */
#pragma once

#include <jansson.h>

#include "daemon/worker/params.h"
#include "daemon/worker/request_error.h"

/* The body of POST /v1/responses as params_parse and messages_parse read it. A new reference, or
 * NULL with *e filled (or without memory). */
json_t *responses_translate(const json_t *root, struct request_error *e);

/* Let a refusal of the translated request name the field as its client wrote it. */
void responses_rename(struct request_error *e);

/* What a response repeats of its request, and what it says in any case. A new reference. */
json_t *responses_echo(const json_t *root, const struct gen_params *p);
