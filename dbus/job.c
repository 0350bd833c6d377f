/* org.bitnetd.Bitnetd1.Job: one object per job of the table, visible to its owner and to root; any
 * other path or caller gets the same error. There are no PropertiesChanged signals, because a bus
 * delivers those to everybody who listens; signals are sent to the owner's connection alone.
 *
 * Progressed is coalesced: a worker may report as often as it likes, a client hears of one job at
 * most once each PROGRESS_USEC, and at least once each BEAT_USEC, so that it knows that we live. A
 * client that does not read is not sent more of them.
 *
 * A job_face holds what the bus side knows of a job: who submitted it and who waits for its end.
 * It is freed when the table forgets the job. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/queue.h"
#include "dbus/peer.h"
#include "dbus/token.h"
#include "engine/base/macro.h"

static const uint64_t PROGRESS_USEC = 250000, BEAT_USEC = 10000000;
enum { UNREAD_MAX = 16 };

#define JOB_PREFIX BUS_ROOT "/job"

struct waiter {
        struct peer *peer;
        sd_bus_message *call;
        struct charge charge;
};

struct job_face {
        struct peer *owner;          /* NULL: not from the bus, or gone */
        char *path;                  /* that the owner chose, or NULL */
        char *sender;                /* unique name on a message bus */
        sd_bus_track *track;
        sd_event_source *tell;       /* when the next Progressed is due; NULL: never */
        uint64_t told;               /* when the last one was, monotonic */
        bool news;                   /* since then */
        struct waiter waiters[LIMIT_WAITERS_PER_JOB];
};

const char *job_path(const struct job *job, char buf[JOB_PATH_SIZE]) {
        const struct job_face *face = job->face;

        if (face && face->path)
                return face->path;
        snprintf(buf, JOB_PATH_SIZE, JOB_PREFIX "/%" PRIu64, job->id);
        return buf;
}

/* Few jobs have such a path. */
static struct job *find_by_path(const struct jobs *jobs, const char *path) {
        struct job *job;

        for (uint32_t i = 0; (job = jobs_at(jobs, i)); i++) {
                const struct job_face *face = job->face;

                if (face && face->path && strcmp(face->path, path) == 0)
                        return job;
        }
        return NULL;
}

int job_new_path(const struct peer *p, sd_bus_message *m, const char *token, char **ret) {
        *ret = NULL;
        if (!token)
                return 0;
        *ret = token_path(JOB_PREFIX, p, m, token);
        if (!*ret)
                return -ENOMEM;
        return find_by_path(p->owner->jobs, *ret) ? (int)ERROR_TOKEN : 0;
}

static struct job_face *face_of(struct job *job) {
        if (!job->face)
                job->face = calloc(1, sizeof(struct job_face));
        return job->face;
}

static int new_signal(sd_bus_message **ret, const struct job_face *face, const struct job *job,
                      const char *name) {
        char path[JOB_PATH_SIZE];
        int r = sd_bus_message_new_signal(face->owner->bus, ret, job_path(job, path),
                                          BUS_NAME ".Job", name);

        return r < 0 || !face->sender ? r : sd_bus_message_set_destination(*ret, face->sender);
}

/* EstimatedStartUSec. */
static uint64_t start_of(const struct queue_place *place) {
        return place->wait_usec ? now_realtime() + place->wait_usec : 0;
}

static void send_progressed(struct job_face *face, const struct job *job) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const struct wire_progress *p = &job->progress;
        struct queue_place place = queue_place(job);
        uint64_t unread = 0;
        double part = 0;
        bool valid = job_progress(job, &part);

        if (sd_bus_get_n_queued_write(face->owner->bus, &unread) < 0 || unread > UNREAD_MAX ||
            new_signal(&m, face, job, "Progressed") < 0)
                return;
        if (sd_bus_message_append(
                    m, "sa{sv}", wire_state_name(job->state), 9, "progress-valid", "b", valid,
                    "progress", "d", part, "tokens-in", "t", p->tokens_in, "tokens-read", "t",
                    p->tokens_read, "tokens-out", "t", p->tokens_out, "pieces", "u", p->pieces,
                    "pieces-done", "u", p->pieces_done, "queue-position", "u", place.position,
                    "estimated-start-usec", "t", start_of(&place)) >= 0)
                sd_bus_send(NULL, m, NULL);
}

