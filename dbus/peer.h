/* Inside of dbus/: one connection, to a message bus (many senders) or to one client. */
#pragma once

#include <systemd/sd-bus.h>

#include "daemon/broker/accept.h"
#include "daemon/broker/counts.h"
#include "daemon/broker/quota_view.h"
#include "dbus/bus.h"
#include "daemon/broker/control.h"

enum { BUS_INTERFACE_VERSION = 10 };

struct bus {
        struct bus_settings settings;
        struct jobs *jobs;     /* outlives the workers, like the next */
        struct sessions *sessions;
        struct counts *counts;
        sd_event *event;
        sd_event_source *io;
        struct accept_pause pause;
        int listening;
        struct peer *peers;
        struct residency *residencies; /* residency.c */
        uint64_t last_peer;    /* number */
        struct quota_view view; /* the quota object that a call is about */
        struct check *checks;   /* of authorize.c, newest first */
        uint64_t last_check;
};

enum { PEER_NAME_SIZE = 16 };

struct peer {
        struct bus *owner;
        struct peer *next;
        uint64_t number;
        char name[PEER_NAME_SIZE]; /* of a private client: what Hello says */
        sd_bus *bus;
        bool message_bus;
        uid_t uid;             /* of a private client, from the kernel */
        bool slice_known;      /* of a private client: asked for once, when it counts */
        char slice[SLICE_NAME_SIZE];
        struct charge charge;  /* of a private client's connection */
        sd_event_source *gone;
        sd_event_source *wake; /* of a private connection that has just begun */
};

static inline const struct workers_settings *peer_broker(const struct peer *p) {
        return workers_settings(p->owner->settings.workers);
}

/* Who sent this message, as the kernel or the bus daemon says. 0 or a negative errno. */
int peer_uid(const struct peer *p, sd_bus_message *m, uid_t *ret);
/* Whose account pays for what this message asks for. 0, or a negative errno with the error set. */
int peer_account(struct peer *p, sd_bus_message *m, struct account_id *ret, sd_bus_error *e);
/* Of a private connection. 0, or a negative errno when its slice counts and is not known. */
int peer_learn_slice(struct peer *p);
/* A number for who sent this message, in all probability another one for every client. */
uint64_t peer_client(const struct peer *p, sd_bus_message *m);

/* The number that an object's path ends with, in decimal without signs or leading zeros; false when
 * it is none. */
bool path_number(const char *name, uint64_t *ret);

/* Error reply from the table: name, fixed text, numbers. Returns a negative errno for sd-bus. */
int bus_error(sd_bus_error *e, enum error_code code, uint64_t value, uint64_t limit);
int bus_refuse(sd_bus_error *e, const struct refusal *why);
/* The same for jobs, counts, CreateSession and Append: it is counted and logged, too. */
int peer_refuse(const struct peer *p, uid_t uid, enum wire_verb verb, const struct refusal *why,
                sd_bus_error *e);

/* Of a property that is an array of characters in its object, at the offset that the vtable says;
 * sd-bus by itself expects a pointer there. */
int bus_get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                 sd_bus_message *reply, void *userdata, sd_bus_error *e);

/* What was asked for, once it is allowed: reads the arguments and replies, like a handler of
 * sd-bus. */
typedef int (*authorized_run)(sd_bus_message *m, struct peer *p, sd_bus_error *e);

/* Whether whoever sent the message may do something for administrators: run is called, or nothing
 * of it happens and the sender is refused. It may be called after authorize has returned, when
 * polkit has to be asked first. action: a name of org.bitnetd.policy. Returns what a handler
 * returns. */
int authorize(struct peer *p, sd_bus_message *m, const char *action, authorized_run run,
              sd_bus_error *e);
/* The sender was authorised for this action a moment ago, on the same connection: objects that
 * exist for administrators only exist for him too. Asks nobody. */
bool authorized(const struct peer *p, sd_bus_message *m, const char *action);
/* Whatever is still being asked about is dropped. */
void authorize_peer_gone(struct peer *p);
/* Root, and the user whose daemon this is. */
bool is_administrator(uid_t uid);
#define ACTION_MANAGE_MODELS  "org.bitnetd.manage-models"
#define ACTION_MANAGE_QUOTA   "org.bitnetd.manage-quota"
#define ACTION_INSPECT_OTHERS "org.bitnetd.inspect-others"

