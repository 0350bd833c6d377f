/* A list and one timer. A count is with its worker, or waits for it to serve, and is answered
 * exactly once: by the worker, by the worker's end, or by the timer. The worker keeps the deadline
 * itself and says so; one that says nothing for LIMIT_CANCEL_USEC more does not obey and is ended.
 * A caller that goes away leaves its count behind, which keeps its place until then: so calling and
 * hanging up gets nobody more than his few at once. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/broker/control.h"
#include "daemon/broker/counts.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

struct counts {
        struct count *first;
        sd_event_source *timer;
        uint64_t last_ref;
        void (*answered)(struct count *c, const struct count_answer *answer, void *userdata);
        void *userdata;
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

int counts_new(struct counts **ret, sd_event *event) {
        struct counts *all = calloc(1, sizeof(*all));
        int r;

        if (!all)
                return -ENOMEM;
        r = sd_event_add_time(event, &all->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, all);
        if (r < 0) {
                free(all);
                return r;
        }
        *ret = all;
        return 0;
}

struct counts *counts_free(struct counts *all) {
        if (!all)
                return NULL;
        sd_event_source_disable_unref(all->timer);
        free(all);
        return NULL;
}

void counts_set_sink(struct counts *all,
                     void (*answered)(struct count *c, const struct count_answer *answer,
                                      void *userdata),
                     void *userdata) {
        all->answered = answered;
        all->userdata = userdata;
}

struct count *counts_first(const struct counts *all) {
        return all->first;
}

static void arm(struct counts *all) {
        uint64_t next = UINT64_MAX;

        for (const struct count *c = all->first; c; c = c->next)
                next = MIN(next, c->deadline);
        sd_event_source_set_time(all->timer, next);
        sd_event_source_set_enabled(all->timer, SD_EVENT_ONESHOT);
}

/* The end of a count. */
static void answer(struct count *c, const struct count_answer *a) {
        struct counts *all = c->owner;
        struct count **p = &all->first;

        while (*p != c)
                p = &(*p)->next;
        *p = c->next;
        charge_done(&c->charge);
        if (c->input >= 0)
                close(c->input);
        if (all->answered)
                all->answered(c, a, all->userdata);
        free(c);
        arm(all);
}

static void refuse_all(struct counts *all, const struct worker *w, enum error_code why) {
        struct count *next;

        for (struct count *c = all->first; c; c = next) {
                next = c->next;
                if (c->worker == w)
                        answer(c, &(struct count_answer){ .why.code = why });
        }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct counts *all = userdata;
        struct count *next;
        uint64_t now = now_monotonic();

        for (struct count *c = all->first; c; c = next) {
                struct worker *w = c->worker;

                next = c->next;
                if (c->deadline > now)
                        continue;
                if (c->input < 0)
                        worker_doom(w, FAILURE_TIMEOUT);
                answer(c, &(struct count_answer){ .why.code = ERROR_DEADLINE });
                worker_settle(w);
        }
        arm(all);
        return 0;
}

/* The time that has passed since the call is not given again. */
static void send_count(struct count *c) {
        uint64_t now = now_monotonic(), end = c->deadline - LIMIT_CANCEL_USEC;
        union wire_message m = { .count = c->request };

        m.count.deadline_usec = end > now ? end - now : 1;
        worker_send(c->worker, &m, c->input);
        close(c->input);
        c->input = -1;
}

static unsigned count_of(const struct counts *all, const struct account *account) {
        unsigned n = 0;

        for (const struct count *c = all->first; c; c = c->next)
                n += c->charge.account == account;
        return n;
}

static bool charge(const struct counts *all, struct account *account, struct charge *ret,
                   struct refusal *r) {
        uint64_t limit = MIN((uint64_t)LIMIT_COUNTS_PER_UID,
                             account_limit(account, CHARGE_OBJECT));

        *r = (struct refusal){ .code = ERROR_OBJECTS, .value = limit + 1, .limit = limit,
                               .retry_after_ms = 1000 };
        return count_of(all, account) < LIMIT_COUNTS_PER_UID &&
               account_charge(account, CHARGE_OBJECT, ret) == 0;
}

static enum error_code refuse(struct refusal *r, enum error_code code) {
        *r = (struct refusal){ .code = code };
        return code;
}

enum error_code counts_start(struct counts *all, struct workers *workers,
                             const struct account_id *who, const struct wire_count *request,
                             int input, struct count **ret, struct refusal *r) {
        _cleanup_(account_unrefp) struct account *account = NULL;
        _cleanup_close_ int copy = -1;
        uint32_t priority = WIRE_PRIORITY_INTERACTIVE;
        struct charge taken = {};
        struct member *m;
        struct count *c;

        if (control_begin(workers, who, input, &account, &m, r) != ERROR_NONE ||
            refuse(r, member_allows(m, request->verb, request->model, &priority)) != ERROR_NONE ||
            !charge(all, account, &taken, r))
                return r->code;
        if (!account_request(account, r)) {
                charge_done(&taken);
                return r->code;
        }
        copy = fcntl(input, F_DUPFD_CLOEXEC, 3);
        c = copy < 0 ? NULL : calloc(1, sizeof(*c));
        if (!c) {
                charge_done(&taken);
                account_take_back_request(account);
                return refuse(r, ERROR_OVERLOADED);
        }
        *c = (struct count){ .owner = all, .next = all->first, .worker = m->worker,
                             .charge = taken,
                             .request = *request, .input = TAKE_FD(copy),
                             .deadline = now_monotonic() + LIMIT_COUNT_USEC + LIMIT_CANCEL_USEC };
        c->request.h.type = WIRE_COUNT;
        c->request.ref = ++all->last_ref;
        c->request.uid = who->uid;
        all->first = c;
        arm(all);
        member_send_rates(m);
        if (worker_is_open(m->worker))
                send_count(c);
        worker_settle(m->worker);
        *ret = c;
        *r = (struct refusal){ .code = ERROR_NONE };
        return ERROR_NONE;
}

bool counts_of_worker(const struct counts *all, const struct worker *w,
                      const struct account *account) {
        for (const struct count *c = all->first; c; c = c->next)
                if (c->worker == w && c->charge.account == account)
                        return true;
        return false;
}

void counts_worker_open(struct counts *all, struct worker *w) {
        for (struct count *c = all->first; c; c = c->next)
                if (c->worker == w && c->input >= 0)
                        send_count(c);
}

void counts_worker_gone(struct counts *all, struct worker *w, enum error_code why) {
        refuse_all(all, w, why);
}

int counts_event(struct counts *all, struct worker *w, const struct wire_counted *m) {
        struct count *c = all->first;

        while (c && (c->request.ref != m->ref || c->worker != w || c->input >= 0))
                c = c->next;
        if (!c)
                return -EBADMSG;
        answer(c, &(struct count_answer){ .why = { .code = (enum error_code)m->error,
                                                   .value = m->value, .limit = m->limit },
                                          .tokens = m->tokens, .context = m->context });
        worker_settle(w);
        return 0;
}
