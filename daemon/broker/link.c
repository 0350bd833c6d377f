/* What a worker may say, and when. Everything it says is hostile: the framing has checked length
 * and ranges, the table below checks the state, and each handler checks that what is named belongs
 * to this worker. A handler returns 0, or -EBADMSG, which ends the worker. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/counts.h"
#include "daemon/broker/link.h"
#include "daemon/broker/log.h"
#include "daemon/broker/metrics.h"
#include "daemon/broker/queue.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

static int on_ready(struct worker *w, const union wire_message *m) {
        if (m->ready.seccomp != SPAWN_SECCOMP) {
                worker_doom(w, FAILURE_SANDBOX);
                return 0;
        }
        log_event(LOG_WORKER_READY, w->account->id.uid, (uint64_t)w->pid, m->ready.landlock_abi);
        worker_serve(w);
        return 0;
}

void link_answer_model(struct worker *w, const char *asked) {
        const struct store_model *model = worker_model(w, asked);
        union wire_message m = { .model = { .h.type = WIRE_MODEL } };

        if (model && worker_knows_models(w))
                store_wanted(workers_settings(w->owner)->store, model);
        /* Later; beyond that many the answer is that it is loading. */
        if (model && (model->state == ERROR_MODEL_LOADING || !worker_knows_models(w)) &&
            w->n_wants < WORKER_MAX_WANTS) {
                snprintf(w->wants[w->n_wants++], WIRE_NAME_MAX, "%s", asked);
                return;
        }
        /* A worker could ask for one model and run another: it gets none that is not allowed. */
        if (model && !limits_allow_model(&w->account->limits, model->name)) {
                m.model.error = ERROR_NOT_AUTHORIZED;
                model = NULL;
        } else {
                m.model.error = !model                   ? ERROR_MODEL_NOT_FOUND
                                : worker_knows_models(w) ? model->state
                                                         : ERROR_MODEL_LOADING;
        }
        snprintf(m.model.asked, WIRE_NAME_MAX, "%s", asked);
        snprintf(m.model.name, WIRE_NAME_MAX, "%s", model ? model->name : *asked ? asked : "none");
        if (model) {
                m.model.model_error = model->model_error;
                m.model.position = model->position;
                m.model.value = model->value;
                m.model.limit = model->limit;
        }
        worker_send(w, &m, m.model.error == ERROR_NONE ? model->packed : -1);
}

static int on_want_model(struct worker *w, const union wire_message *m) {
        link_answer_model(w, m->want_model.name);
        return 0;
}

static int refuse(struct worker *w, uint64_t ref, uint32_t verb, const struct refusal *why) {
        union wire_message m = { .refused = { .h.type = WIRE_REFUSED, .ref = ref,
                                              .error = why->code,
                                              .retry_after_ms = why->retry_after_ms,
                                              .value = why->value, .limit = why->limit } };

        workers_settings(w->owner)->metrics->refusals[why->code]++;
        log_refused(w->account->id.uid, verb, ref & WIRE_REF_WORKER ? 0 : ref, why->code);
        worker_send_rates(w);
        worker_send(w, &m, -1);
        return 0;
}

static bool has_conn(const struct worker *w, uint64_t id) {
        for (const struct conn *c = w->conns; c; c = c->next)
                if (c->id == id)
                        return c->fd < 0;
        return false;
}

/* A job from HTTP gets its place in the table now. 0, positive: refused, or negative. */
static int adopt(struct worker *w, const struct wire_admit *a, struct job **ret,
                 struct refusal *ret_refusal) {
        const struct workers_settings *s = workers_settings(w->owner);
        struct job *job;
        int r;

        r = jobs_add(s->jobs, w->account, &job, ret_refusal);
        if (r != 0) {
                if (r < 0)
                        *ret_refusal = (struct refusal){ .code = ERROR_OVERLOADED };
                ret_refusal->retry_after_ms = queue_retry_ms(w);
                return r;
        }
        job->ref = a->ref;
        job->verb = (enum wire_verb)a->verb;
        job->priority = (enum wire_priority)a->priority;
        job->worker = w;
        admission_enter(&w->admission, &job->admission, a->conn,
                        job->priority == WIRE_PRIORITY_BACKGROUND);
        *ret = job;
        return 0;
}

/* Is everything that is counted in one prompt? Not what may be read in pieces, nor texts and
 * labels, which the worker looks at one by one. */
static bool is_one_prompt(uint32_t verb) {
        return verb == WIRE_VERB_CHAT || verb == WIRE_VERB_COMPLETE || verb == WIRE_VERB_EXTRACT;
}

