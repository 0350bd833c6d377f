/* A list of sessions and one timer. A session is opening until its worker has answered OPEN (and
 * taken the first messages), then open, then closing until the worker says that it is wiped; it is
 * charged for all that time. The worker is asked for one thing at a time and has a fixed time to
 * answer; one that does not obey CLOSE is ended, and its sessions with it. What is kept of keys and
 * values is charged after the worker has told of it: when that is more than the user may keep, the
 * sessions unused for longest give theirs back, which costs time at their next turn and nothing
 * else. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/broker/control.h"
#include "daemon/broker/sessions.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

/* The timer looks at least that often, so that a changed limit counts soon. */
static const uint64_t LOOK_USEC = 60000000;

struct sessions {
        struct session *first;
        sd_event_source *timer;
        struct session_sink sink;
        uint64_t next_id;
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

int sessions_new(struct sessions **ret, sd_event *event) {
        struct sessions *all = calloc(1, sizeof(*all));
        uint64_t random;
        int r;

        if (!all)
                return -ENOMEM;
        randombytes_buf(&random, sizeof(random));
        all->next_id = (random >> 16) + 1; /* tells nothing about sessions of others */
        r = sd_event_add_time(event, &all->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, all);
        if (r < 0) {
                free(all);
                return r;
        }
        *ret = all;
        return 0;
}

struct sessions *sessions_free(struct sessions *all) {
        if (!all)
                return NULL;
        sd_event_source_disable_unref(all->timer);
        free(all);
        return NULL;
}

void sessions_set_sink(struct sessions *all, const struct session_sink *sink) {
        all->sink = *sink;
}

/* --- looking --- */

static bool visible(const struct session *s) {
        return !s->opening && !s->closing;
}

static struct session *next_visible(struct session *s) {
        while (s && !visible(s))
                s = s->next;
        return s;
}

struct session *sessions_first(const struct sessions *all) {
        return next_visible(all->first);
}

struct session *sessions_next(const struct session *s) {
        return next_visible(s->next);
}

struct session *sessions_all(const struct sessions *all) {
        return all->first;
}

static struct session *find(const struct sessions *all, uint64_t id) {
        struct session *s = all->first;

        while (s && s->id != id)
                s = s->next;
        return s;
}

struct session *sessions_find(const struct sessions *all, uint64_t id) {
        struct session *s = find(all, id);

        return s && visible(s) ? s : NULL;
}

uint32_t sessions_count(const struct sessions *all, uid_t uid) {
        uint32_t n = 0;

        for (const struct session *s = sessions_first(all); s; s = sessions_next(s))
                n += uid == (uid_t)-1 || s->uid == uid;
        return n;
}

static const struct workers_settings *modules(const struct session *s) {
        return workers_settings(s->worker->owner);
}

static struct job *turn_of(const struct session *s) {
        struct job *job = s->job ? jobs_find(modules(s)->jobs, s->job) : NULL;

