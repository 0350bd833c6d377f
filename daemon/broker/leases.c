/* Every report ends in schedule(): send what policy decides, set the timer to the next moment it
 * names. Time is the broker's own monotonic clock; what a worker claims is not looked at. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/leases.h"

struct leases {
        struct leases_settings settings;
        struct lease_scheduler scheduler;
        sd_event_source *timer;
};

static void schedule(struct leases *l) {
        uint64_t now = now_monotonic(), usec, seq;
        struct lease_domain *d;

        while ((d = lease_offender(&l->scheduler, now)))
                l->settings.overran(d, true);
        while ((d = lease_next(&l->scheduler, now, &usec, &seq)))
                l->settings.send(d, usec, seq);
        d = l->scheduler.overran;
        l->scheduler.overran = NULL;
        if (d)
                l->settings.overran(d, false);
        sd_event_source_set_time(l->timer, lease_wakeup(&l->scheduler));
        sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        schedule(userdata);
        return 0;
}

int leases_new(struct leases **ret, sd_event *event, const struct leases_settings *settings) {
        struct leases *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        l->settings = *settings;
        l->scheduler.threads = settings->threads;
        r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_timer, l);
        if (r < 0) {
                free(l);
                return r;
        }
        *ret = l;
        return 0;
}

struct leases *leases_free(struct leases *l) {
        if (l)
                sd_event_source_disable_unref(l->timer);
        free(l);
        return NULL;
}

uint64_t leases_total(const struct leases *l) {
        return l->scheduler.total;
}

void leases_add(struct leases *l, struct lease_domain *d) {
        lease_add(&l->scheduler, d);
}

void leases_remove(struct leases *l, struct lease_domain *d) {
        lease_remove(&l->scheduler, d, now_monotonic());
        schedule(l);
}

void leases_set_weight(struct leases *l, struct lease_domain *d, uint32_t weight) {
        lease_set_weight(&l->scheduler, d, weight, now_monotonic());
}

void leases_set_class(struct leases *l, struct lease_domain *d, enum lease_class class) {
        lease_set_class(&l->scheduler, d, class, now_monotonic());
        schedule(l);
}

void leases_used(struct leases *l, struct lease_domain *d, bool want, bool stopped, uint64_t seq) {
        lease_used(&l->scheduler, d, want, stopped, seq, now_monotonic());
        schedule(l);
}
