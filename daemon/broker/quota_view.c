/* Collects the numbers of one user from the modules that keep them. Nothing is changed, except that
 * everybody is charged for the CPU he has used up to now. */
#include <string.h>

#include "daemon/broker/broker.h"
#include "daemon/broker/quota_view.h"

static void set(struct quota_view *v, enum quota_key key, uint64_t value) {
        v->used[key] = value;
        v->counted[key] = true;
}

static void count_jobs(const struct broker *b, const struct account *account,
                       struct quota_view *v) {
        uint64_t running = 0, waiting = 0;
        const struct job *job;

        for (uint32_t i = 0; (job = jobs_at(b->jobs, i)); i++)
                if (job->charge.account == account && !job_finished(job)) {
                        bool runs = job->admission.state == ADMISSION_RUNNING;

                        running += runs;
                        waiting += !runs;
                }
        set(v, QUOTA_MAX_CONCURRENT_JOBS, running);
        set(v, QUOTA_MAX_QUEUED_JOBS, waiting);
}

static void count_bucket(struct quota_view *v, enum quota_key key, const struct bucket *b) {
        if (b->per_minute != QUOTA_INFINITY)
                set(v, key, b->per_minute - b->level / BUCKET_UNIT);
}

static void read_account(struct quota_view *v, struct account *a) {
        static const struct {
                enum quota_key key;
                enum charge_kind kind;
        } kinds[] = { { QUOTA_MAX_CONNECTIONS, CHARGE_CONNECTION },
                      { QUOTA_MAX_OBJECTS, CHARGE_OBJECT },
                      { QUOTA_MAX_SESSIONS, CHARGE_SESSION },
                      { QUOTA_MAX_SESSION_KV, CHARGE_SESSION_KV } };
        const struct quota *q = account_quota(a);

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                set(v, kinds[i].key, a->used[kinds[i].kind]);
        count_bucket(v, QUOTA_REQUESTS_PER_MINUTE, &q->requests);
        count_bucket(v, QUOTA_TOKENS_PER_MINUTE, &q->tokens);
        set(v, QUOTA_TOKENS_PER_DAY, q->tokens_used + q->tokens_reserved);
        set(v, QUOTA_CPU_TIME_PER_DAY, q->cpu_used);
        v->reset_usec = quota_day_end(q, accounts_now(a->owner));
        v->next_allowed_usec = account_next_allowed(a);
        v->virtual_counter = a->virtual_counter;
}

void quota_view_read(struct broker *b, const struct account_id *id, struct quota_view *ret) {
        struct account *account = NULL;
        const struct member *m;

        *ret = (struct quota_view){ .id = *id };
        ret->reset_usec = quota_day_end(&(struct quota){}, accounts_now(b->accounts));
        accounts_limits(b->accounts, id, &ret->limits);
        ret->weight = (uint32_t)ret->limits.v[QUOTA_WEIGHT];
        workers_bill(b->workers);
        /* Somebody who was never seen has used nothing; the account goes again at once. */
        if (accounts_get(b->accounts, id, &account) != 0)
                return;
        count_jobs(b, account, ret);
        read_account(ret, account);
        m = workers_find(b->workers, account);
        if (m)
                ret->virtual_counter = m->worker->lease.counter;
        account_unref(account);
}

void quota_view_origins(struct broker *b, const struct account_id *id,
                        struct config_origin ret[_QUOTA_MAX]) {
        struct limits limits;

        settings_resolve(b->settings.config, &b->settings.identities, id, &limits, ret);
}