static int on_tell(sd_event_source *source, uint64_t usec, void *userdata) {
        struct job *job = userdata;
        struct job_face *face = job->face;

        send_progressed(face, job);
        face->told = now_monotonic();
        face->news = false;
        sd_event_source_set_time(source, face->told + BEAT_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void job_on_progress(struct job *job, void *userdata) {
        struct job_face *face = job->face;

        if (!face || !face->tell || face->news)
                return;
        face->news = true;
        sd_event_source_set_time(face->tell, face->told + PROGRESS_USEC);
}

/* Nobody is told any more. */
static void disown(struct job_face *face) {
        face->tell = sd_event_source_disable_unref(face->tell);
        face->track = sd_bus_track_unref(face->track);
}

/* Whoever started the job is gone. */
static void lose_owner(struct job *job) {
        struct job_face *face = job->face;

        face->owner = NULL;
        disown(face);
        if (!job_finished(job) && !job_detached(job))
                control_cancel(job, ERROR_CANCELLED);
}

static int on_owner_gone(sd_bus_track *track, void *userdata) {
        lose_owner(userdata);
        return 0;
}

int job_own(struct peer *p, struct job *job, sd_bus_message *m, char *path) {
        struct job_face *face = face_of(job);
        int r;

        if (!face) {
                free(path);
                return -ENOMEM;
        }
        face->path = path;
        face->owner = p;
        face->told = now_monotonic();
        r = sd_event_add_time(p->owner->event, &face->tell, CLOCK_MONOTONIC,
                              face->told + BEAT_USEC, 0, on_tell, job);
        if (r < 0 || !p->message_bus)
                return r;
        face->sender = strdup(sd_bus_message_get_sender(m));
        if (!face->sender)
                return -ENOMEM;
        r = sd_bus_track_new(p->bus, &face->track, on_owner_gone, job);
        return r < 0 ? r : sd_bus_track_add_sender(face->track, m);
}

static const char *result_word(const struct job *job) {
        return job_finished(job) ? wire_state_name(job->state) : "";
}

static int append_details(sd_bus_message *m, const struct job *job) {
        const struct wire_done *d = &job->done;

        return sd_bus_message_append(
                m, "a{sv}", 10, "error", "s",
                job->error == ERROR_NONE ? "" : error_row(job->error)->dbus_name, "message", "s",
                job->error == ERROR_NONE ? "" : error_row(job->error)->text, "finish", "s",
                job->error != ERROR_NONE ? ""
                : d->finish == 0         ? "stop"
                                         : "length",
                "tokens-in", "t", d->tokens_in, "tokens-out", "t", d->tokens_out, "bytes-in", "t",
                d->bytes_in, "bytes-covered", "t", d->bytes_covered, "pieces", "u", d->pieces,
                "value", "t", job->value, "limit", "t", job->limit);
}

static void waiter_done(struct waiter *w) {
        w->call = sd_bus_message_unref(w->call);
        charge_done(&w->charge);
}

static int reply_wait(sd_bus_message *call, const struct job *job) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(call, &reply);

        if (r >= 0)
                r = sd_bus_message_append(reply, "s", result_word(job));
        if (r >= 0)
                r = append_details(reply, job);
        return r < 0 ? r : sd_bus_message_send(reply);
}

static void send_completed(struct job_face *face, const struct job *job) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        if (new_signal(&m, face, job, "Completed") < 0)
                return;
        if (sd_bus_message_append(m, "s", result_word(job)) >= 0 && append_details(m, job) >= 0)
                sd_bus_send(NULL, m, NULL);
}

void job_on_end(struct job *job, void *userdata) {
        struct job_face *face = job->face;

        if (!face)
                return;
        if (face->owner)
                send_completed(face, job);
        for (unsigned i = 0; i < LIMIT_WAITERS_PER_JOB; i++)
                if (face->waiters[i].call) {
                        (void)reply_wait(face->waiters[i].call, job);
                        waiter_done(&face->waiters[i]);
                }
        disown(face);
}

void job_on_forget(struct job *job, void *userdata) {
        struct job_face *face = job->face;

        if (!face)
                return;
        for (unsigned i = 0; i < LIMIT_WAITERS_PER_JOB; i++)
                waiter_done(&face->waiters[i]);
        disown(face);
        free(face->sender);
        free(face->path);
        free(face);
        job->face = NULL;
}

