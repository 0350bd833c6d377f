/* The life of a session:
 *
 *   IDLE      waits for the broker
 *   READING   APPEND: its messages come
 *   COUNTING  waits for the model, which says how many tokens the conversation has; then the
 *             messages that have come belong to it, or too many are refused
 *   TURN      a job has a copy of the conversation; its answer comes
 *
 * Invariants: `messages` changes only when what was asked for has succeeded. What has come and is
 * not accepted yet is in `coming` and `answer`. Text is held as JSON, whose memory is wiped when it
 * is freed (secure_json_init). Keys and values belong to an owner of their own, so that closing and
 * clearing reach all of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/worker/bus_format.h"
#include "daemon/worker/input.h"
#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/prompt.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/session.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"
#include "engine/run/engine.h"

enum step { IDLE, READING, COUNTING, TURN };

struct session {
        struct session *next;
        struct worker *w;
        struct user *user;
        uint64_t id;
        char model[WIRE_NAME_MAX];
        enum step step;
        bool closing;            /* as soon as its turn has ended */
        json_t *messages;        /* an array of messages, as in a request */
        size_t n_initial;        /* of them stay when it is cleared */
        uint64_t tokens, tokens_max, turns, kv_bytes;
        struct input in;         /* READING */
        bool initial;            /* what is read stays, too */
        json_t *coming;          /* COUNTING, TURN: an array of messages */
        struct secure_buf answer; /* TURN */
};

uint64_t session_owner(uint64_t id) {
        return id | ENGINE_OWNER_LASTING;
}

static struct session *find(const struct worker *w, uint64_t id) {
        struct session *s = w->sessions;

        while (s && s->id != id)
                s = s->next;
        return s;
}

/* As find, but only one that has nothing to do. */
static struct session *find_idle(const struct worker *w, uint64_t id) {
        struct session *s = find(w, id);

        return s && s->step == IDLE ? s : NULL;
}

static union wire_message report(const struct session *s, enum wire_session_event event,
                                 const struct request_error *e) {
        return (union wire_message){ .session = {
                .h.type = WIRE_SESSION, .session = s->id, .event = event,
                .error = e ? e->code : ERROR_NONE, .value = e ? e->value : 0,
                .limit = e ? e->limit : 0, .tokens = s->tokens, .tokens_max = s->tokens_max,
                .turns = s->turns, .kv_bytes = s->kv_bytes } };
}

static void tell(const struct session *s, enum wire_session_event event,
                 const struct request_error *e) {
        union wire_message m = report(s, event, e);

        link_send(s->w->link, &m);
}

/* The answer to what the broker has asked for. */
static void answer(struct session *s, const struct request_error *e) {
        input_done(&s->in);
        json_decref(s->coming);
        s->coming = NULL;
        s->step = IDLE;
        tell(s, WIRE_SESSION_DONE, e);
}

static void session_free(struct session *s) {
        scheduler_forget(s->w->scheduler, session_owner(s->id));
        input_done(&s->in);
        json_decref(s->messages);
        json_decref(s->coming);
        secure_buf_done(&s->answer);
        user_unref(s->user);
        free(s);
}

/* Said when the text is wiped, not before. */
static void end_session(struct session *s) {
        struct session **p = &s->w->sessions;
        struct link *link = s->w->link;
        union wire_message closed;

        while (*p != s)
                p = &(*p)->next;
        *p = s->next;
        s->kv_bytes = s->tokens = 0;
        closed = report(s, WIRE_SESSION_CLOSED, NULL);
        session_free(s);
        link_send(link, &closed);
}

static void start_counting(struct session *s, json_t *coming) {
        s->coming = coming;
        s->step = COUNTING;
}

int session_open(struct worker *w, const struct wire_session_open *m) {
        struct user *user = find(w, m->session) ? NULL : user_find(w, m->uid);
        struct session *s = user ? calloc(1, sizeof(*s)) : NULL;

        if (!s)
                return user ? -ENOMEM : -EBADMSG;
        s->w = w;
        s->user = user_ref(user);
        s->id = m->session;
        memcpy(s->model, m->model, sizeof(s->model));
        input_init(&s->in, -1);
        s->messages = json_array();
        s->next = w->sessions;
        w->sessions = s;
        start_counting(s, json_array());
        return s->messages && s->coming ? 0 : -ENOMEM;
}

