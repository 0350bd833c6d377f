/* A list of descriptors, each with two reasons to be closed: the peer has gone, or the time is up.
 * Nothing is read from them. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/linger.h"

enum { LINGER_MAX = 64, LINGER_USEC = 2000000 };

struct lingerer {
        struct lingerers *owner;
        struct lingerer *next;
        sd_event_source *io, *timer;
        int fd;
};

void linger_init(struct lingerers *l, sd_event *event) {
        *l = (struct lingerers){ .event = event };
}

static void forget(struct lingerer *k) {
        struct lingerer **p = &k->owner->first;

        while (*p != k)
                p = &(*p)->next;
        *p = k->next;
        k->owner->n--;
        sd_event_source_disable_unref(k->io);
        sd_event_source_disable_unref(k->timer);
        close(k->fd);
        free(k);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        forget(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        forget(userdata);
        return 0;
}

void linger(struct lingerers *l, int fd) {
        struct lingerer *k = l->n < LINGER_MAX ? calloc(1, sizeof(*k)) : NULL;

        if (!k) {
                close(fd);
                return;
        }
        k->owner = l;
        k->fd = fd;
        k->next = l->first;
        l->first = k;
        l->n++;
        if (sd_event_add_io(l->event, &k->io, fd, EPOLLHUP, on_io, k) < 0 ||
            sd_event_add_time_relative(l->event, &k->timer, CLOCK_MONOTONIC, LINGER_USEC, 0,
                                       on_timer, k) < 0)
                forget(k);
}

void linger_done(struct lingerers *l) {
        while (l->first)
                forget(l->first);
}
