/* Life of a worker. Ownership: the list of workers owns them; jobs and connections point to their
 * worker and are given back (ended, answered) before it is freed. A worker that fails while some
 * other code is using it is only marked (worker_doom) and ended from the loop; that is the one rule
 * that keeps pointers to it valid. At most one worker of a domain is not closing, and a closing
 * one holds no job and no connection. A user stays in the worker he is in, whatever the database of
 * users says of his group meanwhile. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/counts.h"
#include "daemon/broker/link.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics.h"
#include "daemon/broker/queue.h"
#include "daemon/broker/worker.h"
#include "engine/base/macro.h"

struct workers {
        struct workers_settings settings;
        struct worker *first;
        uint32_t count;
        uint32_t next_slot;
        struct start_rate rate;
        bool stopping;
};

/* Models or users told of at once. The link holds some hundred messages, and a worker in the middle
 * of a step does not read: a long catalogue that changes often would fill it. */
enum { CATALOG_BURST = 32 };

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);
static void tell_models(struct worker *w);
static void unlink_worker(struct worker *w);

int workers_new(struct workers **ret, const struct workers_settings *settings) {
        struct workers *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        w->settings = *settings;
        *ret = w;
        return 0;
}

const struct workers_settings *workers_settings(const struct workers *w) {
        return &w->settings;
}

uint32_t workers_count(const struct workers *w) {
        return w->count;
}

const struct worker *workers_at(const struct workers *w, uint32_t index) {
        const struct worker *at = w->first;

        while (at && index-- > 0)
                at = at->next;
        return at;
}

bool workers_stopping(const struct workers *w) {
        return w->stopping;
}

void workers_set_stopping(struct workers *w) {
        w->stopping = true;
}

struct workers *workers_free(struct workers *w) {
        if (!w)
                return NULL;
        w->settings.all_gone = NULL;
        while (w->first)
                worker_end(w->first, FAILURE_STOPPED);
        /* All our children have been killed by now. */
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
                continue;
        free(w);
        return NULL;
}

static bool takes_more(const struct worker *w) {
        return w->state != WORKER_CLOSING && !w->doom;
}

struct member *workers_find(const struct workers *ws, const struct account *account) {
        struct member *m = NULL;

        for (struct worker *w = ws->first; w && !m; w = w->next)
                if (takes_more(w))
                        m = member_find(w, account);
        return m;
}

bool workers_share(const struct workers *ws, const struct account *account) {
        return ws->settings.domain(account, ws->settings.userdata).kind != ISOLATION_UID;
}

static struct worker *find_domain(const struct workers *ws, struct domain d) {
        struct worker *w = ws->first;

        while (w && (!takes_more(w) || w->domain.kind != d.kind || w->domain.id != d.id ||
                     strcmp(w->domain.slice, d.slice) != 0))
                w = w->next;
        return w;
}

/* A uid slot that no live worker has; 0 belongs to packers. */
static uint32_t free_slot(struct workers *ws) {
        struct worker *w;

        do {
                ws->next_slot = ws->next_slot % (SPAWN_UID_COUNT - 1) + 1;
                for (w = ws->first; w && w->slot != ws->next_slot; w = w->next)
                        continue;
        } while (w);
        return ws->next_slot;
}

static int set_timer(struct worker *w, uint64_t at) {
        int r = 0;

        if (!w->timer)
                r = sd_event_add_time(w->owner->settings.event, &w->timer, CLOCK_MONOTONIC, at, 0,
                                      on_timer, w);
        else {
                sd_event_source_set_time(w->timer, at);
                sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
        }
        return r;
}

static int worker_new(struct worker **ret, struct workers *ws, struct account *account,
                      struct domain domain) {
        struct worker *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->owner = ws;
        w->domain = domain;
        w->first_uid = account->id.uid;
        w->sock = -1;
        w->slot = free_slot(ws);
        w->state = WORKER_DELAYED;
        r = set_timer(w, start_book(&ws->rate, account, now_monotonic()));
        if (r < 0) {
                free(w);
                return r;
        }
        w->next = ws->first;
        ws->first = w;
        ws->count++;
        *ret = w;
        return 0;
}

