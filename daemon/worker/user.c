/* Users come with SET_LIMITS (the first one with HELLO) and go with USER_GONE. Invariant: a user
 * lives as long as the broker has him here or something names him, so that an answer that is still
 * being written has its limits; and what was computed for him is forgotten with USER_GONE, as it
 * would be with the end of a worker of his own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/worker/models.h"
#include "daemon/worker/user.h"
#include "daemon/worker/worker.h"
#include "engine/base/macro.h"

static struct user *find_any(const struct worker *w, uint32_t uid) {
        struct user *u = w->users;

        while (u && u->uid != uid)
                u = u->next;
        return u;
}

struct user *user_find(const struct worker *w, uint32_t uid) {
        struct user *u = find_any(w, uid);

        return u && u->here ? u : NULL;
}

static void drop_unused(struct user *u) {
        struct user **p = &u->w->users;

        if (u->here || u->refs > 0)
                return;
        while (*p != u)
                p = &(*p)->next;
        *p = u->next;
        free(u);
}

int user_set_limits(struct worker *w, const struct wire_set_limits *m) {
        struct user *u = find_any(w, m->uid);

        if (!u) {
                u = calloc(1, sizeof(*u));
                if (!u)
                        return -ENOMEM;
                u->w = w;
                u->uid = m->uid;
                u->next = w->users;
                w->users = u;
        }
        u->here = true;
        u->limits = m->limits;
        snprintf(u->default_model, sizeof(u->default_model), "%s", m->default_model);
        return 0;
}

void user_gone(struct worker *w, uint32_t uid) {
        struct user *u = user_find(w, uid);

        if (!u)
                return;
        scheduler_forget(w->scheduler, user_owner(u));
        models_user_gone(w->models, uid);
        u->rates = (struct rates){};
        u->here = false;
        drop_unused(u);
}

struct user *user_ref(struct user *u) {
        u->refs++;
        return u;
}

struct user *user_unref(struct user *u) {
        if (u) {
                u->refs--;
                drop_unused(u);
        }
        return NULL;
}

void users_done(struct worker *w) {
        struct user *next;

        for (struct user *u = w->users; u; u = next) {
                next = u->next;
                free(u);
        }
        w->users = NULL;
}

uint64_t user_owner(const struct user *u) {
        return (uint64_t)u->uid + 1;
}

/* Alone he may have all that there is. */
struct scheduler_user user_for_scheduler(const struct user *u) {
        const struct wire_limits *l = &u->limits;
        bool shared = u->w->shared;

        return (struct scheduler_user){ .id = user_owner(u), .weight = shared ? l->weight : 0,
                                        .max_sequences = shared ? l->max_sequences : 0,
                                        .max_tokens = l->max_context_tokens,
                                        .kv_bytes = shared ? l->kv_bytes : 0 };
}

uint32_t users_model_idle_sec(const struct worker *w) {
        uint32_t most = 0;

        for (const struct user *u = w->users; u; u = u->next)
                if (u->here)
                        most = MAX(most, u->limits.model_idle_sec);
        return most;
}

uint32_t users_max_keep_sec(const struct worker *w) {
        uint32_t most = 0;

        for (const struct user *u = w->users; u; u = u->next)
                if (u->here)
                        most = MAX(most, u->limits.max_keep_sec);
        return most;
}
