/* Manager.ListWorkers: what each worker keeps in memory. A worker has no object of its own:
 * there is nothing that one could do with it. Numbers of memory are the worker's word
 * (WIRE_RESIDENT), since neither the broker nor the worker may look into /proc; CPU time is the
 * broker's measure. */
#include "dbus/options.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"

static const char *state_word(const struct worker *w) {
        switch (w->state) {
        case WORKER_DELAYED:
        case WORKER_STARTING:
                return "starting";
        case WORKER_SERVING:
                return w->idle_since ? "idle" : "serving";
        case WORKER_CLOSING:
                return "ending";
        }
        return "ending";
}

/* Of one user of it, or (NULL) of all. */
static uint32_t count_jobs(const struct jobs *jobs, const struct worker *w,
                           const struct member *user) {
        const struct job *job;
        uint32_t n = 0;

        for (uint32_t i = 0; (job = jobs_at(jobs, i)); i++)
                n += job->worker == w && (!user || job->member == user);
        return n;
}

static uint32_t count_users(const struct worker *w) {
        uint32_t n = 0;

        for (const struct member *i = w->members; i; i = i->next)
                n++;
        return n;
}

/* user: who is shown no more than what is his; NULL: all is shown. */
static int append_worker(sd_bus_message *m, struct peer *p, const struct worker *w,
                         const struct member *user) {
        const struct wire_resident *r = &w->resident;
        bool own = user && w->domain.kind != ISOLATION_UID;
        uint64_t now = now_monotonic();
        uint64_t idle = w->idle_since ? now - w->idle_since : 0;

        return sd_bus_message_append(
                m, "a{sv}", 16, "uid", "u", own ? user->account->id.uid : w->first_uid, "slice",
                "s", w->domain.slice, "domain", "s", isolation_name(w->domain.kind), "domain-id",
                "u", w->domain.id, "users", "u", own ? 1 : count_users(w), "state",
                "s", state_word(w), "model", "s", own ? "" : r->name, "models", "u", r->models,
                "private-bytes", "t", r->private_bytes, "kv-bytes", "t", r->kv_bytes,
                "kv-kept-bytes", "t", r->kv_kept_bytes, "weights-bytes", "t",
                r->weights_bytes, "cpu-usec", "t", own ? user->cpu_usec : w->lease.charged, "jobs",
                "u", count_jobs(p->owner->jobs, w, user), "age-usec", "t",
                w->started_usec ? now - w->started_usec : 0, "idle-usec", "t", idle);
}

static int list(sd_bus_message *m, struct peer *p, bool all) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const struct member *user;
        const struct worker *w;
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (uint32_t i = 0; r >= 0 && (w = workers_at(p->owner->settings.workers, i)); i++)
                if ((user = member_of_uid(w, uid)) || all)
                        r = append_worker(reply, p, w, all ? NULL : user);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static int list_all(sd_bus_message *m, struct peer *p, sd_bus_error *e) {
        return list(m, p, true);
}

int worker_method_list(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        bool all;

        if (options_filter(m, &all) < 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        return all ? authorize(userdata, m, ACTION_INSPECT_OTHERS, list_all, e)
                   : list(m, userdata, false);
}
