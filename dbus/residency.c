/* Leases of models, bound to the connection that asked: Prepare and Release. On a message bus the
 * sender is tracked, so that a lease never outlives its client. A second Prepare of the same
 * connection for the same model is the first one again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/peer.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"

struct residency {
        struct residency *next;
        struct peer *peer;
        sd_bus_track *track;   /* of a sender on a message bus */
        char *sender;          /* its unique name; NULL: a private connection */
        struct hold *hold;
};

static struct residency *residency_free(struct residency *l) {
        struct bus *b = l->peer->owner;
        struct residency **p = &b->residencies;

        while (*p && *p != l)
                p = &(*p)->next;
        if (*p)
                *p = l->next;
        workers_let_go(b->settings.workers, l->hold);
        sd_bus_track_unref(l->track);
        free(l->sender);
        free(l);
        return NULL;
}

void residency_peer_gone(struct peer *p) {
        for (struct residency *l = p->owner->residencies, *next; l; l = next) {
                next = l->next;
                if (l->peer == p)
                        residency_free(l);
        }
}

void bus_end_residencies(struct bus *b) {
        while (b->residencies)
                residency_free(b->residencies);
}

bool residency_peer_owns(const struct peer *p) {
        for (const struct residency *l = p->owner->residencies; l; l = l->next)
                if (l->peer == p)
                        return true;
        return false;
}

static int on_sender_gone(sd_bus_track *track, void *userdata) {
        residency_free(userdata);
        return 0;
}

static bool same_sender(const struct residency *l, const struct peer *p, sd_bus_message *m) {
        const char *sender = p->message_bus ? sd_bus_message_get_sender(m) : NULL;

        return l->peer == p && (!sender || (l->sender && strcmp(l->sender, sender) == 0));
}

static struct residency *find(const struct peer *p, sd_bus_message *m, const char *name) {
        for (struct residency *l = p->owner->residencies; l; l = l->next)
                if (same_sender(l, p, m) && strcmp(l->hold->name, name) == 0)
                        return l;
        return NULL;
}

static int watch_sender(struct residency *l, sd_bus_message *m) {
        int r;

        if (!l->peer->message_bus)
                return 0;
        l->sender = strdup(sd_bus_message_get_sender(m));
        if (!l->sender)
                return -ENOMEM;
        r = sd_bus_track_new(l->peer->bus, &l->track, on_sender_gone, l);
        return r < 0 ? r : sd_bus_track_add_sender(l->track, m);
}

/* The model by its name in the message, as this user may have it. */
static enum error_code choose(struct peer *p, const struct account_id *who, const char *name,
                              const struct store_model **ret) {
        const struct store_model *model;
        struct limits limits;

        accounts_limits(peer_broker(p)->accounts, who, &limits);
        model = store_choose(peer_broker(p)->store, limits_text(&limits, QUOTA_DEFAULT_MODEL),
                             name);
        if (!model)
                return ERROR_MODEL_NOT_FOUND;
        if (!limits_allow_model(&limits, model->name))
                return ERROR_NOT_AUTHORIZED;
        if (model->state == ERROR_MODEL_BAD)
                return ERROR_MODEL_BAD;
        *ret = model;
        return ERROR_NONE;
}

/* 0, ACCOUNT_E_QUOTA, ACCOUNT_E_GLOBAL or a negative errno. */
static int add_residency(struct peer *p, sd_bus_message *m, const struct account_id *who,
                         const char *name) {
        struct residency *l = calloc(1, sizeof(*l));
        struct account *account = NULL;
        int r;

        if (!l)
                return -ENOMEM;
        l->peer = p;
        r = watch_sender(l, m);
        if (r >= 0)
                r = accounts_get(peer_broker(p)->accounts, who, &account);
        if (r == 0)
                r = workers_hold(p->owner->settings.workers, account, name, &l->hold);
        account_unref(account);
        if (r != 0) {
                residency_free(l);
                return r;
        }
        l->next = p->owner->residencies;
        p->owner->residencies = l;
        return 0;
}

int residency_method_prepare(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        const struct store_model *model;
        enum error_code error;
        struct account_id who;
        const char *name;
        int r = peer_account(p, m, &who, e);

        if (r >= 0)
                r = sd_bus_message_read(m, "s", &name);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        if (sd_bus_message_at_end(m, false) == 0)
                return bus_error(e, ERROR_INVALID_INPUT, 0, 0);
        if (workers_stopping(p->owner->settings.workers))
                return bus_error(e, ERROR_STOPPING, 0, 0);
        error = choose(p, &who, name, &model);
        if (error != ERROR_NONE)
                return bus_error(e, error, 0, 0);
        r = find(p, m, model->name) ? 0 : add_residency(p, m, &who, model->name);
        if (r > 0)
                return bus_error(e, r == ACCOUNT_E_QUOTA ? ERROR_OBJECTS : ERROR_OVERLOADED, 0, 0);
        return r < 0 ? r : sd_bus_reply_method_return(m, "s", model->name);
}

int residency_method_release(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        struct residency *l;
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);

        if (r < 0)
                return r;
        l = find(p, m, name);
        if (!l)
                return bus_error(e, ERROR_NO_SUCH_OBJECT, 0, 0);
        residency_free(l);
        return sd_bus_reply_method_return(m, NULL);
}
