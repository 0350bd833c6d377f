/* The administrator's socket. Whoever may connect (root, and the daemon's own user) gets the
 * metrics as one HTTP answer. Nothing of what they send is looked at. */
#pragma once

#include <systemd/sd-event.h>

#include "daemon/broker/worker.h"

struct admin;

/* Takes the listening socket on success. */
int admin_new(struct admin **ret, sd_event *event, int fd, struct workers *workers);
struct admin *admin_free(struct admin *a);
