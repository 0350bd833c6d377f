/* org.bitnetd.Bitnetd1.Session: conversations that the user's worker holds. A session belongs to
 * the connection that made it and is closed with it; its user's other connections and root see it,
 * for everybody else it does not exist. Nothing here is text: messages and answers go through
 * descriptors.
 *
 * CreateSession, Append, Clear and Close are answered when the worker has done what they ask; the
 * broker sees to it that this ends. A session_face holds the call that waits, of which there is at
 * most one at a time, and the owner's name. It is freed with its session. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/options.h"
#include "dbus/peer.h"
#include "dbus/token.h"
#include "engine/base/macro.h"

#define SESSION_PREFIX    BUS_ROOT "/session"
#define SESSION_PATH_SIZE (sizeof(SESSION_PREFIX "/") + 20)

struct session_face {
        struct peer *owner;      /* NULL: gone */
        char *path;              /* that the owner chose, or NULL */
        char *sender;            /* unique name on a message bus */
        sd_bus_track *track;
        sd_bus_message *call;    /* to be answered, */
        struct peer *caller;     /* by this connection */
        bool creating;           /* with the path */
};

static struct sessions *sessions_of(const struct peer *p) {
        return p->owner->sessions;
}

static const char *session_path(const struct session *s, char buf[SESSION_PATH_SIZE]) {
        const struct session_face *face = s->face;

        if (face && face->path)
                return face->path;
        snprintf(buf, SESSION_PATH_SIZE, SESSION_PREFIX "/%" PRIu64, s->id);
        return buf;
}

/* Also of one that nobody can see, whose path is not free yet. */
static struct session *find_by_path(const struct sessions *all, const char *path) {
        struct session *s = sessions_all(all);

        for (; s; s = s->next) {
                const struct session_face *face = s->face;

                if (face && face->path && strcmp(face->path, path) == 0)
                        break;
        }
        return s;
}

/* --- calls that wait --- */

static void hold_call(struct session *s, struct peer *p, sd_bus_message *m) {
        struct session_face *face = s->face;

        face->call = sd_bus_message_ref(m);
        face->caller = p;
}

static void drop_call(struct session_face *face) {
        face->call = sd_bus_message_unref(face->call);
        face->caller = NULL;
        face->creating = false;
}

static void reply_error(sd_bus_message *call, const struct refusal *why) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;

        bus_refuse(&e, why);
        sd_bus_reply_method_error(call, &e);
}

static void reply(const struct session *s, const struct refusal *why) {
        struct session_face *face = s->face;
        char path[SESSION_PATH_SIZE];

        if (!face || !face->call)
                return;
        if (why->code != ERROR_NONE)
                reply_error(face->call, why);
        else if (face->creating)
                sd_bus_reply_method_return(face->call, "o", session_path(s, path));
        else
                sd_bus_reply_method_return(face->call, NULL);
        drop_call(face);
}

void session_on_answer(struct session *s, const struct refusal *why, void *userdata) {
        reply(s, why);
}

void session_on_close(struct session *s, const char *reason, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const struct session_face *face = s->face;
        char path[SESSION_PATH_SIZE];

        if (!face || !face->owner ||
            sd_bus_message_new_signal(face->owner->bus, &m, session_path(s, path),
                                      BUS_NAME ".Session", "Closed") < 0)
                return;
        if (face->sender && sd_bus_message_set_destination(m, face->sender) < 0)
                return;
        if (sd_bus_message_append(m, "s", reason) >= 0)
                sd_bus_send(NULL, m, NULL);
}

/* A call of Close is what still waits here. */
void session_on_gone(struct session *s, void *userdata) {
        struct session_face *face = s->face;

        if (!face)
                return;
        reply(s, &(struct refusal){ .code = ERROR_NONE });
        sd_bus_track_unref(face->track);
        free(face->sender);
        free(face->path);
        free(face);
        s->face = NULL;
}

/* --- owners --- */

static int on_owner_gone(sd_bus_track *track, void *userdata) {
        session_close(userdata, "disconnected");
        return 0;
}

