/* Connections that have got their answer. Closing a socket with an unread request in it would make
 * some clients lose the answer, so it is kept until the peer closes, or for a moment. */
#pragma once

#include <systemd/sd-event.h>

struct lingerer;

struct lingerers {
        sd_event *event;
        struct lingerer *first;
        unsigned n;
};

void linger_init(struct lingerers *l, sd_event *event);
/* Takes the descriptor. Beyond a bounded number it is closed at once. */
void linger(struct lingerers *l, int fd);
void linger_done(struct lingerers *l);
