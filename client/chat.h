/* One chat completion over the socket, streamed: shared by ask and chat. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/http.h"
#include "client/options.h"

struct chat_reply {
        struct http_body text; /* what the model said */
        char model[80], finish[32], job[80];
        json_t *usage, *receipt; /* or NULL */
};

/* Fill a request object with the sampling options of the command line (numbers are checked).
 * Returns 0 or an exit status, with the message printed. */
int chat_add_options(json_t *request, const struct options *o);

/* Send `messages` and print the answer as it comes unless o->json. parameters: more fields of the
 * request, or NULL. Returns as http_perform. */
int chat_run(const struct options *o, json_t *messages, const json_t *parameters,
             struct chat_reply *reply, struct http_failure *failure);
void chat_reply_done(struct chat_reply *r);

/* {"role": role, "content": text} appended to a list. */
int chat_add_message(json_t *messages, const char *role, const char *text, size_t n);
