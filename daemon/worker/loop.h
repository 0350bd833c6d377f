/* The main loop of a serving worker. */
#pragma once

#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/scheduler.h"

/* Serve until the broker says SHUTDOWN or hangs up. Returns 0 then, or a negative errno (an illegal
 * message, no memory). The scheduler is taken over. */
int loop_run(int link_fd, const struct wire_hello *hello, struct scheduler *scheduler,
             uint64_t seed);
