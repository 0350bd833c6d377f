/* How many tokens an input has, for a caller on the bus. No job: nothing is computed or queued. */
#pragma once

#include "daemon/wire/proto.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/worker.h"

/* Takes the descriptor. COUNTED follows, by the deadline in the message. 0, -ENOMEM or -EBADMSG
 * (the reference is in use). */
int count_new(struct worker *w, const struct wire_count *m, int input);
void counts_poll(struct worker *w, struct poller *p);
void counts_handle(struct worker *w, const struct poller *p);
