/* Numbers by error code, told twice a second at most, and a last time when the worker is to end.
 * What the broker has refused, and jobs that it knows, it counts itself. */
#include <string.h>

#include "daemon/worker/link.h"
#include "daemon/worker/refusals.h"
#include "daemon/worker/request_error.h"
#include "engine/base/macro.h"

static const uint64_t INTERVAL = 500 * USEC_PER_MSEC;

void refusals_add(struct worker *w, const struct request_error *e, uint64_t job) {
        if (e->code == ERROR_NONE || e->by_broker || job != 0)
                return;
        w->refusals.counts[e->code]++;
        w->refusals.new = true;
}

void refusals_poll(const struct worker *w, struct poller *p) {
        if (w->refusals.new)
                poller_deadline(p, w->refusals.told_at + INTERVAL);
}

void refusals_run(struct worker *w) {
        union wire_message m = { .refusals = { .h.type = WIRE_REFUSALS } };
        struct refusals *r = &w->refusals;

        if (!r->new || (r->told_at != 0 && w->now - r->told_at < INTERVAL && w->stop_by == 0))
                return;
        for (size_t i = 0; i < WIRE_ERRORS_MAX; i++)
                m.refusals.counts[i] = MIN(r->counts[i], (uint32_t)WIRE_MAX_REFUSALS);
        if (link_send(w->link, &m) < 0)
                return;
        r->new = false;
        for (size_t i = 0; i < WIRE_ERRORS_MAX; i++) {
                r->counts[i] -= m.refusals.counts[i];
                r->new |= r->counts[i] > 0;
        }
        r->told_at = w->now;
}
