/* Who may administer. Root may, and the user that runs the daemon (his own in user mode; in system
 * mode the service's account, for ExecReload=). On a message bus everybody else is asked about at
 * polkit, without waiting for it; on the private socket, where a client has no name that polkit
 * could look up, everybody else is refused.
 *
 * polkit is asked about the unique name of the sender, never about a pid or a uid, which could be
 * somebody else's by the time it looks. Only a well-formed "yes" counts. Whatever else happens is a
 * refusal: an error, no answer in time, no polkit, a sender that is gone, a uid that cannot be had
 * again. The operation has not begun before that, its arguments are not even read.
 *
 * A check belongs to the connection it came by. After a yes it stays for a while as a grant, so
 * that objects which exist for administrators only can be looked at under the unique name that was
 * authorised; a unique name is never given out twice. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "policy/limits.h"

#define POLKIT_NAME      "org.freedesktop.PolicyKit1"
#define POLKIT_PATH      "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"

enum { POLKIT_INTERACTIVE = 1 }; /* AllowUserInteraction */

struct check {
        struct check *next;
        struct peer *peer;
        sd_bus_message *call;
        uid_t uid;               /* of the sender, when the call came */
        const char *action;
        authorized_run run;
        bool interactive;
        uint64_t id;             /* how a dialog is taken back */
        sd_bus_slot *answer;     /* what polkit will say; NULL: a grant */
        sd_bus_track *track;     /* the sender */
        uint64_t until_usec;     /* of a grant */
};

