/* The catalogue as the broker tells it, and the models of it that are mapped here. */
#pragma once

#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/keep.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/request_error.h"
#include "daemon/worker/worker.h"
#include "engine/grammar/token-trie.h"
#include "engine/model/model.h"

struct models;
struct user;

int models_new(struct models **ret, struct worker *w);

/* One message of a catalogue listing; the listing takes effect with its last one. 0 or -EBADMSG
 * (out of order). */
int models_catalog(struct models *m, const struct wire_catalog *c);
size_t models_count(const struct models *m);
const struct wire_catalog *models_entry(const struct models *m, size_t index);
/* What this user gets by this name ("": his default), or NULL. */
const struct wire_catalog *models_find(const struct models *m, const struct user *user,
                                       const char *name);

/* The answer to WANT_MODEL; takes fd (-1 when a->error). -EBADMSG when it was not asked for. Every
 * user asks for himself: that one has it loaded does not say that another may use it. */
int models_answer(struct models *m, const struct wire_model *a, int fd);

/* The model when it is mapped in this worker and this user may use it, or NULL. */
const struct model *models_loaded(struct models *m, const struct user *user,
                                  const struct wire_catalog *c);
/* The tokens of a loaded model by their bytes; made when first asked for. 0 or -ENOMEM. */
int models_trie(struct models *m, const struct model *model, const struct token_trie **ret);
/* Tokens that prompt and answer may have together; 0: not loaded in this worker. */
uint32_t models_context(struct models *m, const struct user *user,
                        const struct wire_catalog *c);

/* Who works with a loaded model holds it; without holders it is unloaded when its time has
 * passed. */
void models_hold(struct models *m, const struct model *model);
void models_release(struct models *m, const struct model *model);
/* A client's wish for that time, from the last use on; stays until another one says something.
 * In a worker of several users it can only be made longer. */
void models_keep(struct models *m, const struct model *model, const struct keep *keep);
/* The broker's: loaded as soon as possible, and never unloaded until it says the contrary. */
void models_prepare(struct models *m, const struct wire_prepare *p);
/* When a loaded model will be unloaded if nobody asks for it any more (CLOCK_MONOTONIC,
 * microseconds); UINT64_MAX: never, the broker wants it kept. 0: it is not loaded. */
uint64_t models_expiry(struct models *m, const struct user *user,
                       const struct wire_catalog *c);

/* He has no wish any more, and what he may use is asked for anew. */
void models_user_gone(struct models *m, uint32_t uid);

/* Once per loop pass. */
void models_poll(const struct models *m, struct poller *p);
void models_run(struct models *m);

/* What is loaded. */
struct models_loaded {
        const char *name;        /* the one used last, "" when there is none */
        uint32_t count;
        uint64_t bytes;          /* mapped */
        uint64_t until;          /* the latest expiry of those that nobody holds, 0: none */
};
struct models_loaded models_sum(const struct models *m);

enum { MODELS_PENDING = 1 };
/* The model of that name ("": the default), loaded. 0 with *ret and its name in ret_name (room for
 * WIRE_NAME_MAX); MODELS_PENDING: asked for, try again after the next answer; -EBADMSG with *e. */
int models_get(struct models *m, const struct user *user, const char *name,
               const struct model **ret, char *ret_name, struct request_error *e);
