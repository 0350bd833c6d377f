/* What users have used today, over a restart: a file of numbers in the state folder. */
#pragma once

#include <systemd/sd-event.h>

#include "policy/account.h"

struct quota_file;

/* How long a change may wait until it is written. */
#define QUOTA_FILE_USEC UINT64_C(60000000)

/* Reads the file, if there is one, into the accounts. A file that is not one of ours is left out,
 * and the log says so. */
int quota_file_new(struct quota_file **ret, sd_event *event, const char *state_dir,
                   uint64_t interval_usec, struct accounts *accounts);
/* Writes it a last time. */
struct quota_file *quota_file_free(struct quota_file *f);
/* Something has changed: it is written within the interval; what fails is tried again after one. */
void quota_file_touch(struct quota_file *f);
