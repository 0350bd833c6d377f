/* What one loop pass waits for: descriptors and the next deadline. */
#pragma once

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

struct poller {
        struct pollfd *fds;
        size_t n, room;
        uint64_t deadline; /* microseconds, UINT64_MAX: none */
};

enum { POLLER_NONE = -1 };

void poller_reset(struct poller *p);
/* Returns the place of the entry for poller_events, POLLER_NONE when fd is -1 or memory is out
 * (then the pass has a short deadline and the next one tries again). */
int poller_add(struct poller *p, int fd, short events);
short poller_events(const struct poller *p, int place);
void poller_deadline(struct poller *p, uint64_t usec); /* 0: none */
/* Wait. Returns 0 or a negative errno; interruptions count as a wake-up. */
int poller_wait(struct poller *p, uint64_t now);
uint64_t monotonic_usec(void);
