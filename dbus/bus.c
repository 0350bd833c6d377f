/* Connections. On a message bus the sender's uid comes from the bus daemon, on the private socket
 * from the kernel when the connection is accepted; never from an argument. A private connection is
 * charged to its uid and served as a peer; the one method a message bus would answer itself (Hello)
 * is answered here too, so that tools which insist on it work. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/broker/log.h"
#include "daemon/broker/metrics.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"

enum { CALL_USEC = 2000000, LEFT_OVER_CALLS = 1024 };

bool path_number(const char *name, uint64_t *ret) {
        unsigned long long n;
        char *end;

        errno = 0;
        n = strtoull(name, &end, 10);
        if (errno || *name < '0' || *name > '9' || *end || (*name == '0' && name[1]))
                return false;
        *ret = n;
        return true;
}

int peer_uid(const struct peer *p, sd_bus_message *m, uid_t *ret) {
        sd_bus_creds *creds = NULL;
        int r;

        if (!p->message_bus) {
                *ret = p->uid;
                return 0;
        }
        r = sd_bus_query_sender_creds(m, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, ret);
        sd_bus_creds_unref(creds);
        return r < 0 ? r : 0;
}

/* FNV-1a over the unique name; a private connection is one client. The top bit tells them from the
 * connections of HTTP. */
uint64_t peer_client(const struct peer *p, sd_bus_message *m) {
        const char *c = p->message_bus ? sd_bus_message_get_sender(m) : NULL;
        uint64_t hash = UINT64_C(14695981039346656037);

        if (!c)
                return p->number | WIRE_REF_WORKER;
        for (; *c; c++)
                hash = (hash ^ (unsigned char)*c) * UINT64_C(1099511628211);
        return hash | WIRE_REF_WORKER;
}

int bus_refuse(sd_bus_error *e, const struct refusal *why) {
        char text[192];

        return sd_bus_error_set(e, error_row(why->code)->dbus_name,
                                error_format(why, text, sizeof(text)));
}

int peer_refuse(const struct peer *p, uid_t uid, enum wire_verb verb, const struct refusal *why,
                sd_bus_error *e) {
        peer_broker(p)->metrics->refusals[why->code]++;
        log_refused(uid, verb, 0, why->code);
        return bus_refuse(e, why);
}

int bus_error(sd_bus_error *e, enum error_code code, uint64_t value, uint64_t limit) {
        return bus_refuse(e, &(struct refusal){ .code = code, .value = value, .limit = limit });
}

int bus_get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                 sd_bus_message *reply, void *userdata, sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", (const char *)userdata);
}

static void peer_free(struct peer *p) {
        struct peer **i = &p->owner->peers;

        while (*i != p)
                i = &(*i)->next;
        *i = p->next;
        session_peer_gone(p);
        job_peer_gone(p);
        residency_peer_gone(p);
        authorize_peer_gone(p);
        count_peer_gone(p);
        sd_event_source_disable_unref(p->gone);
        sd_event_source_disable_unref(p->wake);
        sd_bus_close_unref(p->bus);
        charge_done(&p->charge);
        free(p);
}

static int on_gone(sd_event_source *source, void *userdata) {
        struct peer *p = userdata;

        if (p->message_bus)
                log_event(LOG_BUS_LOST, ECONNRESET, 0, 0);
        peer_free(p);
        return 0;
}

/* A private client that calls and calls and never reads the replies. */
static bool does_not_read(const struct peer *p) {
        uint64_t waiting = 0;

        return !p->message_bus && sd_bus_get_n_queued_write(p->bus, &waiting) >= 0 &&
               waiting > LIMIT_BUS_REPLIES;
}

/* What lies in the queue, but no more than so many: whoever goes on sending must not keep the loop
 * from everybody else, nor from his own end. */
static void process(struct peer *p, unsigned most) {
        for (unsigned i = 0; i < most && !p->gone; i++)
                if (sd_bus_process(p->bus, NULL) <= 0)
                        break;
}

/* Calls that came in one piece with the end of the authentication are in libsystemd's buffer, where
 * no event will tell of them: it is made to look there once. */
static int on_wake(sd_event_source *source, void *userdata) {
        struct peer *p = userdata;

        process(p, LIMIT_BUS_REPLIES);
        return 0;
}