        return job && !job_finished(job) ? job : NULL;
}

bool session_busy(const struct session *s) {
        return s->asked != SESSION_ASKED_NOTHING || turn_of(s);
}

/* --- time --- */

/* While it is busy the time does not run: it is looked at again when it would have ended. */
static uint64_t idle_end(const struct session *s) {
        uint64_t from = session_busy(s) ? now_monotonic() : s->used_at;

        return from + s->charge.account->limits.v[QUOTA_SESSION_IDLE_SEC] * 1000000;
}

uint64_t session_expires_usec(const struct session *s) {
        uint64_t now = now_monotonic(), at = idle_end(s);

        return now_realtime() + (at > now ? at - now : 0);
}

static void arm(struct sessions *all) {
        uint64_t next = all->first ? now_monotonic() + LOOK_USEC : UINT64_MAX;

        for (const struct session *s = all->first; s; s = s->next) {
                if (s->deadline)
                        next = MIN(next, s->deadline);
                if (visible(s))
                        next = MIN(next, idle_end(s));
        }
        sd_event_source_set_time(all->timer, next);
        sd_event_source_set_enabled(all->timer, SD_EVENT_ONESHOT);
}

static void wait_for_answer(struct session *s, uint64_t usec) {
        s->deadline = now_monotonic() + usec;
        arm(s->owner);
}

/* --- asking the worker --- */

static void send_command(struct session *s, enum wire_type type) {
        union wire_message m = { .session_command = { .h.type = type, .session = s->id } };

        worker_send(s->worker, &m, -1);
}

static void ask(struct session *s, enum session_asked what) {
        s->asked = what;
        s->used_at = now_monotonic();
        wait_for_answer(s, LIMIT_SESSION_CALL_USEC);
}

static void send_open(struct session *s) {
        union wire_message m = { .session_open = { .h.type = WIRE_SESSION_OPEN,
                                                   .session = s->id, .uid = s->uid } };

        snprintf(m.session_open.model, sizeof(m.session_open.model), "%s", s->model);
        worker_send(s->worker, &m, -1);
}

static void send_messages(struct session *s, int fd, bool initial) {
        union wire_message m = { .session_append = { .h.type = WIRE_SESSION_APPEND,
                                                     .session = s->id, .initial = initial } };

        ask(s, SESSION_ASKED_APPEND);
        worker_send(s->worker, &m, fd);
}

/* --- the end --- */

static void session_free(struct session *s) {
        struct sessions *all = s->owner;
        struct session **p = &all->first;

        while (*p != s)
                p = &(*p)->next;
        *p = s->next;
        charge_done(&s->kv);
        charge_done(&s->charge);
        if (all->sink.gone)
                all->sink.gone(s, all->sink.userdata);
        if (s->initial >= 0)
                close(s->initial);
        free(s);
        arm(all);
}

/* What was asked for is over, in one way or the other. */
static void answered(struct session *s, const struct refusal *why) {
        const struct session_sink *sink = &s->owner->sink;

        s->asked = SESSION_ASKED_NOTHING;
        s->deadline = 0;
        if (sink->answered)
                sink->answered(s, why, sink->userdata);
}

/* Nobody sees it from here on. */
static void retire(struct session *s, const struct refusal *pending, const char *reason) {
        const struct session_sink *sink = &s->owner->sink;
        bool was_visible = visible(s);

        s->closing = true;
        if (s->asked != SESSION_ASKED_NOTHING)
                answered(s, pending);
        if (was_visible && sink->closed)
                sink->closed(s, reason, sink->userdata);
}

void session_close(struct session *s, const char *reason) {
        struct job *turn = turn_of(s);

        if (s->closing)
                return;
        retire(s, &(struct refusal){ .code = ERROR_CANCELLED }, reason);
        if (turn)
                control_cancel(turn, ERROR_CANCELLED);
        if (s->opening && !worker_is_open(s->worker)) { /* it has never heard of it */
                struct worker *w = s->worker;

                session_free(s);
                worker_settle(w);
                return;
        }
        send_command(s, WIRE_SESSION_CLOSE);
        wait_for_answer(s, LIMIT_CANCEL_USEC);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct sessions *all = userdata;
        struct session *next;
        uint64_t now = now_monotonic();

        for (struct session *s = all->first; s; s = next) {
                next = s->next;
                if (s->deadline && s->deadline <= now && s->closing) {
                        s->deadline = 0;
                        worker_doom(s->worker, FAILURE_TIMEOUT);
                } else if (s->deadline && s->deadline <= now) {
                        answered(s, &(struct refusal){ .code = ERROR_DEADLINE });
                        session_close(s, "failed");
                } else if (visible(s) && idle_end(s) <= now) {
                        session_close(s, "expired");
                }
        }
        arm(all);
        return 0;
}

/* --- what users ask for --- */

static enum error_code refuse(struct refusal *r, enum error_code code) {
        *r = (struct refusal){ .code = code };
        return code;
}

/* The model of a new session. */
static enum error_code choose(const struct member *m, const char *name,
                              const struct store_model **ret) {
        uint32_t priority = WIRE_PRIORITY_INTERACTIVE;
        enum error_code error = member_allows(m, WIRE_VERB_CHAT, name, &priority);

        if (error != ERROR_NONE)
                return error;
        *ret = member_model(m, name);
        /* One that is still being packed is waited for, as jobs do. */
        return (*ret)->state == ERROR_MODEL_BAD ? ERROR_MODEL_BAD : ERROR_NONE;
}

static struct session *session_new(struct sessions *all, const struct member *m,
                                   struct charge *charge) {
        struct session *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->owner = all;
        s->id = all->next_id++;
        s->uid = m->account->id.uid;
        s->charge = *charge;
        charge->account = NULL;
        s->worker = m->worker;
        s->opening = true;
        s->initial = -1;
        s->created_usec = now_realtime();
        s->next = all->first;
        all->first = s;
        return s;
}

enum error_code sessions_create(struct sessions *all, struct workers *workers,
                                const struct account_id *who, const char *name, int initial,
                                struct session **ret, struct refusal *r) {
        _cleanup_(account_unrefp) struct account *account = NULL;
        _cleanup_close_ int copy = -1;
        const struct store_model *model;
        struct charge charge = {};
        struct member *m;
        struct session *s;

        if (control_begin(workers, who, initial, &account, &m, r) != ERROR_NONE)
                return r->code;
        if (initial >= 0 && (copy = fcntl(initial, F_DUPFD_CLOEXEC, 3)) < 0)
                return refuse(r, ERROR_OVERLOADED);
        if (refuse(r, choose(m, name, &model)) != ERROR_NONE || !account_request(account, r))
                return r->code;
        if (account_charge(account, CHARGE_SESSION, &charge) != 0) {
                account_take_back_request(account);
                *r = (struct refusal){ .code = ERROR_SESSIONS,
                                       .value = account->used[CHARGE_SESSION],
                                       .limit = account_limit(account, CHARGE_SESSION) };
                return r->code;
        }
        s = session_new(all, m, &charge);
        charge_done(&charge);
        if (!s) {
                account_take_back_request(account);
                return refuse(r, ERROR_OVERLOADED);
        }
        snprintf(s->model, sizeof(s->model), "%s", model->name);
        s->initial = TAKE_FD(copy);
        ask(s, SESSION_ASKED_OPEN);
        if (worker_is_open(m->worker))
                send_open(s);
        worker_settle(m->worker);
        *ret = s;
        return ERROR_NONE;
}

enum error_code session_may_turn(const struct session *s) {
        const struct member *m = workers_find(s->worker->owner, s->charge.account);

