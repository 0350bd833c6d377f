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
        log_event(LOG_WORKER_READY, w->first_uid, (uint64_t)w->pid, m->ready.landlock_abi);
        worker_serve(w);
        return 0;
}

void link_refuse_model(struct worker *w, uint32_t uid, const char *asked) {
        union wire_message m = { .model = { .h.type = WIRE_MODEL, .uid = uid,
                                            .error = ERROR_NOT_AUTHORIZED } };

        snprintf(m.model.asked, WIRE_NAME_MAX, "%s", asked);
        snprintf(m.model.name, WIRE_NAME_MAX, "%s", *asked ? asked : "none");
        worker_send(w, &m, -1);
}

void link_answer_model(struct member *member, const char *asked) {
        struct worker *w = member->worker;
        const struct store_model *model = member_model(member, asked);
        union wire_message m = { .model = { .h.type = WIRE_MODEL,
                                            .uid = member->account->id.uid } };

        if (model && worker_knows_models(w))
                store_wanted(workers_settings(w->owner)->store, model);
        /* Later; beyond that many the answer is that it is loading. */
        if (model && (model->state == ERROR_MODEL_LOADING || !worker_knows_models(w)) &&
            member->n_wants < MEMBER_MAX_WANTS) {
                snprintf(member->wants[member->n_wants++], WIRE_NAME_MAX, "%s", asked);
                return;
        }
        /* A worker could ask for one model and run another: it gets none that is not allowed. */
        if (model && !limits_allow_model(&member->account->limits, model->name)) {
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
        struct member *member = member_of_uid(w, m->want_model.uid);

        if (member)
                link_answer_model(member, m->want_model.name);
        else
                link_refuse_model(w, m->want_model.uid, m->want_model.name); /* he has left */
        return 0;
}

static int refuse(struct member *member, uint64_t ref, uint32_t verb,
                  const struct refusal *why) {
        struct worker *w = member->worker;
        union wire_message m = { .refused = { .h.type = WIRE_REFUSED, .ref = ref,
                                              .error = why->code,
                                              .retry_after_ms = why->retry_after_ms,
                                              .value = why->value, .limit = why->limit } };

        workers_settings(w->owner)->metrics->refusals[why->code]++;
        log_refused(member->account->id.uid, verb, ref & WIRE_REF_WORKER ? 0 : ref, why->code);
        member_send_rates(member);
        worker_send(w, &m, -1);
        return 0;
}

/* Whose connection that is, which the worker has; NULL: nobody's. */
static struct member *of_conn(const struct worker *w, uint64_t id) {
        for (const struct conn *c = w->conns; c; c = c->next)
                if (c->id == id)
                        return c->fd < 0 ? member_find(w, c->charge.account) : NULL;
        return NULL;
}

/* A job from HTTP gets its place in the table now. 0, positive: refused, or negative. */
static int adopt(struct member *m, const struct wire_admit *a, struct job **ret,
                 struct refusal *ret_refusal) {
        const struct workers_settings *s = workers_settings(m->worker->owner);
        struct job *job;
        int r;

        r = jobs_add(s->jobs, m->account, &job, ret_refusal);
        if (r != 0) {
                if (r < 0)
                        *ret_refusal = (struct refusal){ .code = ERROR_OVERLOADED };
                ret_refusal->retry_after_ms = queue_retry_ms(m);
                return r;
        }
        job->ref = a->ref;
        job->verb = (enum wire_verb)a->verb;
        job->priority = (enum wire_priority)a->priority;
        member_take_job(m, job);
        admission_enter(&m->admission, &job->admission, a->conn,
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
static bool check_context(const struct member *m, const struct wire_admit *a,
                          struct refusal *ret) {
        uint64_t limit = m->account->limits.v[QUOTA_MAX_CONTEXT_TOKENS];

        if (!is_one_prompt(a->verb) ||
            (a->tokens_in <= limit && a->tokens_wanted <= limit - a->tokens_in))
                return true;
        *ret = (struct refusal){ .code = ERROR_CONTEXT_TOO_LONG, .value = a->tokens_in,
                                 .limit = limit };
        return false;
}

/* What can be said without the job. False: *ret says why it is refused. a->priority may change. */
static bool check_admit(const struct member *m, struct wire_admit *a, struct refusal *ret) {
        uint64_t max_bytes = m->account->limits.v[QUOTA_MAX_INPUT_BYTES];

        *ret = (struct refusal){ .code = ERROR_STOPPING };
        if (workers_stopping(m->worker->owner))
                return false;
        ret->code = member_allows(m, a->verb, a->model, &a->priority);
        if (ret->code != ERROR_NONE)
                return false;
        if (a->input_bytes > max_bytes)
                *ret = (struct refusal){ .code = ERROR_INPUT_TOO_LARGE, .value = a->input_bytes,
                                         .limit = max_bytes };
        return a->input_bytes <= max_bytes && check_context(m, a, ret);
}

/* Tokens are reserved for every job here; a job from the bus was counted as a request when it was
 * submitted and is in the table already. False: refused, and nothing is taken. */
static bool charge_admit(struct member *m, const struct wire_admit *a, struct job **job,
                         struct refusal *ret) {
        uint64_t tokens = quota_cost(a->tokens_in, 0, a->tokens_wanted);
        struct reservation reservation = {};
        bool http = !*job;

        members_bill(m->worker, false);
        if (http && !account_request(m->account, ret))
                return false;
        if (account_reserve(m->account, tokens, &reservation, ret)) {
                if (!http || adopt(m, a, job, ret) == 0) {
                        (*job)->reservation = reservation;
                        return true;
                }
                account_settle(m->account, &reservation, 0);
        }
        if (http)
                account_take_back_request(m->account);
        return false;
}

static void answer_admit(struct job *job) {
        struct member *m = job->member;

        member_send_rates(m);
        if (admission_ready(&m->admission, &job->admission, member_max_running(m)))
                worker_send_admitted(job);
        else
                queue_tell(m); /* this one, and those behind it */
        worker_settle(m->worker);
}

/* What is only counted costs a request and leaves nothing here. */
static int pass_count(struct member *member, const struct wire_admit *a) {
        union wire_message m = { .passed = { .h.type = WIRE_PASSED, .ref = a->ref } };
        struct refusal refusal;

        if (!account_request(member->account, &refusal))
                return refuse(member, a->ref, a->verb, &refusal);
        member_send_rates(member);
        worker_send(member->worker, &m, -1);
        return 0;
}

static int on_admit(struct worker *w, const union wire_message *m) {
        struct wire_admit a = m->admit;
        struct job *job = jobs_find_ref(workers_settings(w->owner)->jobs, w, a.ref);
        bool http = a.ref & WIRE_REF_WORKER;
        struct member *member = http ? of_conn(w, a.conn) : job ? job->member : NULL;
        struct refusal refusal;

        if (http ? job || !member
                 : !job || job->input >= 0 || job->admission.state != ADMISSION_ENTERED ||
                           job->verb != a.verb)
                return -EBADMSG;
        if (!check_admit(member, &a, &refusal))
                return refuse(member, a.ref, a.verb, &refusal);
        if (a.count)
                return pass_count(member, &a);
        if (!charge_admit(member, &a, &job, &refusal))
                return refuse(member, a.ref, a.verb, &refusal);
        snprintf(job->model, sizeof(job->model), "%s", member_model(member, a.model)->name);
        job->progress.tokens_in = a.tokens_in;
        job->progress.bytes_in = a.input_bytes;
        job->tokens_wanted = a.tokens_wanted;
        job->promised = quota_cost(a.tokens_in, 0, a.tokens_wanted);
        answer_admit(job);
        return 0;
}

static int on_progress(struct worker *w, const union wire_message *m) {
        struct job *job = jobs_find(workers_settings(w->owner)->jobs, m->progress.job);

        if (!job || job->worker != w || job->input >= 0 || m->progress.state >= WIRE_STATE_DONE)
                return -EBADMSG;
        queue_progress(job, &m->progress);
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
        worker_job_ended(job, (enum error_code)d->error, d->value, d->limit, d);
        return 0;
}

static int on_used(struct worker *w, const union wire_message *m) {
        leases_used(workers_settings(w->owner)->leases, &w->lease,
                    m->used.flags & WIRE_USED_WANT, m->used.flags & WIRE_USED_STOPPED,
                    m->used.seq);
        members_bill(w, true);
        return 0;
}

/* The worker's word, and only about how the charge is divided. */
static int on_shares(struct worker *w, const union wire_message *m) {
        for (uint32_t i = 0; i < m->shares.n; i++) {
                struct member *member = member_of_uid(w, m->shares.list[i].uid);

                if (member)
                        member->said_usec += m->shares.list[i].usec;
        }
        return 0;
}

static int on_fault(struct worker *w, const union wire_message *m) {
        if (++w->faults > LIMIT_FAULTS) {
                worker_doom(w, FAILURE_FLOOD);
                return 0;
        }
        log_event(LOG_WORKER_FAULT, w->first_uid, (uint64_t)w->pid, m->fault.code);
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
        uint64_t most = 0;

        for (const struct member *i = w->members; i; i = i->next) {
                const uint64_t *v = i->account->limits.v;

                most = MAX(most, MAX(v[QUOTA_MAX_KEEP_ALIVE_SEC], v[QUOTA_MODEL_IDLE_SEC]));
        }
        w->resident = m->resident;
        w->keep_until = now_monotonic() + MIN(m->resident.keep_usec, most * 1000000);
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
        { WIRE_SHARES, SERVING, on_shares },
        { WIRE_CONN_CLOSED, SERVING, on_conn_closed },
        { WIRE_SESSION, SERVING, on_session },
        { WIRE_COUNTED, SERVING, on_counted },
        { WIRE_RESIDENT, SERVING, on_resident },
        { WIRE_REFUSALS, SERVING | CLOSING, on_refusals },
        { WIRE_WANT_MODEL, CLOSING, on_late },
        { WIRE_USED, CLOSING, on_late },
        { WIRE_SESSION, CLOSING, on_late },
        { WIRE_SHARES, CLOSING, on_late },
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
