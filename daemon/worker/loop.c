/* One pass: wait; hear the broker; hear the scheduler; move bytes on connections and bus
 * descriptors; advance jobs; settle the lease. Everything is level-triggered and every object says
 * anew in each pass what it waits for, so there is no state about waiting that could be stale. */
#include <errno.h>

#include "daemon/worker/bus.h"
#include "daemon/worker/conn.h"
#include "daemon/worker/count.h"
#include "daemon/worker/job.h"
#include "daemon/worker/link.h"
#include "daemon/worker/loop.h"
#include "daemon/worker/models.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/refusals.h"
#include "daemon/worker/resident.h"
#include "daemon/worker/session.h"
#include "daemon/worker/user.h"
#include "daemon/worker/worker.h"
#include "kernels/cpu.h"

static int wait_for_work(struct worker *w, struct poller *p) {
        int r;

        w->now = monotonic_usec();
        poller_reset(p);
        link_poll(w->link, p);
        poller_add(p, scheduler_fd(w->scheduler), POLLIN);
        conns_poll(w, p);
        bus_jobs_poll(w, p);
        counts_poll(w, p);
        sessions_poll(w, p);
        jobs_poll(w, p);
        models_poll(w->models, p);
        resident_poll(w, p);
        refusals_poll(w, p);
        poller_deadline(p, w->stop_by);
        r = poller_wait(p, w->now);
        w->now = monotonic_usec();
        return r;
}

static int pass(struct worker *w, struct poller *p) {
        int r = wait_for_work(w, p);

        if (r < 0)
                return r;
        r = link_handle(w->link, p);
        if (r < 0)
                return r;
        scheduler_dispatch(w->scheduler);
        conns_handle(w, p);
        conns_reap(w);
        bus_jobs_handle(w, p);
        counts_handle(w, p);
        jobs_run(w);
        models_run(w->models);
        sessions_run(w, p);
        resident_run(w);
        refusals_run(w);
        link_sync_lease(w->link);
        return 0;
}

static bool stopped(const struct worker *w) {
        return w->stop_by != 0 && ((!w->conns && !w->bus_jobs && !w->jobs) || w->now >= w->stop_by);
}

int loop_run(int link_fd, const struct wire_hello *hello, struct scheduler *scheduler,
             uint64_t seed) {
        static const char *const kv_names[_WIRE_KV_MAX] = { "s16", "f16", "s8" };
        const struct wire_set_limits first = { .uid = hello->uid, .limits = hello->limits };
        struct worker w = { .scheduler = scheduler, .limits = hello->limits,
                            .shared = hello->shared, .seed_state = seed,
                            .isa = cpu_level_name(cpu_flags(hello->cpu_mask)),
                            .kv = kv_names[hello->kv] };
        struct poller p = {};
        int r = link_new(&w.link, &w, link_fd);

        if (r == 0)
                r = models_new(&w.models, &w);
        if (r == 0)
                r = user_set_limits(&w, &first);
        while (r == 0 && !stopped(&w))
                r = pass(&w, &p);
        sessions_done(&w);
        users_done(&w);
        return r == -ECONNRESET ? 0 : r;
}