int workers_get(struct workers *ws, struct account *account, struct member **ret) {
        const struct workers_settings *s = &ws->settings;
        struct member *m = workers_find(ws, account);
        struct worker *w;
        struct domain d;
        int r = 0;

        if (m) {
                *ret = m;
                return 0;
        }
        d = s->domain(account, s->userdata);
        w = find_domain(ws, d);
        if (!w)
                r = worker_new(&w, ws, account, d);
        if (r == 0)
                r = member_new(ret, w, account);
        if (r < 0 && w && !w->members) {
                unlink_worker(w);
                sd_event_source_disable_unref(w->timer);
                free(w);
        }
        return r;
}

static int on_doomed(sd_event_source *source, void *userdata) {
        struct worker *w = userdata;

        worker_end(w, w->doom);
        return 0;
}

void worker_doom(struct worker *w, enum worker_failure why) {
        if (w->doom)
                return;
        w->doom = why;
        if (sd_event_add_defer(w->owner->settings.event, &w->doomed, on_doomed, w) < 0)
                set_timer(w, 0);
}

void worker_send(struct worker *w, union wire_message *m, int fd) {
        int r;

        if (w->doom || w->sock < 0)
                return;
        r = wire_send(w->sock, m, fd);
        assert(r != -EINVAL);
        if (r < 0)
                worker_doom(w, r == -EAGAIN ? FAILURE_NOT_READING : FAILURE_EXITED);
}

/* A worker of several users has what [Default] says, whoever came first; what each of them may have
 * of it is his own limit. Only connections are as many as there can be. */
static struct wire_limits hello_limits(const struct worker *w) {
        const struct workers_settings *s = &w->owner->settings;
        struct limits whole;
        struct wire_limits l;

        if (w->domain.kind == ISOLATION_UID)
                return member_limits(w->members);
        s->limits(&w->domain, &whole, s->userdata);
        l = limits_for_worker(&whole);
        l.max_connections = LIMIT_CONNECTIONS;
        return l;
}

void workers_bill(struct workers *ws) {
        for (struct worker *w = ws->first; w; w = w->next)
                members_bill(w, false);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct worker *w = userdata;

        if ((revents & EPOLLOUT) && w->state == WORKER_SERVING && !w->doom)
                tell_models(w);
        if (revents & ~(uint32_t)EPOLLOUT)
                link_dispatch(w);
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata) {
        log_event(LOG_WORKER_EXITED, (uint64_t)si->si_pid, (uint64_t)si->si_status, 0);
        return 0;
}

static int start(struct worker *w) {
        const struct workers_settings *s = &w->owner->settings;
        union wire_message hello = { .hello = {
                .h.type = WIRE_HELLO, .mode = WIRE_MODE_SERVE,
                .uid = w->members->account->id.uid, .shared = w->domain.kind != ISOLATION_UID,
                .threads = s->threads, .cpu_mask = s->cpu_mask, .kv = s->kv,
                .limits = hello_limits(w) } };
        int r = spawn_worker(s->spawn, w->slot, &w->sock, &w->pid);

        if (r < 0)
                return r;
        w->state = WORKER_STARTING;
        w->started_usec = now_monotonic();
        if (w->pid > 0)
                r = sd_event_add_child(s->event, &w->child, w->pid, WEXITED, on_child, NULL);
        if (r >= 0)
                r = sd_event_add_io(s->event, &w->io, w->sock, EPOLLIN, on_io, w);
        if (r >= 0)
                r = set_timer(w, w->started_usec + LIMIT_WORKER_START_USEC);
        if (r < 0)
                return r;
        w->owner->settings.metrics->workers_started++;
        log_event(LOG_WORKER_STARTED, w->first_uid, (uint64_t)w->pid, 0);
        worker_send(w, &hello, -1);
        return 0;
}

/* Nothing of anybody is there that could still be wanted. */
static bool idle(const struct worker *w, bool held_too) {
        for (const struct member *m = w->members; m; m = m->next)
                if (!member_idle(m, held_too))
                        return false;
        return true;
}

