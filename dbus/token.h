/* Names that clients choose for their objects, so that they know the path before the call:
 * PREFIX/SENDER/TOKEN; SENDER is the unique name without its colon and with _ for each dot. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "dbus/peer.h"

/* 1 to 64 of A-Z, a-z, 0-9 and _. */
bool token_valid(const char *token);
/* The path of an object of whoever sent m; the caller's. NULL without memory. */
char *token_path(const char *prefix, const struct peer *p, sd_bus_message *m, const char *token);
