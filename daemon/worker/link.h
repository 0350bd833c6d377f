/* The worker's end of the link to the broker: messages out (queued while the broker does not read),
 * messages in (dispatched by a table), and the lease of CPU time. */
#pragma once

#include "daemon/wire/frame.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/worker.h"

struct link;

int link_new(struct link **ret, struct worker *w, int fd);

/* Queue or send; the message is copied. 0, -ENOMEM, or -EPIPE when the broker is gone. */
int link_send(struct link *l, union wire_message *message);

void link_poll(struct link *l, struct poller *p);
/* Handle what came. 0; -ECONNRESET at end of file; -EBADMSG for a message that is illegal now. */
int link_handle(struct link *l, const struct poller *p);
/* Tell the broker about the wish for CPU time, or that it is not used any more. */
void link_sync_lease(struct link *l);