static void shut_down(struct worker *w) {
        union wire_message m = { .plain.h.type = WIRE_SHUTDOWN };

        log_event(LOG_WORKER_IDLE, w->first_uid, (uint64_t)w->pid, 0);
        leases_remove(w->owner->settings.leases, &w->lease);
        /* Those that are not used: they go when memory is short. */
        sessions_worker_gone(w->owner->settings.sessions, w, ERROR_OVERLOADED, "low-memory");
        w->state = WORKER_CLOSING;
        set_timer(w, now_monotonic() + LIMIT_CANCEL_USEC);
        worker_send(w, &m, -1);
}

/* Whose time is over leaves; the last one takes the worker with him. */
static void let_leave(struct worker *w) {
        uint64_t now = now_monotonic();
        struct member *next;

        for (struct member *m = w->members; m; m = next) {
                next = m->next;
                if (!member_idle(m, false) || m->idle_since == 0 || member_idle_end(m) > now)
                        continue;
                if (!w->members->next) {
                        shut_down(w);
                        return;
                }
                member_leave(m);
        }
        worker_settle(w);
}

/* One timer; what it means follows from the state. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct worker *w = userdata;
        const struct workers_settings *s = &w->owner->settings;
        int r;

        if (w->doom) {
                worker_end(w, w->doom);
                return 0;
        }
        switch (w->state) {
        case WORKER_DELAYED:
                r = start(w);
                if ((r == -EMFILE || r == -ENFILE) && w->sock < 0) {
                        s->exhausted(s->userdata);
                        r = start(w);
                }
                if (r < 0) {
                        log_event(LOG_START_FAILED, w->first_uid, (uint64_t)-r, 0);
                        worker_end(w, FAILURE_START);
                }
                break;
        case WORKER_STARTING:
        case WORKER_CLOSING:
                worker_end(w, FAILURE_TIMEOUT);
                break;
        case WORKER_SERVING:
                let_leave(w);
                break;
        }
        return 0;
}

/* Also says when the first member may leave; UINT64_MAX: none. */
static uint64_t look_who_is_idle(struct worker *w) {
        uint64_t now = now_monotonic(), next = UINT64_MAX;

        w->idle_since = now;
        for (struct member *m = w->members; m; m = m->next) {
                bool idle = member_idle(m, false);

                m->idle_since = !idle ? 0 : m->idle_since ? m->idle_since : now;
                if (idle)
                        next = MIN(next, member_idle_end(m));
                w->idle_since = idle && w->idle_since ? MIN(w->idle_since, m->idle_since) : 0;
        }
        return next;
}

void worker_settle(struct worker *w) {
        struct leases *leases = w->owner->settings.leases;
        bool background = false, interactive = false;
        uint32_t weight = members_weight(w);
        uint64_t next;

        if (w->state != WORKER_SERVING || w->doom || w->owner->stopping)
                return;
        for (const struct member *m = w->members; m; m = m->next) {
                background |= m->admission.background > 0;
                interactive |= m->admission.running > m->admission.background;
        }
        leases_set_class(leases, &w->lease,
                         background && !interactive ? LEASE_BACKGROUND : LEASE_INTERACTIVE);
        if (weight != w->lease.weight)
                leases_set_weight(leases, &w->lease, weight);
        next = look_who_is_idle(w);
        if (next == UINT64_MAX)
                sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
        else
                set_timer(w, next);
}

static void send_conn(struct worker *w, struct conn *c) {
        union wire_message m = { .conn = { .h.type = WIRE_CONN, .conn = c->id,
                                           .uid = c->charge.account->id.uid } };

        worker_send(w, &m, c->fd);
        if (w->doom)
                return; /* answered when the worker is ended */
        close(c->fd);
        c->fd = -1;
}

int worker_add_conn(struct member *m, int fd, struct charge *charge) {
        struct worker *w = m->worker;
        struct conn *c = calloc(1, sizeof(*c)), **p = &w->conns;

        if (!c)
                return -ENOMEM;
        c->id = ++w->next_conn;
        c->charge = *charge;
        charge->account = NULL;
        c->fd = fd;
        while (*p)
                p = &(*p)->next;
        *p = c;
        if (worker_is_open(w))
                send_conn(w, c);
        worker_settle(w);
        return 0;
}

static void send_job(struct worker *w, struct job *job) {
        union wire_message m = { .job = job->request };

        worker_send(w, &m, job->input);
        m = (union wire_message){ .job_output = { .h.type = WIRE_JOB_OUTPUT, .ref = job->id } };
        worker_send(w, &m, job->output);
        close(job->input);
        close(job->output);
        job->input = job->output = -1;
}

