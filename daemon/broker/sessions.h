/* The session table: conversations that workers hold for their users. The broker knows who owns
 * one, how full it is, what it costs and when it ends; never a word of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/wire/proto.h"
#include "policy/account.h"
#include "policy/error.h"

struct job;
struct sessions;
struct worker;
struct workers;

/* What the worker was asked for and has not answered. */
enum session_asked { SESSION_ASKED_NOTHING, SESSION_ASKED_OPEN, SESSION_ASKED_APPEND,
                     SESSION_ASKED_CLEAR };

struct session {
        struct sessions *owner;
        struct session *next;
        uint64_t id;
        uid_t uid;
        struct charge charge;         /* has the account */
        struct charge kv;             /* bytes of keys and values that are kept */
        struct worker *worker;        /* borrowed; a session ends with it */
        char model[WIRE_NAME_MAX];
        bool opening;                 /* nobody can see it yet: it may still fail */
        bool closing;                 /* nobody can see it any more: it is being wiped */
        enum session_asked asked;
        int initial;                  /* messages to begin with, until they are sent; -1: none */
        uint64_t created_usec;        /* since the epoch */
        uint64_t used_at;             /* monotonic */
        uint64_t deadline;            /* of the worker's answer, monotonic; 0: none is waited for */
        uint64_t job;                 /* the newest turn */
        struct wire_session state;    /* the newest */
        void *face;                   /* of the bus side, or NULL */
};

/* How the table tells the face that shows sessions to people. */
struct session_sink {
        /* What it was asked for is done, or was refused (why->code). A session that could not be
         * created is closed after this. */
        void (*answered)(struct session *s, const struct refusal *why, void *userdata);
        /* It has ended for everybody; reason: a word of the interface. */
        void (*closed)(struct session *s, const char *reason, void *userdata);
        /* It is wiped and freed after this; s->face is to be freed. */
        void (*gone)(struct session *s, void *userdata);
        void *userdata;
};

/* workers is set before the first session is made. */
int sessions_new(struct sessions **ret, sd_event *event);
/* All sessions must have gone, as they do with their workers. */
struct sessions *sessions_free(struct sessions *all);
void sessions_set_sink(struct sessions *all, const struct session_sink *sink);

/* A new session of this user, with the model of that name ("": his default) and messages from a
 * descriptor (duplicated; -1: none). ERROR_NONE: answered() follows. */
enum error_code sessions_create(struct sessions *all, struct workers *workers,
                                const struct account_id *who, const char *model, int initial,
                                struct session **ret, struct refusal *ret_refusal);
/* One that can be seen, by its id or one after the other; or NULL. */
struct session *sessions_find(const struct sessions *all, uint64_t id);
struct session *sessions_first(const struct sessions *all);
struct session *sessions_next(const struct session *s);
/* With those that cannot be seen: first of a list. */
struct session *sessions_all(const struct sessions *all);
uint32_t sessions_count(const struct sessions *all, uid_t uid); /* (uid_t)-1: of everybody */

/* A turn runs, or the worker was asked for something. */
bool session_busy(const struct session *s);
/* ERROR_NONE, and answered() follows; or a refusal. input is duplicated. */
enum error_code session_append(struct session *s, int input, struct refusal *ret_refusal);
enum error_code session_clear(struct session *s, struct refusal *ret_refusal);
/* Whether a turn may be submitted now, and that it was. */
enum error_code session_may_turn(const struct session *s);
void session_turn(struct session *s, const struct job *job);
/* closed() comes before it returns, gone() when the worker has wiped it. Its turn is cancelled. */
void session_close(struct session *s, const char *reason);
/* When it will be closed unless it is used, µs since the epoch. */
uint64_t session_expires_usec(const struct session *s);

/* For the modules of workers. */
bool sessions_of_worker(const struct sessions *all, const struct worker *w,
                        const struct account *account);
void sessions_worker_open(struct sessions *all, struct worker *w);
/* Its sessions end at once; why: for calls that wait. */
void sessions_worker_gone(struct sessions *all, struct worker *w, enum error_code why,
                          const char *reason);
/* 0, or -EBADMSG: it may not say that. */
int sessions_event(struct sessions *all, struct worker *w, const struct wire_session *m);
