/* Jobs of the broker itself: installing, removing and verifying a model, for an administrator. The
 * store does the work; here it has an owner, a state, progress and an end. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/store.h"

struct tasks;

enum task_kind { TASK_INSTALL, TASK_REMOVE, TASK_VERIFY };

int tasks_new(struct tasks **ret, sd_event *event, struct jobs *jobs, struct accounts *accounts);
/* Ends what has not ended. */
struct tasks *tasks_free(struct tasks *t);
/* Borrowed; before the first task. */
void tasks_set_store(struct tasks *t, struct store *store);

/* name: of the model. fd: of its file, for TASK_INSTALL only (duplicated). detached: it does not
 * end with its owner. 0; a positive enum error_code in *ret_refusal, or a negative errno as the
 * store says: then nothing was done. */
int task_start(struct tasks *t, enum task_kind kind, const struct account_id *who,
               const char *name, int fd, bool detached, struct job **ret,
               struct refusal *ret_refusal);
/* For store_settings. */
void tasks_settled(struct tasks *t, const struct store_model *model, enum error_code how);
