/* Members belong to their worker's list. One comes with the first thing that somebody brings to the
 * worker and goes with the worker, or when others keep that busy after his own time without work.
 * Invariant: what is billed to all members together is exactly what the lease was charged. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/counts.h"
#include "daemon/broker/link.h"
#include "daemon/broker/member.h"
#include "daemon/broker/worker.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

/* Said times and charges are divided in parts that cannot overflow. */
#define SAID_MOST (UINT64_C(1) << 30)
#define BILL_MOST (UINT64_C(1) << 24)

static const struct workers_settings *modules(const struct member *m) {
        return workers_settings(m->worker->owner);
}

struct member *member_find(const struct worker *w, const struct account *account) {
        struct member *m = w->members;

        while (m && m->account != account)
                m = m->next;
        return m;
}

struct member *member_of_uid(const struct worker *w, uid_t uid) {
        struct member *m = w->members;

        while (m && m->account->id.uid != uid)
                m = m->next;
        return m;
}

int member_new(struct member **ret, struct worker *w, struct account *account) {
        struct member *m = calloc(1, sizeof(*m)), **p = &w->members;

        if (!m)
                return -ENOMEM;
        members_bill(w, true); /* he pays for nothing that was before him */
        m->worker = w;
        m->account = account_ref(account);
        while (*p)
                p = &(*p)->next;
        *p = m;
        if (w->state == WORKER_SERVING)
                member_introduce(m);
        member_send_holds(m);
        *ret = m;
        return 0;
}

struct member *member_free(struct member *m) {
        struct member **p = &m->worker->members;

        assert(m->jobs == 0);
        while (*p != m)
                p = &(*p)->next;
        *p = m->next;
        account_unref(m->account);
        free(m);
        return NULL;
}

void member_leave(struct member *m) {
        struct worker *w = m->worker;
        union wire_message gone = { .user_gone = { .h.type = WIRE_USER_GONE,
                                                   .uid = m->account->id.uid } };

        members_bill(w, true);
        /* The worker asks once, and would wait for these still when he comes again. */
        for (unsigned i = 0; i < m->n_wants; i++)
                link_refuse_model(w, m->account->id.uid, m->wants[i]);
        worker_send(w, &gone, -1);
        member_free(m);
}

void member_take_job(struct member *m, struct job *job) {
        job->worker = m->worker;
        job->member = m;
        m->jobs++;
}

static bool has_conns(const struct member *m) {
        for (const struct conn *c = m->worker->conns; c; c = c->next)
                if (c->charge.account == m->account)
                        return true;
        return false;
}

bool member_idle(const struct member *m, bool held_too) {
        if (m->kept > 0 || m->jobs > 0 || has_conns(m) ||
            counts_of_worker(modules(m)->counts, m->worker, m->account))
                return false;
        return held_too || (!holds_has(modules(m)->holds, m->account, NULL) &&
                            !sessions_of_worker(modules(m)->sessions, m->worker, m->account));
}

uint64_t member_idle_end(const struct member *m) {
        uint64_t end = m->idle_since + m->account->limits.v[QUOTA_IDLE_TIMEOUT_SEC] * 1000000;

        return m->worker->members->next ? end : MAX(end, m->worker->keep_until);
}

/* --- what he may --- */

struct wire_limits limits_for_worker(const struct limits *l) {
        const uint64_t *v = l->v;
        uint64_t context = v[QUOTA_MAX_CONTEXT_TOKENS];

        return (struct wire_limits){
                .max_input_bytes = v[QUOTA_MAX_INPUT_BYTES], .kv_bytes = v[QUOTA_KV_BYTES],
                .max_output_tokens = (uint32_t)v[QUOTA_MAX_OUTPUT_TOKENS],
                .max_connections = (uint32_t)v[QUOTA_MAX_CONNECTIONS],
                .max_sequences = (uint32_t)v[QUOTA_MAX_SEQUENCES],
                .idle_timeout_ms = (uint32_t)v[QUOTA_CONNECTION_IDLE_SEC] * 1000,
                .max_context_tokens = context == QUOTA_INFINITY ? 0 : (uint32_t)context,
                .model_idle_sec = (uint32_t)v[QUOTA_MODEL_IDLE_SEC],
                .max_keep_sec = (uint32_t)v[QUOTA_MAX_KEEP_ALIVE_SEC],
                .weight = (uint32_t)v[QUOTA_WEIGHT],
        };
}

struct wire_limits member_limits(const struct member *m) {
        return limits_for_worker(&m->account->limits);
}

static struct wire_rate wire_rate(const struct bucket *b) {
        return (struct wire_rate){ b->per_minute, b->level, b->debt };
}

void member_send_rates(struct member *m) {
        const struct quota *q = account_quota(m->account);
        union wire_message rates = { .rates = { .h.type = WIRE_RATES, .uid = m->account->id.uid,
                                                .requests = wire_rate(&q->requests),
                                                .tokens = wire_rate(&q->tokens) } };

        if (m->worker->state == WORKER_SERVING && !m->news)
                worker_send(m->worker, &rates, -1);
}

