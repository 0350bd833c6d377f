/* A user of a worker: what he has waiting and running there, and what he may. By default a worker
 * has one, in a wider domain (IsolationDomain=) several; quotas, charges and identity are always
 * those of one uid. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/store.h"
#include "daemon/wire/proto.h"
#include "policy/account.h"
#include "policy/admission.h"
#include "policy/pace.h"

enum { MEMBER_MAX_WANTS = 16 };

struct worker;

struct member {
        struct member *next;
        struct worker *worker;
        struct account *account;
        struct admission admission;    /* of his jobs, like this: */
        struct pace pace;
        uint64_t queue_told;           /* when the worker was told all places, monotonic */
        uint32_t jobs;                 /* that name him: they have not ended */
        uint32_t kept;                 /* results that are kept for him */
        uint64_t idle_since;           /* 0: he has something here */
        char wants[MEMBER_MAX_WANTS][WIRE_NAME_MAX]; /* names of models that are not ready yet */
        unsigned n_wants;
        bool news;                     /* the worker is still to be told what he may */
        uint64_t said_usec;            /* worked for him since the last bill, says the worker */
        uint64_t cpu_usec;             /* billed to him */
};

/* Of a worker, or NULL. */
struct member *member_find(const struct worker *w, const struct account *account);
struct member *member_of_uid(const struct worker *w, uid_t uid);
/* A new one, told to the worker if it serves. 0 or -ENOMEM. */
int member_new(struct member **ret, struct worker *w, struct account *account);
struct member *member_free(struct member *m);
/* He has had nothing here for long, and others have: the worker forgets him. */
void member_leave(struct member *m);
/* A job is his, and in his worker, until it ends. */
void member_take_job(struct member *m, struct job *job);
/* Nothing of his is there that could still be wanted. held_too: whatever is held for him. */
bool member_idle(const struct member *m, bool held_too);
/* When he leaves if nothing comes (monotonic), of one that is idle. */
uint64_t member_idle_end(const struct member *m);

/* Limits as workers need them. */
struct wire_limits limits_for_worker(const struct limits *l);
struct wire_limits member_limits(const struct member *m);
/* What the worker has to know of him before all else, and when it changes. */
void member_introduce(struct member *m);
void members_have_news(struct worker *w);
/* So many of those with news; false: there are more. */
bool members_introduce(struct worker *w, unsigned most);
/* The buckets of his account have changed. */
void member_send_rates(struct member *m);
/* What he gets by this name; "" = his default. NULL: nothing. */
const struct store_model *member_model(const struct member *m, const char *name);
/* May he start such a job? ERROR_NONE, or why not; the priority may become background. */
enum error_code member_allows(const struct member *m, uint32_t verb, const char *model,
                              uint32_t *priority);
uint32_t member_max_running(const struct member *m);
/* Tell the worker of a model that somebody of this account wants kept, or does not any more. */
void member_send_hold(struct member *m, const char *name);
void member_send_holds(struct member *m);

/* Charge the members for the CPU that the worker has used since the last call: as it said that it
 * worked for them, so that the sum is what was measured. Of several members that nothing was said
 * of the charge waits, unless it is due: then those with running jobs pay alike. */
void members_bill(struct worker *w, bool due);
/* Weights of those that have something to compute, or of all if nobody has. */
uint32_t members_weight(const struct worker *w);
