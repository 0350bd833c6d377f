/* Telling the broker what this worker keeps in memory and for how long. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/wire/proto.h"

struct poller;
struct worker;

struct resident {
        struct wire_resident told;  /* keep_usec: the time of the expiry, not from now on */
        uint64_t told_at;
        bool new;                   /* something changed too soon after the last message */
};

/* Once per loop pass. */
void resident_poll(const struct worker *w, struct poller *p);
void resident_run(struct worker *w);
