/* Manager.CountTokens: the one call that waits for a worker and is no job. A count_face holds the
 * call; it is freed when it was answered, or when its connection has gone, whichever is first. The
 * count itself goes on until its worker has answered (daemon/broker/counts.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dbus/options.h"
#include "dbus/peer.h"
#include "engine/base/macro.h"

struct count_face {
        struct peer *caller;
        sd_bus_message *call;
};

static void face_free(struct count *c) {
        struct count_face *face = c->face;

        if (!face)
                return;
        sd_bus_message_unref(face->call);
        free(face);
        c->face = NULL;
}

void count_on_answer(struct count *c, const struct count_answer *answer, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        const struct count_face *face = c->face;

        if (!face)
                return;
        if (answer->why.code == ERROR_NONE)
                sd_bus_reply_method_return(face->call, "tt", answer->tokens, answer->context);
        else {
                bus_refuse(&e, &answer->why);
                sd_bus_reply_method_error(face->call, &e);
        }
        face_free(c);
}

void count_peer_gone(struct peer *p) {
        for (struct count *c = counts_first(p->owner->counts); c; c = c->next) {
                const struct count_face *face = c->face;

                if (face && face->caller == p)
                        face_free(c);
        }
}

bool count_peer_waits(const struct peer *p) {
        for (const struct count *c = counts_first(p->owner->counts); c; c = c->next) {
                const struct count_face *face = c->face;

                if (face && face->caller == p)
                        return true;
        }
        return false;
}

static int hold(struct count *c, struct peer *p, sd_bus_message *m) {
        struct count_face *face = calloc(1, sizeof(*face));

        if (!face)
                return -ENOMEM; /* the count ends by itself, unheard */
        *face = (struct count_face){ .caller = p, .call = sd_bus_message_ref(m) };
        c->face = face;
        return 1;
}

int count_method_tokens(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct peer *p = userdata;
        struct wire_job options = options_default(WIRE_VERB_CHAT);
        struct wire_count request = {};
        char key[OPTION_KEY_MAX + 1];
        struct refusal refusal;
        enum error_code error;
        struct count *c;
        const char *model;
        struct account_id who;
        int input, r;

        r = peer_account(p, m, &who, e);
        if (r >= 0)
                r = sd_bus_message_read(m, "sh", &model, &input);
        if (r < 0)
                return r;
        if (model[0] && !wire_name_valid(model))
                return bus_error(e, ERROR_MODEL_NOT_FOUND, 0, 0);
        error = options_read_count(m, &options, key);
        if (error != ERROR_NONE)
                return option_error(e, error, key);
        request.verb = options.verb;
        request.input_format = options.input_format;
        snprintf(request.model, sizeof(request.model), "%s", model);
        error = counts_start(p->owner->counts, p->owner->settings.workers, &who, &request, input,
                             &c, &refusal);
        if (error != ERROR_NONE)
                return peer_refuse(p, who.uid, (enum wire_verb)request.verb, &refusal, e);
        return hold(c, p, m);
}