void member_introduce(struct member *m) {
        union wire_message limits = { .set_limits = { .h.type = WIRE_SET_LIMITS,
                                                      .uid = m->account->id.uid,
                                                      .limits = member_limits(m) } };

        snprintf(limits.set_limits.default_model, WIRE_NAME_MAX, "%s",
                 limits_text(&m->account->limits, QUOTA_DEFAULT_MODEL));
        worker_send(m->worker, &limits, -1);
        m->news = false;
        member_send_rates(m);
}

void members_have_news(struct worker *w) {
        for (struct member *m = w->members; m; m = m->next)
                m->news = true;
}

bool members_introduce(struct worker *w, unsigned most) {
        for (struct member *m = w->members; m; m = m->next) {
                if (m->news && most-- == 0)
                        return false;
                if (m->news)
                        member_introduce(m);
        }
        return true;
}

const struct store_model *member_model(const struct member *m, const char *name) {
        return store_choose(modules(m)->store,
                            limits_text(&m->account->limits, QUOTA_DEFAULT_MODEL), name);
}

/* The verbs of the wire are the words of the configuration, in the same order. */
_Static_assert(_WIRE_VERB_MAX - WIRE_VERB_CHAT == QUOTA_VERBS, "a verb for each word");
_Static_assert(WIRE_PRIORITY_BACKGROUND == QUOTA_PRIORITIES - 1, "a priority for each word");

enum error_code member_allows(const struct member *m, uint32_t verb, const char *name,
                              uint32_t *priority) {
        const struct store_model *model = member_model(m, name);
        bool background = *priority == WIRE_PRIORITY_BACKGROUND;

        if (!model)
                return ERROR_MODEL_NOT_FOUND;
        if (!limits_allow_job(&m->account->limits, verb - WIRE_VERB_CHAT, model->name,
                              &background))
                return ERROR_NOT_AUTHORIZED;
        *priority = background ? WIRE_PRIORITY_BACKGROUND : WIRE_PRIORITY_INTERACTIVE;
        return ERROR_NONE;
}

uint32_t member_max_running(const struct member *m) {
        return (uint32_t)m->account->limits.v[QUOTA_MAX_CONCURRENT_JOBS];
}

void member_send_hold(struct member *m, const char *name) {
        bool keep = holds_has(modules(m)->holds, m->account, name);
        union wire_message prepare = { .prepare = { .h.type = WIRE_PREPARE, .keep = keep,
                                                    .uid = m->account->id.uid } };

        snprintf(prepare.prepare.name, sizeof(prepare.prepare.name), "%s", name);
        if (worker_is_open(m->worker))
                worker_send(m->worker, &prepare, -1);
}

void member_send_holds(struct member *m) {
        for (const struct hold *h = modules(m)->holds->first; h; h = h->next)
                if (h->charge.account == m->account)
                        member_send_hold(m, h->name);
}

/* --- CPU time --- */

static void pay(struct member *m, uint64_t usec) {
        m->cpu_usec += usec;
        account_add_cpu(m->account, usec);
}

/* Nothing was said: who has a job that runs, or else everybody. */
static void assume_shares(struct worker *w) {
        bool some = false;

        for (struct member *m = w->members; m; m = m->next) {
                m->said_usec = m->admission.running > 0;
                some |= m->said_usec > 0;
        }
        for (struct member *m = w->members; m && !some; m = m->next)
                m->said_usec = 1;
}

static uint64_t sum_of_shares(const struct worker *w) {
        uint64_t sum = 0;

        for (const struct member *m = w->members; m; m = m->next)
                sum += MIN(m->said_usec, SAID_MOST);
        return sum;
}

/* usec <= BILL_MOST; each pays up to where his part ends, so that nothing is lost by rounding. */
static void divide(struct worker *w, uint64_t usec, uint64_t sum) {
        uint64_t upto = 0, paid = 0;

        for (struct member *m = w->members; m; m = m->next) {
                upto += MIN(m->said_usec, SAID_MOST);
                pay(m, usec * upto / sum - paid);
                paid = usec * upto / sum;
        }
}

void members_bill(struct worker *w, bool due) {
        uint64_t usec = w->lease.charged - w->billed;

        if (!w->members || usec == 0)
                return;
        if (!w->members->next) {
                pay(w->members, usec);
                usec = 0;
        } else if (sum_of_shares(w) == 0) {
                if (!due)
                        return;
                assume_shares(w);
        }
        for (uint64_t sum = usec > 0 ? sum_of_shares(w) : 0; usec > 0;) {
                uint64_t part = MIN(usec, BILL_MOST);

                divide(w, part, sum);
                usec -= part;
        }
        w->billed = w->lease.charged;
        for (struct member *m = w->members; m; m = m->next)
                m->said_usec = 0;
}

uint32_t members_weight(const struct worker *w) {
        uint32_t busy = 0, all = 0;

        for (const struct member *m = w->members; m; m = m->next) {
                uint32_t weight = (uint32_t)m->account->limits.v[QUOTA_WEIGHT];

                all += weight;
                busy += m->admission.running > 0 ? weight : 0;
        }
        return busy > 0 ? busy : all;
}
