/* What users have used today, over a restart: a file of numbers in the state folder. */
#pragma once

#include <systemd/sd-event.h>

#include "policy/account.h"

struct quota_file;

/* Reads the file, if there is one, into the accounts. A file that is not one of ours is left out,
 * and the log says so. */
int quota_file_new(struct quota_file **ret, sd_event *event, const char *state_dir,
                   struct accounts *accounts);
/* Writes it a last time. */
struct quota_file *quota_file_free(struct quota_file *f);
/* Something has changed: it is written soon. */
void quota_file_touch(struct quota_file *f);