static void note_connected(struct peer *p, sd_bus_message *m) {
        if (!p->message_bus && !p->wake &&
            sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", "Connected") > 0)
                sd_event_add_defer(p->owner->event, &p->wake, on_wake, p);
}

/* The connection must not be freed while sd-bus is dispatching from it. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct peer *p = userdata;
        struct metrics *metrics = peer_broker(p)->metrics;
        bool over = does_not_read(p) ||
                    sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", "Disconnected") > 0;

        note_connected(p, m);
        metrics->bus_calls += sd_bus_message_is_method_call(m, NULL, NULL) > 0;
        if (over && !p->gone)
                sd_event_add_defer(p->owner->event, &p->gone, on_gone, p);
        return over;
}

static int hello(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const struct peer *p = userdata;

        return sd_bus_reply_method_return(m, "s", p->name);
}

static const sd_bus_vtable hello_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Hello", NULL, "s", hello, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static bool name_taken(const struct bus *b, const char *name) {
        for (const struct peer *p = b->peers; p; p = p->next)
                if (strcmp(p->name, name) == 0)
                        return true;
        return false;
}

/* No bus daemon gives out names that begin with a zero. */
static void choose_name(const struct bus *b, char ret[PEER_NAME_SIZE]) {
        uint32_t random;

        do {
                randombytes_buf(&random, sizeof(random));
                snprintf(ret, PEER_NAME_SIZE, ":0.%" PRIu32, random);
        } while (name_taken(b, ret));
}

static struct peer *peer_new(struct bus *b, sd_bus *bus, bool message_bus) {
        struct peer *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->owner = b;
        p->number = ++b->last_peer;
        p->bus = sd_bus_ref(bus);
        if (!message_bus)
                choose_name(b, p->name);
        p->message_bus = message_bus;
        p->next = b->peers;
        b->peers = p;
        return p;
}

static int peer_register(struct peer *p) {
        int r = sd_bus_add_filter(p->bus, NULL, on_message, p);

        if (r >= 0)
                r = manager_register(p);
        if (r >= 0)
                r = job_register(p);
        if (r >= 0)
                r = model_register(p);
        if (r >= 0)
                r = quota_register(p);
        if (r >= 0)
                r = session_register(p);
        if (r >= 0 && !p->message_bus)
                r = sd_bus_add_object_vtable(p->bus, NULL, "/org/freedesktop/DBus",
                                             "org.freedesktop.DBus", hello_vtable, p);
        return r;
}

static int start_peer(sd_bus *bus, int fd) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);

        if (r >= 0)
                r = sd_bus_set_fd(bus, fd, fd);
        if (r < 0) {
                close(fd);
                return r;
        }
        r = sd_bus_set_server(bus, 1, id);
        if (r >= 0)
                r = sd_bus_negotiate_fds(bus, 1);
        if (r >= 0)
                r = sd_bus_set_connected_signal(bus, 1);
        return r < 0 ? r : sd_bus_start(bus);
}

/* Takes the descriptor and, on success, the charge. */
static int add_peer(struct bus *b, int fd, uid_t uid, struct charge *charge) {
        sd_bus *bus = NULL;
        struct peer *p = NULL;
        int r = sd_bus_new(&bus);

        if (r < 0) {
                close(fd);
                return r;
        }
        r = start_peer(bus, fd);
        if (r >= 0)
                p = peer_new(b, bus, false);
        if (p) {
                p->uid = uid;
                p->charge = *charge;
                charge->account = NULL;
                peer_learn_slice(p);
                r = peer_register(p);
                if (r >= 0)
                        r = sd_bus_attach_event(bus, b->event, SD_EVENT_PRIORITY_NORMAL);
                if (r < 0)
                        peer_free(p);
        }
        sd_bus_unref(bus);
        return r;
}

static unsigned count_peers(const struct bus *b, uid_t uid) {
        unsigned n = 0;

        for (const struct peer *p = b->peers; p; p = p->next)
                n += !p->message_bus && p->uid == uid;
        return n;
}

void bus_drop_idle(struct bus *b) {
        for (struct peer *p = b->peers, *next; p; p = next) {
                next = p->next;
                if (!p->message_bus && !job_peer_owns(p) && !residency_peer_owns(p) &&
                    !session_peer_owns(p) && !count_peer_waits(p))
                        peer_free(p);
        }
}