/* The session that is about to be opened ends with whoever sent m. Takes the path. */
static int own(struct peer *p, struct session *s, sd_bus_message *m, char *path) {
        struct session_face *face = calloc(1, sizeof(*face));
        int r;

        if (!face) {
                free(path);
                return -ENOMEM;
        }
        s->face = face;
        face->path = path;
        face->owner = p;
        if (!p->message_bus)
                return 0;
        face->sender = strdup(sd_bus_message_get_sender(m));
        if (!face->sender)
                return -ENOMEM;
        r = sd_bus_track_new(p->bus, &face->track, on_owner_gone, s);
        return r < 0 ? r : sd_bus_track_add_sender(face->track, m);
}

/* Some session of the list that this peer has to do with; closing one changes the list. */
static struct session *find_of_peer(const struct peer *p) {
        for (struct session *s = sessions_all(sessions_of(p)); s; s = s->next) {
                const struct session_face *face = s->face;

                if (face && (face->owner == p || face->caller == p))
                        return s;
        }
        return NULL;
}

void session_peer_gone(struct peer *p) {
        struct session *s;

        while ((s = find_of_peer(p))) {
                struct session_face *face = s->face;
                bool owner = face->owner == p;

                if (face->caller == p)
                        drop_call(face);
                if (!owner)
                        continue;
                face->owner = NULL;
                face->track = sd_bus_track_unref(face->track);
                session_close(s, "disconnected");
        }
}

bool session_peer_owns(const struct peer *p) {
        return find_of_peer(p);
}

/* --- methods of the manager --- */

/* {"initial": h, "token": s} */
static int read_options(sd_bus_message *m, int *ret, const char **ret_token) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        *ret = -1;
        *ret_token = NULL;
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;

                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && strcmp(key, "token") == 0)
                        r = options_read_token(m, ret_token) == ERROR_NONE ? 1 : -EINVAL;
                else if (r >= 0)
                        r = strcmp(key, "initial") == 0 ? sd_bus_message_read(m, "v", "h", ret) : 0;
                if (r <= 0)
                        return -EINVAL;
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int session_method_create(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        _cleanup_free_ char *path = NULL;
        struct refusal refusal;
        struct session *s;
        const char *model, *token;
        struct account_id who;
        int initial, r;

        r = peer_account(p, m, &who, e);
        if (r >= 0)
                r = sd_bus_message_read(m, "s", &model);
        if (r < 0)
                return r;
        if (read_options(m, &initial, &token) < 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (token && !(path = token_path(SESSION_PREFIX, p, m, token)))
                return -ENOMEM;
        if (path && find_by_path(sessions_of(p), path))
                return bus_error(e, ERROR_TOKEN, 0, 0);
        if (model[0] && !wire_name_valid(model))
                return bus_error(e, ERROR_MODEL_NOT_FOUND, 0, 0);
        if (sessions_create(sessions_of(p), p->owner->settings.workers, &who, model, initial, &s,
                            &refusal) != ERROR_NONE)
                return peer_refuse(p, who.uid, WIRE_VERB_CHAT, &refusal, e);
        r = own(p, s, m, TAKE_PTR(path));
        if (r < 0) {
                session_close(s, "failed");
                return r;
        }
        hold_call(s, p, m);
        ((struct session_face *)s->face)->creating = true;
        return 1;
}

static int append_session(sd_bus_message *list, const struct session *s) {
        const struct wire_session *state = &s->state;
        char path[SESSION_PATH_SIZE];

        return sd_bus_message_append(list, "(oustttttub)", session_path(s, path), s->uid, s->model,
                                     s->created_usec, session_expires_usec(s), state->tokens,
                                     state->tokens_max, state->kv_bytes, (uint32_t)state->turns,
                                     session_busy(s));
}

int session_list(sd_bus_message *m, struct peer *p, uid_t uid, bool all) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *list = NULL;
        int r = sd_bus_message_new_method_return(m, &list);

        if (r >= 0)
                r = sd_bus_message_open_container(list, 'a', "(oustttttub)");
        for (struct session *s = sessions_first(sessions_of(p)); r >= 0 && s; s = sessions_next(s))
                if (all || s->uid == uid)
                        r = append_session(list, s);
        if (r >= 0)
                r = sd_bus_message_close_container(list);
        return r < 0 ? r : sd_bus_message_send(list);
}

/* --- methods of a session --- */

static struct peer *current_peer(sd_bus_message *m) {
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(m)));
}

