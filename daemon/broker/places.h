/* Where sockets and packed models live, and making sure those places are ours. */
#pragma once

#include <limits.h>
#include <stdbool.h>

#include "daemon/broker/options.h"

struct places {
        char api_socket[108];
        char bus_socket[108];
        char admin_socket[108];
        char state_dir[PATH_MAX];
};

/* Computes and creates folders. 0 or a negative errno; -EPERM: a folder is there but belongs to
 * somebody else or others may write to it. */
int places_init(struct places *p, const struct options *o);

/* The folder and all above it that are missing. */
int places_make_dirs(const char *path, mode_t mode);

/* A listening stream socket at path. A stale socket file is replaced, -EADDRINUSE: somebody
 * answers there. */
int places_listen(const char *path, mode_t mode, int *ret_fd);
/* Sockets that systemd passed: -1 for those it did not. */
int places_inherited(int *ret_api, int *ret_bus, int *ret_admin);