/* Room in the context. The worker has made its answer fit. */
static bool check_context(const struct worker *w, const struct wire_admit *a,
                          struct refusal *ret) {
        uint64_t limit = w->account->limits.v[QUOTA_MAX_CONTEXT_TOKENS];

        if (!is_one_prompt(a->verb) ||
            (a->tokens_in <= limit && a->tokens_wanted <= limit - a->tokens_in))
                return true;
        *ret = (struct refusal){ .code = ERROR_CONTEXT_TOO_LONG, .value = a->tokens_in,
                                 .limit = limit };
        return false;
}

/* What can be said without the job. False: *ret says why it is refused. a->priority may change. */
static bool check_admit(const struct worker *w, struct wire_admit *a, struct refusal *ret) {
        uint64_t max_bytes = w->account->limits.v[QUOTA_MAX_INPUT_BYTES];

        *ret = (struct refusal){ .code = ERROR_STOPPING };
        if (workers_stopping(w->owner))
                return false;
        ret->code = worker_allows(w, a->verb, a->model, &a->priority);
        if (ret->code != ERROR_NONE)
                return false;
        if (a->input_bytes > max_bytes)
                *ret = (struct refusal){ .code = ERROR_INPUT_TOO_LARGE, .value = a->input_bytes,
                                         .limit = max_bytes };
        return a->input_bytes <= max_bytes && check_context(w, a, ret);
}

/* Tokens are reserved for every job here; a job from the bus was counted as a request when it was
 * submitted and is in the table already. False: refused, and nothing is taken. */
static bool charge_admit(struct worker *w, const struct wire_admit *a, struct job **job,
                         struct refusal *ret) {
        uint64_t tokens = quota_cost(a->tokens_in, 0, a->tokens_wanted);
        struct reservation reservation = {};
        bool http = !*job;

        worker_bill(w);
        if (http && !account_request(w->account, ret))
                return false;
        if (account_reserve(w->account, tokens, &reservation, ret)) {
                if (!http || adopt(w, a, job, ret) == 0) {
                        (*job)->reservation = reservation;
                        return true;
                }
                account_settle(w->account, &reservation, 0);
        }
        if (http)
                account_take_back_request(w->account);
        return false;
}

static void answer_admit(struct worker *w, struct job *job) {
        worker_send_rates(w);
        if (admission_ready(&w->admission, &job->admission, worker_max_running(w)))
                worker_send_admitted(w, job);
        else
                queue_tell(w); /* this one, and those behind it */
        worker_settle(w);
}

/* What is only counted costs a request and leaves nothing here. */
static int pass_count(struct worker *w, const struct wire_admit *a) {
        union wire_message m = { .passed = { .h.type = WIRE_PASSED, .ref = a->ref } };
        struct refusal refusal;

        if (!account_request(w->account, &refusal))
                return refuse(w, a->ref, a->verb, &refusal);
        worker_send_rates(w);
        worker_send(w, &m, -1);
        return 0;
}

static int on_admit(struct worker *w, const union wire_message *m) {
        struct wire_admit a = m->admit;
        struct job *job = jobs_find_ref(workers_settings(w->owner)->jobs, w, a.ref);
        bool http = a.ref & WIRE_REF_WORKER;
        struct refusal refusal;

        if (http ? job || !has_conn(w, a.conn)
                 : !job || job->input >= 0 || job->admission.state != ADMISSION_ENTERED ||
                           job->verb != a.verb)
                return -EBADMSG;
        if (!check_admit(w, &a, &refusal))
                return refuse(w, a.ref, a.verb, &refusal);
        if (a.count)
                return pass_count(w, &a);
        if (!charge_admit(w, &a, &job, &refusal))
                return refuse(w, a.ref, a.verb, &refusal);
        snprintf(job->model, sizeof(job->model), "%s", worker_model(w, a.model)->name);
        job->progress.tokens_in = a.tokens_in;
        job->progress.bytes_in = a.input_bytes;
        job->tokens_wanted = a.tokens_wanted;
        job->promised = quota_cost(a.tokens_in, 0, a.tokens_wanted);
        answer_admit(w, job);
        return 0;
}

static int on_progress(struct worker *w, const union wire_message *m) {
        struct job *job = jobs_find(workers_settings(w->owner)->jobs, m->progress.job);

        if (!job || job->worker != w || job->input >= 0 || m->progress.state >= WIRE_STATE_DONE)
                return -EBADMSG;
        queue_progress(w, job, &m->progress);
        job->progress = m->progress;
        job->state = (enum wire_job_state)m->progress.state;
        job_progressed(job);
        return 0;
}

static int on_done(struct worker *w, const union wire_message *m) {
        struct jobs *jobs = workers_settings(w->owner)->jobs;
        const struct wire_done *d = &m->done;
        struct job *job = jobs_find_ref(jobs, w, d->job);

        if (!job && (d->job & WIRE_REF_WORKER))
                return 0; /* it was refused and never had a place in the table */
        if (!job || job->input >= 0)
                return -EBADMSG;
        if (d->error == ERROR_NONE && job->admission.state != ADMISSION_RUNNING)
                return -EBADMSG;
        worker_job_ended(w, job, (enum error_code)d->error, d->value, d->limit, d);
        return 0;
}

