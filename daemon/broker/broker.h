/* The daemon as one object: builds the modules, connects them, runs the loop. */
#pragma once

#include <systemd/sd-event.h>

#include "daemon/broker/accept.h"
#include "daemon/broker/admin.h"
#include "daemon/broker/metrics.h"
#include "daemon/broker/options.h"
#include "daemon/broker/places.h"
#include "daemon/broker/pressure.h"
#include "daemon/broker/quota_file.h"
#include "daemon/broker/settings.h"
#include "daemon/broker/worker.h"
#include "dbus/bus.h"

/* Of leaving when idle (idle.c). */
struct idle {
        sd_event_source *timer;
        uint64_t tick_usec, seen;
        unsigned ticks;                 /* without a client, one after the other */
        bool leaving;
};

struct broker {
        struct options options;
        struct places places;
        struct settings settings;
        struct spawn spawn;
        sd_event *event;
        struct accounts *accounts;
        struct quota_file *quota_file;
        struct jobs *jobs;
        struct sessions *sessions;
        struct counts *counts;
        struct tasks *tasks;
        struct store *store;
        struct leases *leases;
        struct workers *workers;
        struct listener *api;
        struct admin *admin;
        struct bus *bus;
        sd_event_source *stop_timer;
        sd_event_source *ask_again; /* the user database */
        struct metrics metrics;
        struct holds holds;
        struct pressure *pressure;
        struct idle idle;
        bool own_api_socket, own_bus_socket, own_admin_socket; /* to be removed at the end */
};

/* Replace the configuration by what its files say now. 0; or a negative errno with *ret_problem
 * (already logged), and the old one stays. */
int broker_reload(struct broker *b, struct config_problem *ret_problem);
/* The same with the quota of a user changed (settings_change). */
int broker_set_quota(struct broker *b, uid_t uid, const struct settings_change *changes, size_t n,
                     bool persistent, struct config_problem *ret_problem);

/* Nobody new comes: own sockets are removed (what waits in them is still served), those of systemd
 * are left alone. */
void broker_close_sockets(struct broker *b);

/* On failure a message was printed; the result is an exit status (sysexits.h). */
int broker_run(struct broker *b);
