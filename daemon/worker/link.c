/* The link as a state machine. What may come is in one table; a type that is not in it, or comes
 * where it may not, ends the worker, because the broker never errs and anything else is an attack
 * or a bug. Outgoing messages keep their order: once one had to be queued, all later ones are.
 *
 * The lease: the scheduler says whether it has work and whether it computes; this module turns
 * that into USED(WANT) once per need and USED(STOPPED) once per lease, and asks for more while a
 * lease still lasts, so that a lone user never waits. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/bus.h"
#include "daemon/worker/conn.h"
#include "daemon/worker/count.h"
#include "daemon/worker/job.h"
#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/session.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

enum { MESSAGES_PER_PASS = 64, QUEUE_MAX = 65536 };

static const uint64_t STOP_GRACE_USEC = 2000000;

struct queued {
        struct queued *next;
        union wire_message message;
};

struct link {
        struct worker *w;
        int fd;
        int place;               /* in the poller */
        struct queued *head, **tail;
        size_t n_queued;
        uint64_t output_wanted;  /* a JOB came, its JOB_OUTPUT must be next; 0: none */
        bool leased, asked;
        uint64_t lease_seq, lease_until;
};

int link_new(struct link **ret, struct worker *w, int fd) {
        struct link *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->w = w;
        l->fd = fd;
        l->place = POLLER_NONE;
        l->tail = &l->head;
        *ret = l;
        return 0;
}

