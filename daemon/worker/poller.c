/* ppoll with a growing array and one deadline. The array is kept between passes, so that after the
 * first ones nothing is allocated. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/poller.h"
#include "engine/base/macro.h"

enum { FIRST_ROOM = 32, RETRY_USEC = 100000 };

void poller_reset(struct poller *p) {
        p->n = 0;
        p->deadline = UINT64_MAX;
}

int poller_add(struct poller *p, int fd, short events) {
        if (fd < 0)
                return POLLER_NONE;
        if (p->n == p->room) {
                size_t room = p->room ? p->room * 2 : FIRST_ROOM;
                struct pollfd *fds = reallocarray(p->fds, room, sizeof(*fds));

                if (!fds) {
                        p->deadline = MIN(p->deadline, monotonic_usec() + RETRY_USEC);
                        return POLLER_NONE;
                }
                p->fds = fds;
                p->room = room;
        }
        p->fds[p->n] = (struct pollfd){ .fd = fd, .events = events };
        return (int)p->n++;
}

short poller_events(const struct poller *p, int place) {
        return place == POLLER_NONE ? 0 : p->fds[place].revents;
}

void poller_deadline(struct poller *p, uint64_t usec) {
        if (usec != 0)
                p->deadline = MIN(p->deadline, usec);
}

int poller_wait(struct poller *p, uint64_t now) {
        uint64_t wait = p->deadline > now ? p->deadline - now : 0;
        struct timespec ts = { .tv_sec = (time_t)(wait / 1000000),
                               .tv_nsec = (long)(wait % 1000000) * 1000 };

        if (ppoll(p->fds, p->n, p->deadline == UINT64_MAX ? NULL : &ts, NULL) >= 0)
                return 0;
        for (size_t i = 0; i < p->n; i++)
                p->fds[i].revents = 0;
        return errno == EINTR || errno == ENOMEM ? 0 : -errno;
}

uint64_t monotonic_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}
