/* The API socket: who connects is learnt from the kernel, charged to the uid, and handed to that
 * uid's worker. Nothing is ever read from a client here. */
#pragma once

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "daemon/broker/worker.h"

struct listener;

/* Takes the listening socket. exhausted: descriptors have run out, give some back. */
int listener_new(struct listener **ret, sd_event *event, int fd, struct workers *workers,
                 void (*exhausted)(void *userdata), void *userdata);
struct listener *listener_free(struct listener *l);
/* The end is near. Connections to a socket of ours are refused from now on; those to an inherited
 * one wait there for the next instance. */
void listener_stop(struct listener *l, bool inherited);

/* Takes no more connections; they wait in the socket. */
void listener_pause(struct listener *l);

/* Constant HTTP answer of an error, then the connection is closed (the descriptor is taken). */
void listener_refuse(struct listener *l, int fd, const struct refusal *why);

/* Accept one connection: 0 with the descriptor and who the peer is, or a negative errno. */
int accept_peer(int listening, int *ret_fd, struct ucred *ret);
/* The group of an account is that of its first process. */
void accept_note_group(struct account *account, const struct ucred *peer);

/* Rest of a listening socket when accepting fails. Zero-initialised. */
struct accept_pause {
        sd_event_source *io, *timer;
};
/* What accept_peer returned, when negative: stops watching `io` for a moment if the error would
 * come again at once. True if so. */
bool accept_failed(struct accept_pause *p, sd_event_source *io, int error);
void accept_pause_done(struct accept_pause *p);