void worker_add_job(struct member *m, struct job *job) {
        struct worker *w = m->worker;

        member_take_job(m, job);
        job->request.uid = m->account->id.uid;
        admission_enter(&m->admission, &job->admission, job->request.client,
                        job->priority == WIRE_PRIORITY_BACKGROUND);
        if (worker_is_open(w))
                send_job(w, job);
        worker_settle(w);
}

static void send_no_models(struct worker *w) {
        union wire_message m = { .catalog = { .h.type = WIRE_CATALOG } };

        worker_send(w, &m, -1);
}

static void send_model(struct worker *w, uint32_t i) {
        const struct store *store = w->owner->settings.store;
        const struct store_model *model = store_get(store, i);
        union wire_message m = { .catalog = {
                .h.type = WIRE_CATALOG, .index = i, .count = store_count(store),
                .size = model->size, .created = model->created, .state = model->state,
                .flags = model == store_choose(store, "", "") ? WIRE_CATALOG_DEFAULT : 0 } };

        memcpy(m.catalog.name, model->name, sizeof(m.catalog.name));
        worker_send(w, &m, -1);
}

static void answer_wants(struct member *m) {
        char wants[MEMBER_MAX_WANTS][WIRE_NAME_MAX];
        unsigned n = m->n_wants;

        memcpy(wants, m->wants, sizeof(wants));
        m->n_wants = 0;
        for (unsigned i = 0; i < n; i++)
                link_answer_model(m, wants[i]);
}

/* All that has waited for the catalogue. */
static void open_up(struct worker *w) {
        struct job *job;

        w->open = true;
        for (struct member *m = w->members; m; m = m->next)
                member_send_holds(m);
        for (struct conn *c = w->conns; c && !w->doom; c = c->next)
                send_conn(w, c);
        for (uint32_t i = 0; (job = jobs_at(w->owner->settings.jobs, i)); i++)
                if (job->worker == w && job->input >= 0)
                        send_job(w, job);
        sessions_worker_open(w->owner->settings.sessions, w);
        counts_worker_open(w->owner->settings.counts, w);
}

static void tell_models(struct worker *w) {
        uint32_t count = store_count(w->owner->settings.store);

        if (!members_introduce(w, CATALOG_BURST))
                return;
        for (unsigned i = 0; i < CATALOG_BURST && w->catalog_next < count; i++)
                send_model(w, w->catalog_next++);
        if (w->catalog_next < count)
                return;
        if (count == 0 && w->open)
                send_no_models(w);
        sd_event_source_set_io_events(w->io, EPOLLIN);
        if (!w->open)
                open_up(w);
        for (struct member *m = w->members; m; m = m->next)
                answer_wants(m);
}

bool worker_knows_models(const struct worker *w) {
        return w->catalog_next == store_count(w->owner->settings.store);
}

static void models_changed(struct worker *w) {
        w->catalog_next = 0;
        sd_event_source_set_io_events(w->io, EPOLLIN | EPOLLOUT);
}

void worker_serve(struct worker *w) {
        w->state = WORKER_SERVING;
        for (struct member *m = w->members; m; m = m->next) {
                m->news = true; /* limits may have changed since HELLO */
                w->lease.counter = MAX(w->lease.counter, m->account->virtual_counter);
        }
        w->lease.weight = members_weight(w);
        members_introduce(w, CATALOG_BURST);
        leases_add(w->owner->settings.leases, &w->lease);
        models_changed(w);
        worker_settle(w);
}

void worker_send_admitted(struct job *job) {
        union wire_message m = { .admitted = { .h.type = WIRE_ADMITTED, .ref = job->ref,
                                               .job = job->id } };
        const struct workers_settings *s = &job->worker->owner->settings;
        const struct store_model *model = store_find(s->store, job->model);

        receipt_key_of(s->receipt_secret, job->uid, m.admitted.receipt_key);
        if (model)
                memcpy(m.admitted.model_digest, model->digest, sizeof(m.admitted.model_digest));
        job->started_usec = now_realtime();
        queue_started(job->member);
        worker_send(job->worker, &m, -1);
}