        if (session_busy(s))
                return ERROR_SESSION_BUSY;
        /* It may be about to be ended; a job would go to the next one. */
        return m && m->worker == s->worker ? ERROR_NONE : ERROR_WORKER_FAILED;
}

void session_turn(struct session *s, const struct job *job) {
        s->job = job->id;
        s->used_at = now_monotonic();
        arm(s->owner);
}

enum error_code session_append(struct session *s, int input, struct refusal *r) {
        struct account *account = s->charge.account;

        if (refuse(r, session_may_turn(s)) != ERROR_NONE ||
            control_check_client_input(s->worker->owner, account, input, r) != ERROR_NONE ||
            !account_request(account, r))
                return r->code;
        send_messages(s, input, false);
        return ERROR_NONE;
}

enum error_code session_clear(struct session *s, struct refusal *r) {
        if (refuse(r, session_may_turn(s)) != ERROR_NONE)
                return r->code;
        ask(s, SESSION_ASKED_CLEAR);
        send_command(s, WIRE_SESSION_CLEAR);
        return ERROR_NONE;
}

/* --- what workers say --- */

bool sessions_of_worker(const struct sessions *all, const struct worker *w,
                        const struct account *account) {
        for (const struct session *s = all->first; s; s = s->next)
                if (s->worker == w && s->charge.account == account)
                        return true;
        return false;
}

void sessions_worker_open(struct sessions *all, struct worker *w) {
        for (struct session *s = all->first; s; s = s->next)
                if (s->worker == w)
                        send_open(s);
}

void sessions_worker_gone(struct sessions *all, struct worker *w, enum error_code error,
                          const char *reason) {
        struct refusal why = { .code = error };
        struct session *next;

        for (struct session *s = all->first; s; s = next) {
                next = s->next;
                if (s->worker != w)
                        continue;
                if (!s->closing)
                        retire(s, &why, reason);
                session_free(s);
        }
}

/* Of the same user, with something kept, unused for longest. */
static struct session *oldest_kept(const struct session *not_this) {
        struct session *oldest = NULL;

        for (struct session *s = not_this->owner->first; s; s = s->next)
                if (s != not_this && s->charge.account == not_this->charge.account &&
                    s->kv.account && (!oldest || s->used_at < oldest->used_at))
                        oldest = s;
        return oldest;
}

static void forget_kv(struct session *s) {
        charge_done(&s->kv);
        s->state.kv_bytes = 0;
        send_command(s, WIRE_SESSION_FORGET);
}

static void charge_kv(struct session *s) {
        struct account *account = s->charge.account;
        uint64_t bytes = s->state.kv_bytes;

        charge_done(&s->kv);
        while (bytes > 0 && account_charge_amount(account, CHARGE_SESSION_KV, bytes, &s->kv) != 0) {
                struct session *oldest =
                        bytes <= account_limit(account, CHARGE_SESSION_KV) ? oldest_kept(s) : NULL;

                forget_kv(oldest ? oldest : s);
                if (!oldest)
                        break;
        }
}

/* The answer to OPEN, APPEND or CLEAR. */
static void on_answer(struct session *s, const struct wire_session *m) {
        struct refusal why = { .code = (enum error_code)m->error, .value = m->value,
                               .limit = m->limit };

        if (why.code == ERROR_NONE && s->initial >= 0) {
                send_messages(s, s->initial, true);
                close(s->initial);
                s->initial = -1;
                return;
        }
        s->opening = s->opening && why.code != ERROR_NONE;
        answered(s, &why);
        if (s->opening)
                session_close(s, "failed");
}

int sessions_event(struct sessions *all, struct worker *w, const struct wire_session *m) {
        struct session *s = find(all, m->session);

        if (!s || s->worker != w)
                return -EBADMSG;
        if (m->event == WIRE_SESSION_CLOSED) {
                if (!s->closing)
                        return -EBADMSG;
                session_free(s);
                worker_settle(w);
                return 0;
        }
        if (s->closing)
                return 0; /* said before it heard of the end */
        if (m->event == WIRE_SESSION_DONE ? s->asked == SESSION_ASKED_NOTHING
                                          : m->event == WIRE_SESSION_TURN && !turn_of(s))
                return -EBADMSG;
        s->state = *m;
        charge_kv(s);
        if (m->event == WIRE_SESSION_DONE)
                on_answer(s, m);
        else if (m->event == WIRE_SESSION_TURN)
                s->used_at = now_monotonic();
        arm(all);
        return 0;
}