int session_append(struct worker *w, const struct wire_session_append *m, int fd) {
        struct session *s = find_idle(w, m->session);
        struct request_error e = {};

        if (!s) {
                close(fd);
                return -EBADMSG;
        }
        input_init(&s->in, fd);
        s->initial = m->initial;
        s->step = READING;
        if (input_start(&s->in, w->now, &e) < 0)
                answer(s, &e);
        return 0;
}

int session_clear(struct worker *w, const struct wire_session_command *m) {
        struct session *s = find_idle(w, m->session);

        if (!s)
                return -EBADMSG;
        while (json_array_size(s->messages) > s->n_initial)
                json_array_remove(s->messages, json_array_size(s->messages) - 1);
        scheduler_forget(w->scheduler, session_owner(s->id));
        s->kv_bytes = 0;
        start_counting(s, json_array());
        return s->coming ? 0 : -ENOMEM;
}

/* During a turn the turn's own end says what is kept then. */
int session_forget(struct worker *w, const struct wire_session_command *m) {
        struct session *s = find(w, m->session);

        if (!s)
                return -EBADMSG;
        scheduler_forget(w->scheduler, session_owner(s->id));
        s->kv_bytes = 0;
        return 0;
}

int session_close(struct worker *w, const struct wire_session_command *m) {
        struct session *s = find(w, m->session);

        if (!s || s->closing)
                return -EBADMSG;
        s->closing = true;
        if (s->step != TURN)
                end_session(s);
        return 0;
}

static void kv_gone(struct session *s) {
        if (s->kv_bytes == 0)
                return;
        s->kv_bytes = 0;
        tell(s, WIRE_SESSION_KV, NULL);
}

void sessions_caches_dropped(struct worker *w) {
        for (struct session *s = w->sessions; s; s = s->next)
                kv_gone(s);
}

/* --- counting --- */

/* The tokens of these messages as a turn would read them; only chat formats know. */
static int count_tokens(struct session *s, const struct model *model, json_t *messages,
                        struct request_error *e) {
        struct job_spec spec = { .verb = WIRE_VERB_CHAT };
        struct tokens tokens = {};
        struct scheduler_user user = user_for_scheduler(s->user);
        uint32_t max = scheduler_max_tokens(s->w->scheduler, model, &user);
        json_t *root = json_pack("{s:O}", "messages", messages);
        int r = root ? 0 : -ENOMEM;

        if (r == 0 && json_array_size(messages) > 0)
                r = messages_parse(root, NULL, &spec.messages, e);
        if (r == 0)
                r = prompt_encode(model, &spec, max, &tokens, e);
        if (r == 0 || e->code == ERROR_CONTEXT_TOO_LONG)
                s->tokens_max = max;
        if (r == 0)
                s->tokens = tokens.n;
        tokens_done(&tokens);
        job_spec_done(&spec);
        json_decref(root);
        return r;
}

/* The conversation with what has come, as a new array; NULL without memory. */
static json_t *whole(const struct session *s) {
        json_t *all = json_copy(s->messages);

        if (all && json_array_extend(all, s->coming) < 0) {
                json_decref(all);
                return NULL;
        }
        return all;
}

static void accept_coming(struct session *s, json_t *all) {
        json_decref(s->messages);
        s->messages = all;
        if (s->initial)
                s->n_initial = json_array_size(all);
        s->initial = false;
        answer(s, NULL);
}

static void count(struct session *s) {
        char name[WIRE_NAME_MAX];
        struct request_error e = {};
        const struct model *model;
        json_t *all = NULL;
        int r = models_get(s->w->models, s->user, s->model, &model, name, &e);

        if (r == MODELS_PENDING)
                return;
        if (r == 0) {
                all = whole(s);
                r = all ? count_tokens(s, model, all, &e) : -ENOMEM;
        }
        if (r == 0) {
                accept_coming(s, all);
                return;
        }
        if (e.code == ERROR_NONE)
                e.code = ERROR_OVERLOADED;
        json_decref(all);
        s->initial = false;
        answer(s, &e);
}