/* Jobs that wait and now may run. */
static void start_waiting(struct member *m) {
        struct admission_entry *e;

        while ((e = admission_next(&m->admission, member_max_running(m))))
                worker_send_admitted((struct job *)((char *)e - offsetof(struct job, admission)));
        queue_tell(m);
        worker_settle(m->worker);
}

void worker_job_ended(struct job *job, enum error_code error, uint64_t value, uint64_t limit,
                      const struct wire_done *done) {
        struct member *m = job->member;

        queue_ended(job, done);
        if (done && job_detached(job) && error != ERROR_CANCELLED && error != ERROR_STOPPING) {
                job->keeper = m;
                m->kept++;
        }
        admission_leave(&m->admission, &job->admission);
        job_end(job, error, value, limit, done);
        member_send_rates(m);
        start_waiting(m);
}

void worker_discard(struct job *job) {
        union wire_message m = { .discard = { .h.type = WIRE_DISCARD, .job = job->id } };
        struct member *keeper = TAKE_PTR(job->keeper);

        keeper->kept--;
        worker_send(keeper->worker, &m, -1);
        worker_settle(keeper->worker);
}

void worker_set_priority(struct job *job, enum wire_priority priority) {
        union wire_message m = { .set_priority = { .h.type = WIRE_SET_PRIORITY, .job = job->id,
                                                   .priority = priority } };

        job->priority = priority;
        job->request.priority = priority;
        admission_set_background(&job->member->admission, &job->admission,
                                 priority == WIRE_PRIORITY_BACKGROUND);
        if (job->input < 0)
                worker_send(job->worker, &m, -1);
        start_waiting(job->member); /* there may be room for one of its new class, or of its old */
}

void worker_hung_up(struct worker *w) {
        bool expected = w->state == WORKER_CLOSING || w->owner->stopping;

        worker_end(w, expected ? FAILURE_NONE : FAILURE_EXITED);
}

static void unlink_worker(struct worker *w) {
        struct worker **p = &w->owner->first;

        while (*p != w)
                p = &(*p)->next;
        *p = w->next;
        w->owner->count--;
}

static void record_end(struct worker *w, enum worker_failure why) {
        bool well = why == FAILURE_NONE || why == FAILURE_STOPPED;
        uint64_t now = now_monotonic();

        if (well && w->started_usec)
                log_event(LOG_WORKER_ENDED, w->first_uid, (uint64_t)w->pid, w->lease.charged);
        if (!well) {
                w->owner->settings.metrics->workers_failed++;
                log_event(LOG_WORKER_FAILED, w->first_uid, (uint64_t)w->pid, why);
        }
        for (struct member *m = w->members; m; m = m->next)
                if (well)
                        start_ended_well(m->account);
                else
                        start_crashed(m->account, now, w->started_usec ? now - w->started_usec : 0);
}

/* A connection the worker never got, because it was dying, goes to the next one; one that waited
 * for a worker that never served is answered. */
static bool pass_on(struct worker *w, struct conn *c, enum worker_failure why) {
        struct member *next;

        return w->state == WORKER_SERVING && why != FAILURE_STOPPED && !w->owner->stopping &&
               workers_get(w->owner, c->charge.account, &next) == 0 &&
               worker_add_conn(next, c->fd, &c->charge) == 0;
}

static void end_conns(struct worker *w, enum worker_failure why) {
        while (w->conns) {
                struct conn *c = w->conns;

                w->conns = c->next;
                if (c->fd >= 0 && !pass_on(w, c, why))
                        w->owner->settings.unavailable(c->fd, w->owner->settings.userdata);
                charge_done(&c->charge);
                free(c);
        }
}

/* What it keeps goes with it. */
static void lose_results(struct worker *w) {
        struct job *job;

        for (uint32_t i = 0; (job = jobs_at(w->owner->settings.jobs, i)); i++)
                if (job->keeper && job->keeper->worker == w)
                        job->keeper = NULL;
}

static enum error_code error_of_end(const struct worker *w, enum worker_failure why) {
        return w->owner->stopping || why == FAILURE_STOPPED ? ERROR_STOPPING
               : why == FAILURE_START                       ? ERROR_UNAVAILABLE
                                                            : ERROR_WORKER_FAILED;
}