bool is_administrator(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

static void check_free(struct check *c) {
        struct check **i = &c->peer->owner->checks;

        while (*i && *i != c)
                i = &(*i)->next;
        if (*i)
                *i = c->next;
        sd_bus_slot_unref(c->answer);
        sd_bus_track_unref(c->track);
        sd_bus_message_unref(c->call);
        free(c);
}

void authorize_peer_gone(struct peer *p) {
        for (struct check *c = p->owner->checks, *next; c; c = next) {
                next = c->next;
                if (c->peer == p)
                        check_free(c);
        }
}

static bool is_current_grant(const struct check *c) {
        return !c->answer && now_monotonic() < c->until_usec;
}

bool authorized(const struct peer *p, sd_bus_message *m, const char *action) {
        const char *sender = sd_bus_message_get_sender(m);

        if (!p->message_bus || !sender)
                return false;
        for (const struct check *c = p->owner->checks; c; c = c->next)
                if (c->peer == p && is_current_grant(c) && strcmp(c->action, action) == 0 &&
                    strcmp(sd_bus_message_get_sender(c->call), sender) == 0)
                        return true;
        return false;
}

/* The dialog of a question that nobody waits for any more. */
static void take_back(struct check *c) {
        char id[32];

        snprintf(id, sizeof(id), "bitnetd-%" PRIu64, c->id);
        if (c->interactive)
                sd_bus_call_method_async(c->peer->bus, NULL, POLKIT_NAME, POLKIT_PATH,
                                         POLKIT_INTERFACE, "CancelCheckAuthorization", NULL, NULL,
                                         "s", id);
}

static int on_sender_gone(sd_bus_track *track, void *userdata) {
        struct check *c = userdata;

        if (c->answer)
                take_back(c);
        check_free(c);
        return 0;
}

/* ret_challenge: polkit would have said yes to somebody who proves who he is. */
static bool said_yes(sd_bus_message *answer, bool *ret_challenge) {
        int yes = 0, challenge = 0;

        *ret_challenge = false;
        if (sd_bus_message_is_method_error(answer, NULL) ||
            !sd_bus_message_has_signature(answer, "(bba{ss})") ||
            sd_bus_message_enter_container(answer, 'r', "bba{ss}") <= 0 ||
            sd_bus_message_read(answer, "bb", &yes, &challenge) <= 0)
                return false;
        *ret_challenge = challenge;
        return yes;
}

/* The sender is there, and is who he was. */
static bool is_unchanged(const struct check *c) {
        uid_t uid = (uid_t)-1;

        return sd_bus_track_count(c->track) > 0 && peer_uid(c->peer, c->call, &uid) >= 0 &&
               uid == c->uid;
}

static int refuse(const struct check *c, bool challenge, sd_bus_error *e) {
        if (challenge && !c->interactive)
                return sd_bus_error_set(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                        "Authorization needs interaction, which the call forbids");
        return bus_error(e, ERROR_NOT_AUTHORIZED, 0, 0);
}

static int on_answer(sd_bus_message *answer, void *userdata, sd_bus_error *ret_error) {
        struct check *c = userdata;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        bool challenge, yes = said_yes(answer, &challenge);
        int r;

        c->answer = sd_bus_slot_unref(c->answer);
        if (sd_bus_message_is_method_error(answer, SD_BUS_ERROR_NO_REPLY))
                take_back(c);
        if (yes && is_unchanged(c)) {
                c->until_usec = now_monotonic() + LIMIT_GRANT_USEC;
                r = c->run(c->call, c->peer, &e);
        } else
                r = refuse(c, challenge, &e);
        if (r < 0)
                sd_bus_reply_method_errno(c->call, r, &e);
        sd_bus_error_free(&e);
        if (!is_current_grant(c))
                check_free(c);
        return 0;
}

/* Makes room for one more of this uid: grants that are over go, then the oldest one of the uid.
 * False: as many are being asked about as may be. The list has the newest first. */
static bool make_room(struct bus *b, uid_t uid) {
        struct check *oldest = NULL;
        unsigned of_uid = 0, asked = 0;

        for (struct check *c = b->checks, *next; c; c = next) {
                next = c->next;
                if (!c->answer && !is_current_grant(c)) {
                        check_free(c);
                        continue;
                }
                of_uid += c->uid == uid;
                asked += c->answer != NULL;
                if (c->uid == uid && !c->answer)
                        oldest = c;
        }
        if (of_uid >= LIMIT_CHECKS_PER_UID && oldest) {
                check_free(oldest);
                of_uid--;
        }
        return of_uid < LIMIT_CHECKS_PER_UID && asked < LIMIT_CHECKS;
}

/* Fails when the sender is gone already. */
static int track_sender(struct check *c) {
        int r = sd_bus_track_new(c->peer->bus, &c->track, on_sender_gone, c);

        return r < 0 ? r : sd_bus_track_add_sender(c->track, c->call);
}

static int ask_polkit(struct check *c) {
        sd_bus_message *question = NULL;
        char id[32];
        int r = sd_bus_message_new_method_call(c->peer->bus, &question, POLKIT_NAME, POLKIT_PATH,
                                               POLKIT_INTERFACE, "CheckAuthorization");

        snprintf(id, sizeof(id), "bitnetd-%" PRIu64, c->id);
        if (r >= 0)
                r = sd_bus_message_append(question, "(sa{sv})sa{ss}us", "system-bus-name", 1,
                                          "name", "s", sd_bus_message_get_sender(c->call),
                                          c->action, 0, c->interactive ? POLKIT_INTERACTIVE : 0,
                                          c->interactive ? id : "");
        if (r >= 0)
                r = sd_bus_call_async(c->peer->bus, &c->answer, question, on_answer, c,
                                      c->interactive ? LIMIT_DIALOG_USEC : LIMIT_POLKIT_USEC);
        sd_bus_message_unref(question);
        return r;
}

static int check_new(struct peer *p, sd_bus_message *m, uid_t uid, const char *action,
                     authorized_run run) {
        struct check *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (struct check){ .next = p->owner->checks, .peer = p, .call = sd_bus_message_ref(m),
                             .uid = uid, .action = action, .run = run,
                             .id = ++p->owner->last_check };
        c->interactive = sd_bus_message_get_allow_interactive_authorization(m) > 0;
        p->owner->checks = c;
        r = track_sender(c);
        if (r >= 0)
                r = ask_polkit(c);
        if (r < 0)
                check_free(c);
        return r;
}

int authorize(struct peer *p, sd_bus_message *m, const char *action, authorized_run run,
              sd_bus_error *e) {
        uid_t uid = (uid_t)-1;
        int r = peer_uid(p, m, &uid);

        if (r < 0)
                return r;
        if (is_administrator(uid))
                return run(m, p, e);
        if (!p->message_bus)
                return bus_error(e, ERROR_NOT_AUTHORIZED, 0, 0);
        if (!make_room(p->owner, uid))
                return bus_error(e, ERROR_RATE_LIMITED, 0, LIMIT_CHECKS_PER_UID);
        r = check_new(p, m, uid, action, run);
        return r < 0 ? bus_error(e, ERROR_NOT_AUTHORIZED, 0, 0) : 1; /* answered later */
}