static void read_messages(struct session *s, const struct poller *p) {
        struct request_error e = {};
        json_t *coming;
        int r = input_handle(&s->in, p, s->user->limits.max_input_bytes, s->w->now, &e);

        if (r == 0)
                return;
        if (r == INPUT_END)
                r = bus_format_messages(&s->in.bytes, &coming, &e);
        if (r == 0) {
                start_counting(s, coming);
                return;
        }
        if (e.code == ERROR_NONE)
                e.code = ERROR_OVERLOADED;
        answer(s, &e);
}

/* --- turns --- */

int session_begin_turn(struct worker *w, const struct wire_job *m, struct secure_buf *input,
                       struct job_spec *ret, struct request_error *e) {
        struct session *s = find(w, m->session);
        int r;

        if (!s || s->closing || s->user->uid != m->uid)
                return request_fail(e, ERROR_NO_SUCH_OBJECT, NULL, NULL);
        if (s->step != IDLE)
                return request_fail(e, ERROR_SESSION_BUSY, NULL, NULL);
        r = bus_format_input(m, input, s->messages, &w->seed_state, ret, &s->coming, e);
        if (r < 0)
                return r;
        memcpy(ret->model, s->model, sizeof(ret->model));
        s->step = TURN;
        return 0;
}

/* Nothing of the turn stays but what was added to `messages`. */
static void leave_turn(struct session *s) {
        json_decref(s->coming);
        s->coming = NULL;
        secure_buf_done(&s->answer);
        s->step = IDLE;
        if (s->closing)
                end_session(s);
}

void session_take_back_turn(struct worker *w, uint64_t id) {
        struct session *s = find(w, id);

        if (s && s->step == TURN)
                leave_turn(s);
}

void session_text(struct worker *w, uint64_t id, const char *text, size_t n) {
        struct session *s = find(w, id);

        if (s && s->step == TURN)
                secure_buf_append(&s->answer, text, n);
}

/* Question and answer, both or none. */
static bool keep_turn(struct session *s) {
        json_t *all = whole(s);
        json_t *message = s->answer.failed
                                  ? NULL
                                  : json_pack("{s:s,s:s%}", "role", "assistant", "content",
                                              s->answer.n > 0 ? s->answer.p : "", s->answer.n);
        bool kept = all && json_array_append_new(all, message) == 0;

        if (kept) {
                json_decref(s->messages);
                s->messages = all;
                s->turns++;
        } else {
                json_decref(all);
        }
        return kept;
}

/* A conversation that has become longer than the context is counted, too: the next turn says so. */
static void count_again(struct session *s, const struct job_result *result) {
        char name[WIRE_NAME_MAX];
        struct request_error e = {};
        const struct model *model;

        if (models_get(s->w->models, s->user, s->model, &model, name, &e) == 0 &&
            count_tokens(s, model, s->messages, &e) == 0)
                return;
        s->tokens = e.code == ERROR_CONTEXT_TOO_LONG ? e.value
                                                     : result->tokens_in + result->tokens_out;
}

void session_end_turn(struct worker *w, uint64_t id, struct job_result *result) {
        struct session *s = find(w, id);

        if (!s || s->step != TURN)
                return;
        if (result->kv_kept != GENERATION_KEPT_UNKNOWN)
                s->kv_bytes = result->kv_kept;
        if (result->error.code == ERROR_NONE && !s->closing) {
                if (keep_turn(s))
                        count_again(s, result);
                else
                        result->error.code = ERROR_OVERLOADED;
        }
        if (!s->closing)
                tell(s, WIRE_SESSION_TURN, NULL);
        leave_turn(s);
}

/* --- the loop --- */

void sessions_poll(struct worker *w, struct poller *p) {
        for (struct session *s = w->sessions; s; s = s->next)
                if (s->step == READING)
                        input_poll(&s->in, p);
}

/* Keys and values go with the model; it is loaded again for the next turn. */
static bool unloaded(const struct session *s) {
        const struct wire_catalog *c = models_find(s->w->models, s->user, s->model);

        return !c || !models_loaded(s->w->models, s->user, c);
}

void sessions_run(struct worker *w, const struct poller *p) {
        for (struct session *s = w->sessions; s; s = s->next) {
                if (s->step == READING)
                        read_messages(s, p);
                if (s->step == COUNTING)
                        count(s);
                if (s->kv_bytes > 0 && unloaded(s))
                        kv_gone(s);
        }
}

void sessions_done(struct worker *w) {
        while (w->sessions) {
                struct session *s = w->sessions;

                w->sessions = s->next;
                session_free(s);
        }
}