static int enqueue(struct link *l, const union wire_message *message) {
        struct queued *q;

        if (l->n_queued == QUEUE_MAX)
                return -EPIPE; /* a broker that never reads is gone */
        q = malloc(sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (struct queued){ .message = *message };
        *l->tail = q;
        l->tail = &q->next;
        l->n_queued++;
        return 0;
}

int link_send(struct link *l, union wire_message *message) {
        int r;

        if (l->head)
                return enqueue(l, message);
        r = wire_send(l->fd, message, -1);
        return r == -EAGAIN ? enqueue(l, message) : r;
}

static int flush(struct link *l) {
        while (l->head) {
                struct queued *q = l->head;
                int r = wire_send(l->fd, &q->message, -1);

                if (r < 0)
                        return r == -EAGAIN ? 0 : r;
                l->head = q->next;
                if (!l->head)
                        l->tail = &l->head;
                l->n_queued--;
                free(q);
        }
        return 0;
}

static int on_catalog(struct link *l, const union wire_message *m, int fd) {
        return models_catalog(l->w->models, &m->catalog);
}

static int on_conn(struct link *l, const union wire_message *m, int fd) {
        return conn_new(l->w, &m->conn, fd);
}

static int on_job(struct link *l, const union wire_message *m, int fd) {
        l->output_wanted = m->job.ref;
        return bus_job_new(l->w, &m->job, fd);
}

static int on_job_output(struct link *l, const union wire_message *m, int fd) {
        l->output_wanted = 0;
        return bus_job_output(l->w, &m->job_output, fd);
}

static int on_model(struct link *l, const union wire_message *m, int fd) {
        return models_answer(l->w->models, &m->model, fd);
}

static int on_queued(struct link *l, const union wire_message *m, int fd) {
        jobs_queued(l->w, &m->queued);
        return 0;
}

static int on_admitted(struct link *l, const union wire_message *m, int fd) {
        jobs_admitted(l->w, &m->admitted);
        return 0;
}

static int on_refused(struct link *l, const union wire_message *m, int fd) {
        jobs_refused(l->w, &m->refused);
        return 0;
}

static int on_passed(struct link *l, const union wire_message *m, int fd) {
        jobs_passed(l->w, &m->passed);
        return 0;
}

static int on_count(struct link *l, const union wire_message *m, int fd) {
        return count_new(l->w, &m->count, fd);
}

static int on_lease(struct link *l, const union wire_message *m, int fd) {
        l->leased = true;
        l->asked = false;
        l->lease_seq = m->lease.seq;
        l->lease_until = monotonic_usec() + m->lease.usec;
        scheduler_grant(l->w->scheduler, l->lease_until);
        return 0;
}

static int on_cancel(struct link *l, const union wire_message *m, int fd) {
        bus_jobs_cancel(l->w, &m->cancel);
        jobs_cancel(l->w, &m->cancel);
        return 0;
}

static int on_set_limits(struct link *l, const union wire_message *m, int fd) {
        if (!l->w->shared) {
                l->w->limits = m->set_limits.limits;
                scheduler_set_max_sequences(l->w->scheduler, l->w->limits.max_sequences);
        }
        return user_set_limits(l->w, &m->set_limits);
}

static int on_rates(struct link *l, const union wire_message *m, int fd) {
        struct user *u = user_find(l->w, m->rates.uid);

        if (!u)
                return -EBADMSG;
        rates_set(&u->rates, &m->rates, monotonic_usec());
        return 0;
}

static int on_set_priority(struct link *l, const union wire_message *m, int fd) {
        bus_jobs_set_priority(l->w, &m->set_priority);
        jobs_set_priority(l->w, &m->set_priority);
        return 0;
}

static int on_prepare(struct link *l, const union wire_message *m, int fd) {
        models_prepare(l->w->models, &m->prepare);
        return 0;
}

static int on_take_output(struct link *l, const union wire_message *m, int fd) {
        bus_jobs_take(l->w, &m->take_output, fd);
        return 0;
}

static int on_user_gone(struct link *l, const union wire_message *m, int fd) {
        user_gone(l->w, m->user_gone.uid);
        return 0;
}

static int on_discard(struct link *l, const union wire_message *m, int fd) {
        bus_jobs_discard(l->w, &m->discard);
        return 0;
}

/* Keys and values that are kept for reuse, and what the allocator keeps. */
static int on_drop_caches(struct link *l, const union wire_message *m, int fd) {
        scheduler_drop_caches(l->w->scheduler);
        sessions_caches_dropped(l->w);
        malloc_trim(0);
        return 0;
}

static int on_session_open(struct link *l, const union wire_message *m, int fd) {
        return session_open(l->w, &m->session_open);
}

static int on_session_append(struct link *l, const union wire_message *m, int fd) {
        return session_append(l->w, &m->session_append, fd);
}

static int on_session_clear(struct link *l, const union wire_message *m, int fd) {
        return session_clear(l->w, &m->session_command);
}

static int on_session_forget(struct link *l, const union wire_message *m, int fd) {
        return session_forget(l->w, &m->session_command);
}

static int on_session_close(struct link *l, const union wire_message *m, int fd) {
        return session_close(l->w, &m->session_command);
}

static int on_shutdown(struct link *l, const union wire_message *m, int fd) {
        l->w->stop_by = monotonic_usec() + STOP_GRACE_USEC;
        bus_jobs_shutdown(l->w);
        for (struct conn *c = l->w->conns; c; c = conn_next(c))
                conn_shutdown(c);
        return 0;
}

/* Handlers take the descriptor. Everything else is illegal once the worker serves. */
static int (*const handlers[])(struct link *l, const union wire_message *m, int fd) = {
        [WIRE_CATALOG] = on_catalog,       [WIRE_CONN] = on_conn,
        [WIRE_JOB] = on_job,               [WIRE_JOB_OUTPUT] = on_job_output,
        [WIRE_MODEL] = on_model,           [WIRE_QUEUED] = on_queued,
        [WIRE_ADMITTED] = on_admitted,     [WIRE_REFUSED] = on_refused,
        [WIRE_LEASE] = on_lease,           [WIRE_CANCEL] = on_cancel,
        [WIRE_SET_LIMITS] = on_set_limits, [WIRE_DROP_CACHES] = on_drop_caches,
        [WIRE_SHUTDOWN] = on_shutdown,     [WIRE_RATES] = on_rates,
        [WIRE_SET_PRIORITY] = on_set_priority,
        [WIRE_PREPARE] = on_prepare,
        [WIRE_SESSION_OPEN] = on_session_open,
        [WIRE_SESSION_APPEND] = on_session_append,
        [WIRE_SESSION_CLEAR] = on_session_clear,
        [WIRE_SESSION_FORGET] = on_session_forget,
        [WIRE_SESSION_CLOSE] = on_session_close,
        [WIRE_TAKE_OUTPUT] = on_take_output,
        [WIRE_DISCARD] = on_discard,
        [WIRE_COUNT] = on_count,
        [WIRE_PASSED] = on_passed,
        [WIRE_USER_GONE] = on_user_gone,
};

static int dispatch(struct link *l, const union wire_message *m, int fd) {
        bool output = m->h.type == WIRE_JOB_OUTPUT;

        if (m->h.type >= ARRAY_SIZE(handlers) || !handlers[m->h.type] ||
            output != (l->output_wanted != 0) ||
            (output && m->job_output.ref != l->output_wanted)) {
                if (fd >= 0)
                        close(fd);
                return -EBADMSG;
        }
        return handlers[m->h.type](l, m, fd);
}

void link_poll(struct link *l, struct poller *p) {
        l->place = poller_add(p, l->fd, (short)(POLLIN | (l->head ? POLLOUT : 0)));
        /* A step that outlasts the lease tells its end through the scheduler's descriptor. */
        if (l->leased &&
            (l->lease_until > l->w->now || !scheduler_state(l->w->scheduler).computing))
                poller_deadline(p, l->lease_until);
}

int link_handle(struct link *l, const struct poller *p) {
        union wire_message message;
        int r, fd;

        if (poller_events(p, l->place) == 0)
                return 0;
        r = flush(l);
        for (unsigned i = 0; r == 0 && i < MESSAGES_PER_PASS; i++) {
                fd = -1;
                r = wire_receive(l->fd, &message, &fd);
                if (r == 0)
                        r = dispatch(l, &message, fd);
        }
        return r == -EAGAIN ? 0 : r;
}

/* Of one user there is nothing to divide. */
static void send_shares(struct link *l) {
        struct scheduler_share list[WIRE_SHARES_MAX];
        size_t n = WIRE_SHARES_MAX;

        while (l->w->shared && n == WIRE_SHARES_MAX) {
                union wire_message m = { .shares.h.type = WIRE_SHARES };

                n = scheduler_shares(l->w->scheduler, list, WIRE_SHARES_MAX);
                for (size_t i = 0; i < n; i++)
                        m.shares.list[i] = (struct wire_share){
                                .uid = (uint32_t)(list[i].user - 1),
                                .usec = (uint32_t)MIN(list[i].usec, (uint64_t)UINT32_MAX) };
                m.shares.n = (uint32_t)n;
                if (n > 0)
                        link_send(l, &m);
        }
}

static void send_used(struct link *l, uint32_t flags) {
        union wire_message m = { .used = { .h.type = WIRE_USED, .seq = l->lease_seq,
                                           .flags = flags } };

        send_shares(l);
        link_send(l, &m);
}

void link_sync_lease(struct link *l) {
        struct scheduler_state s = scheduler_state(l->w->scheduler);

        if (l->leased && !s.computing &&
            (!s.has_work || s.until_usec == 0 || monotonic_usec() >= l->lease_until)) {
                send_used(l, WIRE_USED_STOPPED | (s.has_work ? WIRE_USED_WANT : 0));
                l->leased = false;
                l->asked = s.has_work;
                return;
        }
        if (!l->asked && (l->leased ? s.renew : s.has_work)) {
                send_used(l, WIRE_USED_WANT);
                l->asked = true;
        }
}