/* Methods of the manager about quotas (quota.c). */
int quota_method_get(sd_bus_message *m, void *userdata, sd_bus_error *e);
int quota_method_set(sd_bus_message *m, void *userdata, sd_bus_error *e);
int quota_method_reload(sd_bus_message *m, void *userdata, sd_bus_error *e);

/* ListWorkers (worker.c). */
int worker_method_list(sd_bus_message *m, void *userdata, sd_bus_error *e);
/* Methods of the manager about models that are to stay loaded (residency.c). */
int residency_method_prepare(sd_bus_message *m, void *userdata, sd_bus_error *e);
int residency_method_release(sd_bus_message *m, void *userdata, sd_bus_error *e);
/* A peer is gone, and its leases with it. */
void residency_peer_gone(struct peer *p);
/* Some lease has this owner. */
bool residency_peer_owns(const struct peer *p);

/* Methods of the manager about models (model.c). */
int model_method_install(sd_bus_message *m, void *userdata, sd_bus_error *e);
int model_method_remove(sd_bus_message *m, void *userdata, sd_bus_error *e);
int model_method_verify(sd_bus_message *m, void *userdata, sd_bus_error *e);
/* "ready", "loading" or "bad". */
const char *model_state_word(const struct store_model *model);

/* Objects of each kind. */
int quota_register(struct peer *p);
int manager_register(struct peer *p);
int job_register(struct peer *p);
int model_register(struct peer *p);

int session_register(struct peer *p);

/* Start a job from the arguments of Generate, Summarize or (session) of Prompt, and reply. */
int manager_submit(sd_bus_message *m, struct peer *p, enum wire_verb verb,
                   struct session *session, sd_bus_error *e);

/* Methods of the manager about sessions (session.c), and the list of those of a uid or of all. */
int session_method_create(sd_bus_message *m, void *userdata, sd_bus_error *e);
int session_list(sd_bus_message *m, struct peer *p, uid_t uid, bool all);
/* A peer is gone: its sessions are closed, its waiting calls dropped. */
void session_peer_gone(struct peer *p);
/* Some session has this owner, or a call of this peer waits for one. */
bool session_peer_owns(const struct peer *p);
/* For struct session_sink; userdata is the bus. */
void session_on_answer(struct session *s, const struct refusal *why, void *userdata);
void session_on_close(struct session *s, const char *reason, void *userdata);
void session_on_gone(struct session *s, void *userdata);

/* CountTokens (count.c). */
int count_method_tokens(sd_bus_message *m, void *userdata, sd_bus_error *e);
/* A peer is gone: its calls are dropped. */
void count_peer_gone(struct peer *p);
/* A call of this peer waits. */
bool count_peer_waits(const struct peer *p);
/* The sink of counts; userdata is the bus. */
void count_on_answer(struct count *c, const struct count_answer *answer, void *userdata);

/* The path of a job: in buf, or the one that its owner chose. */
#define JOB_PATH_SIZE (sizeof(BUS_ROOT "/job/") + 20)
const char *job_path(const struct job *job, char buf[JOB_PATH_SIZE]);
/* The path of a job with this token of the sender's (the caller's to free; NULL: without one). A
 * positive enum error_code when there is one, or a negative errno. */
int job_new_path(const struct peer *p, sd_bus_message *m, const char *token, char **ret);
/* The submitting peer owns the job: told of its end, and the job ends with it. path: as from
 * job_new_path, taken in any case. */
int job_own(struct peer *p, struct job *job, sd_bus_message *m, char *path);
/* A peer is gone: its jobs are cancelled, its waiting calls dropped. */
void job_peer_gone(struct peer *p);
/* Some unfinished job has this owner. */
bool job_peer_owns(const struct peer *p);
/* For struct job_sink; userdata is the bus. */
void job_on_progress(struct job *job, void *userdata);
void job_on_end(struct job *job, void *userdata);
void job_on_forget(struct job *job, void *userdata);