/* Who may look at a session need not be the one who pays for what is done with it. */
static int check_user(const struct session *s, sd_bus_message *m, sd_bus_error *e) {
        uid_t uid;
        int r = peer_uid(current_peer(m), m, &uid);

        if (r < 0 || uid == s->uid)
                return r;
        return bus_error(e, ERROR_NOT_AUTHORIZED, 0, 0);
}

static int method_prompt(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct session *s = userdata;
        enum error_code error = session_may_turn(s);
        int r = check_user(s, m, e);

        if (r < 0)
                return r;
        return error != ERROR_NONE ? bus_error(e, error, 0, 0)
                                   : manager_submit(m, current_peer(m), WIRE_VERB_CHAT, s, e);
}

static int method_append(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct session *s = userdata;
        struct refusal refusal;
        int input, r = check_user(s, m, e);

        if (r >= 0)
                r = sd_bus_message_read(m, "h", &input);
        if (r < 0)
                return r;
        if (session_append(s, input, &refusal) != ERROR_NONE)
                return peer_refuse(current_peer(m), s->uid, WIRE_VERB_CHAT, &refusal, e);
        hold_call(s, current_peer(m), m);
        return 1;
}

static int method_clear(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct session *s = userdata;
        struct refusal refusal;
        int r = check_user(s, m, e);

        if (r < 0)
                return r;
        if (session_clear(s, &refusal) != ERROR_NONE)
                return bus_refuse(e, &refusal);
        hold_call(s, current_peer(m), m);
        return 1;
}

/* Whatever waits is answered before: that it was cancelled. */
static int method_close(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct session *s = userdata;

        session_close(s, "closed");
        hold_call(s, current_peer(m), m);
        return 1;
}

static int get_expires(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "t", session_expires_usec(userdata));
}

static int get_turns(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct session *s = userdata;

        return sd_bus_message_append(reply, "u", (uint32_t)s->state.turns);
}

static int get_busy(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "b", session_busy(userdata));
}

/* Own sessions and, for root, all; the same error for what is missing and what is foreign. */
static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *e) {
        struct peer *p = userdata;
        sd_bus_message *m = sd_bus_get_current_message(bus);
        const char *name = path + strlen(SESSION_PREFIX);
        uint64_t id = 0;
        struct session *s = NULL;
        uid_t uid;
        int r;

        if (!m || *name++ != '/')
                return 0; /* the folder itself */
        r = peer_uid(p, m, &uid);
        if (r < 0)
                return r;
        if (strchr(name, '/'))
                s = find_by_path(sessions_of(p), path);
        if (s || path_number(name, &id))
                s = sessions_find(sessions_of(p), s ? s->id : id);
        if (!s || (s->uid != uid && uid != 0 && !authorized(p, m, ACTION_INSPECT_OTHERS)))
                return bus_error(e, ERROR_NO_SUCH_OBJECT, 0, 0);
        *ret_found = s;
        return 1;
}

#define NUMBER(name, type, field)                                                                  \
        SD_BUS_PROPERTY(name, type, NULL, offsetof(struct session, field), 0)

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Prompt", SD_BUS_ARGS("h", input, "a{sv}", options),
                                SD_BUS_RESULT("o", job, "h", output), method_prompt,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Append", SD_BUS_ARGS("h", messages), SD_BUS_NO_RESULT,
                                method_append, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Clear", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_clear,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Close", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_close,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Model", "s", bus_get_text, offsetof(struct session, model), 0),
        NUMBER("UID", "u", uid),
        NUMBER("CreatedUSec", "t", created_usec),
        SD_BUS_PROPERTY("ExpiresUSec", "t", get_expires, 0, 0),
        NUMBER("TokensUsed", "t", state.tokens),
        NUMBER("TokensMax", "t", state.tokens_max),
        SD_BUS_PROPERTY("Turns", "u", get_turns, 0, 0),
        NUMBER("KVBytes", "t", state.kv_bytes),
        SD_BUS_PROPERTY("Busy", "b", get_busy, 0, 0),
        SD_BUS_SIGNAL_WITH_ARGS("Closed", SD_BUS_ARGS("s", reason), 0),
        SD_BUS_VTABLE_END,
};

int session_register(struct peer *p) {
        return sd_bus_add_fallback_vtable(p->bus, NULL, SESSION_PREFIX, BUS_NAME ".Session",
                                          vtable, find, p);
}