bool bus_has_peers(const struct bus *b) {
        for (const struct peer *p = b->peers; p; p = p->next)
                if (!p->message_bus)
                        return true;
        return false;
}

/* When the bus daemon has answered, everything that was sent to the name lies in our queue. */
void bus_release_name(struct bus *b) {
        for (struct peer *p = b->peers; p; p = p->next)
                if (p->message_bus && sd_bus_release_name(p->bus, BUS_NAME) >= 0)
                        process(p, LEFT_OVER_CALLS);
}

void bus_stop_accepting(struct bus *b) {
        accept_pause_done(&b->pause);
        sd_event_source_set_enabled(b->io, SD_EVENT_OFF);
}

/* Nobody is told why: a bus client that was refused sees the end of its connection. */
static int on_connection(sd_event_source *source, int listening, uint32_t revents,
                         void *userdata) {
        struct bus *b = userdata;
        const struct workers_settings *s = workers_settings(b->settings.workers);
        struct account *account = NULL;
        struct charge charge = {};
        struct account_id id;
        struct ucred who;
        int fd, r = accept_peer(listening, &fd, &who);

        if (r < 0) {
                if (accept_failed(&b->pause, b->io, r))
                        bus_drop_idle(b);
                return 0;
        }
        /* Whose slice is not known hears so when he asks for something that has to be paid. */
        if (settings_account_of(s->settings, fd, who.uid, &id) < 0)
                id = (struct account_id){ .uid = who.uid };
        if (count_peers(b, who.uid) < LIMIT_BUS_PEERS &&
            accounts_get(s->accounts, &id, &account) == 0 &&
            account_charge(account, CHARGE_CONNECTION, &charge) == 0) {
                accept_note_group(account, &who);
                add_peer(b, fd, who.uid, &charge);
        } else
                close(fd);
        charge_done(&charge);
        account_unref(account);
        return 0;
}

static int connect_message_bus(struct bus *b) {
        sd_bus *bus = NULL;
        struct peer *p = NULL;
        int r = b->settings.system ? sd_bus_open_system(&bus) : sd_bus_open_user(&bus);

        /* Asking for a sender's uid is a call that waits. */
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(bus, CALL_USEC);
        if (r >= 0)
                p = peer_new(b, bus, true);
        if (p) {
                r = peer_register(p);
                if (r >= 0)
                        r = sd_bus_attach_event(bus, b->event, SD_EVENT_PRIORITY_NORMAL);
                if (r >= 0)
                        r = sd_bus_request_name(bus, BUS_NAME, 0);
                if (r < 0)
                        peer_free(p);
        }
        sd_bus_unref(bus);
        return r;
}

int bus_new(struct bus **ret, sd_event *event, int listening,
            const struct bus_settings *settings) {
        struct bus *b = calloc(1, sizeof(*b));
        int r;

        if (!b)
                return -ENOMEM;
        b->settings = *settings;
        b->event = event;
        b->listening = -1;
        r = sd_event_add_io(event, &b->io, listening, EPOLLIN, on_connection, b);
        if (r < 0) {
                free(b);
                return r;
        }
        b->listening = listening;
        b->jobs = workers_settings(settings->workers)->jobs;
        jobs_set_sink(b->jobs, &(struct job_sink){ job_on_progress, job_on_end, job_on_forget, b });
        b->sessions = workers_settings(settings->workers)->sessions;
        sessions_set_sink(b->sessions,
                          &(struct session_sink){ session_on_answer, session_on_close,
                                                  session_on_gone, b });
        b->counts = workers_settings(settings->workers)->counts;
        counts_set_sink(b->counts, count_on_answer, b);
        r = connect_message_bus(b);
        if (r < 0)
                log_event(LOG_BUS_MISSING, (uint64_t)-r, 0, 0);
        *ret = b;
        return 0;
}

struct bus *bus_free(struct bus *b) {
        if (!b)
                return NULL;
        while (b->peers)
                peer_free(b->peers);
        accept_pause_done(&b->pause);
        sd_event_source_disable_unref(b->io);
        if (b->listening >= 0)
                close(b->listening);
        free(b);
        return NULL;
}
