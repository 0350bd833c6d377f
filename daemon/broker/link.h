/* Messages of a worker: the table {state, message} -> handler. */
#pragma once

#include "daemon/broker/worker.h"

/* Receive and handle one message; a second one waits for the next turn of the loop, so that one
 * worker cannot keep the broker from others. May end the worker. */
void link_dispatch(struct worker *w);
/* Answer to this user's WANT_MODEL if the model is ready, bad or unknown; else it is remembered. */
void link_answer_model(struct member *member, const char *asked);
/* The answer to a user who is not in the worker any more. */
void link_refuse_model(struct worker *w, uint32_t uid, const char *asked);