static int on_used(struct worker *w, const union wire_message *m) {
        leases_used(workers_settings(w->owner)->leases, &w->lease,
                    m->used.flags & WIRE_USED_WANT, m->used.flags & WIRE_USED_STOPPED,
                    m->used.seq);
        worker_bill(w);
        return 0;
}

static int on_fault(struct worker *w, const union wire_message *m) {
        if (++w->faults > LIMIT_FAULTS) {
                worker_doom(w, FAILURE_FLOOD);
                return 0;
        }
        log_event(LOG_WORKER_FAULT, w->account->id.uid, (uint64_t)w->pid, m->fault.code);
        return 0;
}

static int on_conn_closed(struct worker *w, const union wire_message *m) {
        for (struct conn **p = &w->conns; *p; p = &(*p)->next) {
                struct conn *c = *p;

                if (c->id != m->conn_closed.conn || c->fd >= 0)
                        continue;
                *p = c->next;
                charge_done(&c->charge);
                free(c);
                worker_settle(w);
                return 0;
        }
        return -EBADMSG;
}

/* Numbers to be shown, and a wish for time, which has a limit of its own. */
static int on_resident(struct worker *w, const union wire_message *m) {
        uint64_t most = w->account->limits.v[QUOTA_MAX_KEEP_ALIVE_SEC] * 1000000;
        uint64_t idle = w->account->limits.v[QUOTA_MODEL_IDLE_SEC] * 1000000;

        w->resident = m->resident;
        w->keep_until = now_monotonic() + MIN(m->resident.keep_usec, MAX(most, idle));
        worker_settle(w);
        return 0;
}

static int on_session(struct worker *w, const union wire_message *m) {
        return sessions_event(workers_settings(w->owner)->sessions, w, &m->session);
}

static int on_counted(struct worker *w, const union wire_message *m) {
        return counts_event(workers_settings(w->owner)->counts, w, &m->counted);
}

/* As information: sums of everybody, which only grow. */
static int on_refusals(struct worker *w, const union wire_message *m) {
        uint64_t *sums = workers_settings(w->owner)->metrics->worker_refusals;

        for (unsigned e = 0; e < _ERROR_MAX; e++)
                sums[e] += m->refusals.counts[e];
        return 0;
}

/* SHUTDOWN crossed it on the way. */
static int on_late(struct worker *w, const union wire_message *m) {
        return 0;
}

#define STARTING (1U << WORKER_STARTING)
#define SERVING  (1U << WORKER_SERVING)
#define CLOSING  (1U << WORKER_CLOSING)

static const struct rule {
        uint32_t type;
        unsigned states;
        int (*handle)(struct worker *w, const union wire_message *m);
} rules[] = {
        { WIRE_READY, STARTING, on_ready },
        { WIRE_FAULT, STARTING | SERVING | CLOSING, on_fault },
        { WIRE_WANT_MODEL, SERVING, on_want_model },
        { WIRE_ADMIT, SERVING, on_admit },
        { WIRE_PROGRESS, SERVING, on_progress },
        { WIRE_DONE, SERVING, on_done },
        { WIRE_USED, SERVING, on_used },
        { WIRE_CONN_CLOSED, SERVING, on_conn_closed },
        { WIRE_SESSION, SERVING, on_session },
        { WIRE_COUNTED, SERVING, on_counted },
        { WIRE_RESIDENT, SERVING, on_resident },
        { WIRE_REFUSALS, SERVING | CLOSING, on_refusals },
        { WIRE_WANT_MODEL, CLOSING, on_late },
        { WIRE_USED, CLOSING, on_late },
        { WIRE_RESIDENT, CLOSING, on_late },
};

static int handle(struct worker *w, const union wire_message *m) {
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
                if (rules[i].type == m->h.type && rules[i].states & 1U << w->state)
                        return rules[i].handle(w, m);
        return -EBADMSG;
}

static bool flooding(struct worker *w) {
        uint64_t second = now_monotonic() / 1000000;

        if (second != w->second) {
                w->second = second;
                w->messages = 0;
        }
        return ++w->messages > LIMIT_MESSAGES_PER_SEC;
}

void link_dispatch(struct worker *w) {
        union wire_message m;
        _cleanup_close_ int fd = -1;
        int r = wire_receive(w->sock, &m, &fd);

        if (r == -EAGAIN || w->doom)
                return;
        if (r == -ECONNRESET)
                worker_hung_up(w);
        else if (r < 0)
                worker_end(w, FAILURE_ILLEGAL);
        else if (flooding(w))
                worker_end(w, FAILURE_FLOOD);
        else if (handle(w, &m) < 0)
                worker_end(w, FAILURE_ILLEGAL);
}
