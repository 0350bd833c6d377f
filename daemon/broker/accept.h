/* The API socket: who connects is learnt from the kernel, charged to the uid, and handed to that
 * uid's worker. Nothing is ever read from a client here. */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/broker/worker.h"

struct listener;

/* Takes the listening socket. */
int listener_new(struct listener **ret, sd_event *event, int fd, struct workers *workers);
struct listener *listener_free(struct listener *l);

/* Constant HTTP answer of an error, then the connection is closed (the descriptor is taken). */
void listener_refuse(struct listener *l, int fd, enum error_code code);

/* Accept one connection: 0 with the descriptor and the uid of the peer, or a negative errno. */
int accept_peer(int listening, int *ret_fd, uid_t *ret_uid);