static void end_jobs(struct worker *w, enum error_code error) {
        struct job *job;

        while ((job = jobs_of_worker(w->owner->settings.jobs, w))) {
                if (error == ERROR_WORKER_FAILED)
                        log_event(LOG_JOB_LOST, job->uid, job->id, job->verb);
                admission_leave(&job->member->admission, &job->admission);
                job_end(job, error, 0, 0, NULL);
        }
}

/* The child's event source outlives the worker: it reaps the process when it is gone. */
static void end_process(struct worker *w) {
        if (w->sock >= 0)
                close(w->sock);
        /* By pidfd: a process that was reaped a moment ago has no number any more. */
        if (w->child)
                sd_event_source_send_child_signal(w->child, SIGKILL, NULL, 0);
        else if (w->pid > 0)
                kill(w->pid, SIGKILL);
        if (w->child) {
                sd_event_source_set_floating(w->child, 1);
                w->child = sd_event_source_unref(w->child);
        }
}

/* A worker that is ended, or ends itself, does not take the past of its users with it. */
static void leave_accounts(struct worker *w) {
        members_bill(w, true);
        for (struct member *m = w->members; m; m = m->next)
                m->account->virtual_counter = MAX(m->account->virtual_counter, w->lease.counter);
}

void worker_end(struct worker *w, enum worker_failure why) {
        enum error_code error = error_of_end(w, why);
        struct workers *owner = w->owner;

        record_end(w, why);
        unlink_worker(w);
        leases_remove(w->owner->settings.leases, &w->lease);
        leave_accounts(w);
        sd_event_source_disable_unref(w->io);
        sd_event_source_disable_unref(w->timer);
        sd_event_source_disable_unref(w->doomed);
        end_process(w);
        lose_results(w);
        end_jobs(w, error);
        sessions_worker_gone(owner->settings.sessions, w, error,
                             error == ERROR_STOPPING ? "stopping" : "worker-failed");
        counts_worker_gone(owner->settings.counts, w, error);
        end_conns(w, why);
        while (w->members)
                member_free(w->members);
        free(w);
        if (owner->stopping && !owner->first && owner->settings.all_gone)
                owner->settings.all_gone(owner->settings.userdata);
}

/* Those that serve end by themselves when their clients have their answers. */
void workers_shut_down(struct workers *ws) {
        union wire_message m = { .plain.h.type = WIRE_SHUTDOWN };
        struct worker *next;

        for (struct worker *w = ws->first; w; w = next) {
                next = w->next;
                if (w->state == WORKER_DELAYED || w->state == WORKER_STARTING)
                        worker_end(w, FAILURE_STOPPED);
                else if (w->state == WORKER_SERVING)
                        worker_send(w, &m, -1);
        }
}

void workers_models_changed(struct workers *ws) {
        for (struct worker *w = ws->first; w; w = w->next)
                if (w->state == WORKER_SERVING)
                        models_changed(w);
}

void workers_limits_changed(struct workers *ws) {
        for (struct worker *w = ws->first; w; w = w->next) {
                if (w->state != WORKER_SERVING)
                        continue;
                members_have_news(w);
                members_introduce(w, CATALOG_BURST);
                sd_event_source_set_io_events(w->io, EPOLLIN | EPOLLOUT); /* for more of them */
                for (struct member *m = w->members; m; m = m->next)
                        start_waiting(m); /* more may run now */
        }
}

void workers_drop_caches(struct workers *ws) {
        union wire_message m = { .plain.h.type = WIRE_DROP_CACHES };

        for (struct worker *w = ws->first; w; w = w->next)
                if (w->state == WORKER_SERVING)
                        worker_send(w, &m, -1);
}

void workers_end_idle(struct workers *ws, bool held_too) {
        for (struct worker *w = ws->first; w; w = w->next)
                if (w->state == WORKER_SERVING && !w->doom && !ws->stopping &&
                    idle(w, held_too))
                        shut_down(w);
}

bool workers_use_model(const struct workers *ws, const char *name) {
        for (const struct worker *w = ws->first; w; w = w->next)
                if (w->resident.models > 1 ||
                    (w->resident.models == 1 && strcmp(w->resident.name, name) == 0))
                        return true;
        return false;
}
