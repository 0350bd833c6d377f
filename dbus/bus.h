/* The D-Bus face of the broker: the real bus where there is one, and always the private socket
 * bus.sock with the same objects. It translates and decides nothing; text of users never passes. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "daemon/broker/worker.h"

#define BUS_NAME "org.bitnetd.Bitnetd1"
#define BUS_ROOT "/org/bitnetd/Bitnetd1"

struct broker;
struct bus;

struct bus_settings {
        bool system;               /* system bus, else the session bus */
        struct workers *workers;
        struct broker *broker;     /* for administration */
        const char *api_socket;    /* shown as a property */
};

/* Takes the listening private socket (on success). A missing message bus is logged, not fatal. */
int bus_new(struct bus **ret, sd_event *event, int listening, const struct bus_settings *settings);
/* The end is near: no new private connection. */
void bus_stop_accepting(struct bus *b);
/* Give up the name on the message bus and handle what came before. */
void bus_release_name(struct bus *b);
/* Private clients are connected. */
bool bus_has_peers(const struct bus *b);
/* Descriptors have run out: drop the private connections without unfinished jobs and leases. */
void bus_drop_idle(struct bus *b);
/* Before the workers end: models are kept for nobody any more. */
void bus_end_residencies(struct bus *b);
/* All jobs must have ended. */
struct bus *bus_free(struct bus *b);
