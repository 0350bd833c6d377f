/* Idle means: no worker, no job that can still be looked at, no client on the private bus, no model
 * being prepared, no quota that only this process knows; and no connection or call for as long as
 * the configuration says.
 *
 * Leaving loses nothing. The service manager is told first, so that whoever activates us from now
 * on gets the next instance; sockets that systemd holds are left alone, connections wait in them.
 * Then the name on the bus is given up, and what came before that is served to its end: the loop
 * runs on until it is idle once more. */
#include <errno.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/idle.h"
#include "daemon/broker/log.h"

enum { TICKS = 4, LEAVING_TICK_USEC = 100000, LEAVING_TICKS = 300 };

static bool busy(const struct broker *b) {
        return workers_count(b->workers) > 0 || jobs_at(b->jobs, 0) || bus_has_peers(b->bus) ||
               store_busy(b->store) || b->settings.runtime;
}

static uint64_t activity(const struct broker *b) {
        return b->metrics.connections + b->metrics.bus_calls;
}

static void leave(struct broker *b) {
        log_event(LOG_IDLE, 0, 0, 0);
        sd_notify(0, "STOPPING=1");
        b->idle.leaving = true;
        broker_close_sockets(b);
        bus_release_name(b->bus);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        struct broker *b = userdata;
        struct idle *i = &b->idle;
        bool calm = !busy(b) && activity(b) == i->seen;

        i->seen = activity(b);
        i->ticks = calm || i->leaving ? i->ticks + 1 : 0;
        if (i->leaving && (calm || i->ticks > LEAVING_TICKS))
                return sd_event_exit(b->event, 0);
        if (!i->leaving && i->ticks >= TICKS) {
                leave(b);
                i->ticks = 0;
        }
        sd_event_source_set_time_relative(source, i->leaving ? LEAVING_TICK_USEC : i->tick_usec);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int idle_watch(struct broker *b, uint64_t seconds) {
        if (seconds == 0)
                return 0;
        b->idle.tick_usec = seconds * 1000000 / TICKS;
        return sd_event_add_time_relative(b->event, &b->idle.timer, CLOCK_MONOTONIC,
                                          b->idle.tick_usec, 0, on_tick, b);
}