void job_peer_gone(struct peer *p) {
        struct jobs *jobs = p->owner->jobs;
        struct job *job;
        uint32_t i = 0;

        while ((job = jobs_at(jobs, i++))) {
                struct job_face *face = job->face;

                if (!face)
                        continue;
                for (unsigned k = 0; k < LIMIT_WAITERS_PER_JOB; k++)
                        if (face->waiters[k].peer == p)
                                waiter_done(&face->waiters[k]);
                if (face->owner != p)
                        continue;
                lose_owner(job);
                i = 0; /* an end may have moved the table; what was handled is skipped */
        }
}

bool job_peer_owns(const struct peer *p) {
        const struct job *job;

        for (uint32_t i = 0; (job = jobs_at(p->owner->jobs, i)); i++) {
                const struct job_face *face = job->face;

                if (face && face->owner == p && !job_finished(job))
                        return true;
        }
        return false;
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *job = userdata;

        control_cancel(job, ERROR_CANCELLED);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_set_priority(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        enum wire_priority priority;
        enum error_code error;
        const char *word;
        int r = sd_bus_message_read(m, "s", &word);

        if (r < 0)
                return r;
        if (strcmp(word, "background") == 0)
                priority = WIRE_PRIORITY_BACKGROUND;
        else if (strcmp(word, "interactive") == 0)
                priority = WIRE_PRIORITY_INTERACTIVE;
        else
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        error = control_set_priority(userdata, priority);
        return error != ERROR_NONE ? bus_error(e, error, 0, 0)
                                   : sd_bus_reply_method_return(m, NULL);
}

/* Root may look at jobs of others, but what they wrote is theirs. */
static int method_take_output(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        const struct peer *p = sd_bus_slot_get_userdata(
                sd_bus_get_current_slot(sd_bus_message_get_bus(m)));
        struct job *job = userdata;
        _cleanup_close_ int output = -1;
        enum error_code error;
        uid_t uid;
        int r = peer_uid(p, m, &uid);

        if (r < 0)
                return r;
        error = uid == job->uid ? control_take_output(job, &output) : ERROR_NOT_AUTHORIZED;
        return error != ERROR_NONE ? bus_error(e, error, 0, 0)
                                   : sd_bus_reply_method_return(m, "h", output);
}

static int method_wait(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *job = userdata;
        struct account *account = job->charge.account;
        struct job_face *face = face_of(job);
        struct waiter *w = NULL;
        sd_bus *bus = sd_bus_message_get_bus(m);

        if (job_finished(job))
                return reply_wait(m, job);
        if (!face)
                return -ENOMEM;
        for (unsigned i = 0; i < LIMIT_WAITERS_PER_JOB && !w; i++)
                if (!face->waiters[i].call)
                        w = &face->waiters[i];
        if (!w)
                return bus_error(e, ERROR_OBJECTS, LIMIT_WAITERS_PER_JOB + 1,
                                 LIMIT_WAITERS_PER_JOB);
        if (account_charge(account, CHARGE_OBJECT, &w->charge) != 0)
                return bus_error(e, ERROR_OBJECTS, account->used[CHARGE_OBJECT] + 1,
                                 account_limit(account, CHARGE_OBJECT));
        w->peer = sd_bus_slot_get_userdata(sd_bus_get_current_slot(bus));
        w->call = sd_bus_message_ref(m);
        return 1; /* answered at the job's end */
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct job *job = userdata;

        return sd_bus_message_append(reply, "s", wire_state_name(job->state));
}

static int get_result(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", result_word(userdata));
}

static int get_error(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        const struct job *job = userdata;
        const struct error_row *row = error_row(job->error);

        return sd_bus_message_append(reply, "s",
                                     job->error == ERROR_NONE                   ? ""
                                     : strcmp(property, "ErrorName") == 0 ? row->dbus_name
                                                                          : row->text);
}

static int get_verb(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", job_verb_name(userdata));
}

static int get_priority(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", job_priority_name(userdata));
}

static int get_queue_position(sd_bus *bus, const char *path, const char *interface,
                              const char *property, sd_bus_message *reply, void *userdata,
                              sd_bus_error *e) {
        return sd_bus_message_append(reply, "u", queue_place(userdata).position);
}

static int get_queue_tokens(sd_bus *bus, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *e) {
        return sd_bus_message_append(reply, "t", queue_place(userdata).tokens_ahead);
}

static int get_estimated_start(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *e) {
        struct queue_place place = queue_place(userdata);

        return sd_bus_message_append(reply, "t", start_of(&place));
}

static int get_detached(sd_bus *bus, const char *path, const char *interface,
                        const char *property, sd_bus_message *reply, void *userdata,
                        sd_bus_error *e) {
        return sd_bus_message_append(reply, "b", job_detached(userdata));
}

static int get_kept_until(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *e) {
        const struct job *job = userdata;
        uint64_t now = now_monotonic(), until = 0;

        if (job->keeper && job->keep_until > now)
                until = now_realtime() + (job->keep_until - now);
        return sd_bus_message_append(reply, "t", until);
}

static int get_progress(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        double progress = 0;
        bool valid = job_progress(userdata, &progress);

        if (strcmp(property, "ProgressValid") == 0)
                return sd_bus_message_append(reply, "b", valid);
        return sd_bus_message_append(reply, "d", progress);
}

/* Own jobs and, for root and whom polkit lets inspect others, all; the same error for what is
 * missing and what is foreign. */
static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *e) {
        struct peer *p = userdata;
        sd_bus_message *m = sd_bus_get_current_message(bus);
        const char *name = path + strlen(JOB_PREFIX);
        uint64_t id;
        struct job *job = NULL;
        uid_t uid;
        int r;

        if (!m || *name++ != '/')
                return 0; /* the folder itself */
        r = peer_uid(p, m, &uid);
        if (r < 0)
                return r;
        if (strchr(name, '/'))
                job = find_by_path(p->owner->jobs, path);
        else if (path_number(name, &id))
                job = jobs_find(p->owner->jobs, id);
        if (!job || (job->uid != uid && uid != 0 && !authorized(p, m, ACTION_INSPECT_OTHERS)))
                return bus_error(e, ERROR_NO_SUCH_OBJECT, 0, 0);
        *ret_found = job;
        return 1;
}

