/* The users that this worker serves: one, or in a wider domain several. Whatever is kept on behalf
 * of somebody (connections, jobs, sessions, results) names its user, and is looked up by the number
 * that the broker gave it, which it has only told to that user. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/rates.h"
#include "daemon/worker/scheduler.h"

struct worker;

struct user {
        struct user *next;
        struct worker *w;
        uint32_t uid;
        uint32_t refs;             /* of what names him */
        bool here;                 /* the broker has not said that he is gone */
        struct wire_limits limits;
        struct rates rates;
        char default_model[WIRE_NAME_MAX]; /* "": that of the catalogue */
        size_t n_conns;
};

/* Who is here, or NULL. */
struct user *user_find(const struct worker *w, uint32_t uid);
/* A user comes, or his limits change. 0 or -ENOMEM. */
int user_set_limits(struct worker *w, const struct wire_set_limits *m);
/* Forgets what was computed for him, and him as soon as nothing names him. */
void user_gone(struct worker *w, uint32_t uid);
struct user *user_ref(struct user *u);
struct user *user_unref(struct user *u); /* NULL is fine; returns NULL */
void users_done(struct worker *w);

/* Whose keys and values his requests share; never 0. */
uint64_t user_owner(const struct user *u);
/* What the scheduler has to know of him. */
struct scheduler_user user_for_scheduler(const struct user *u);
/* How long an unused model stays, and may be asked to stay: as long as for one of the users. */
uint32_t users_model_idle_sec(const struct worker *w);
uint32_t users_max_keep_sec(const struct worker *w);