#define NUMBER(name, type, field) SD_BUS_PROPERTY(name, type, NULL, offsetof(struct job, field), 0)

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_cancel,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("s", result, "a{sv}", details), method_wait,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("TakeOutput", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", output),
                                method_take_output, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetPriority", SD_BUS_ARGS("s", priority), SD_BUS_NO_RESULT,
                                method_set_priority, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("State", "s", get_state, 0, 0),
        SD_BUS_PROPERTY("Result", "s", get_result, 0, 0),
        SD_BUS_PROPERTY("ErrorName", "s", get_error, 0, 0),
        SD_BUS_PROPERTY("ErrorMessage", "s", get_error, 0, 0),
        SD_BUS_PROPERTY("Verb", "s", get_verb, 0, 0),
        SD_BUS_PROPERTY("Model", "s", bus_get_text, offsetof(struct job, model), 0),
        SD_BUS_PROPERTY("Priority", "s", get_priority, 0, 0),
        NUMBER("UID", "u", uid),
        NUMBER("CreatedUSec", "t", created_usec),
        NUMBER("StartedUSec", "t", started_usec),
        NUMBER("FinishedUSec", "t", finished_usec),
        SD_BUS_PROPERTY("QueuePosition", "u", get_queue_position, 0, 0),
        SD_BUS_PROPERTY("QueueTokensAhead", "t", get_queue_tokens, 0, 0),
        SD_BUS_PROPERTY("EstimatedStartUSec", "t", get_estimated_start, 0, 0),
        SD_BUS_PROPERTY("Detached", "b", get_detached, 0, 0),
        SD_BUS_PROPERTY("KeptUntilUSec", "t", get_kept_until, 0, 0),
        SD_BUS_PROPERTY("ProgressValid", "b", get_progress, 0, 0),
        SD_BUS_PROPERTY("Progress", "d", get_progress, 0, 0),
        NUMBER("TokensIn", "t", progress.tokens_in),
        NUMBER("TokensCached", "t", done.tokens_cached),
        NUMBER("TokensOut", "t", progress.tokens_out),
        NUMBER("BytesIn", "t", progress.bytes_in),
        NUMBER("BytesCovered", "t", progress.bytes_covered),
        NUMBER("PiecesDone", "u", progress.pieces_done),
        NUMBER("Pieces", "u", progress.pieces),
        SD_BUS_SIGNAL_WITH_ARGS("Progressed", SD_BUS_ARGS("s", state, "a{sv}", details), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Completed", SD_BUS_ARGS("s", result, "a{sv}", details), 0),
        SD_BUS_VTABLE_END,
};

int job_register(struct peer *p) {
        return sd_bus_add_fallback_vtable(p->bus, NULL, JOB_PREFIX, BUS_NAME ".Job", vtable, find,
                                          p);
}
