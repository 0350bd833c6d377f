/* The text of a drop-in that holds the quota of one user, changed key by key. Pure text work: who
 * asks for a change has checked the value (quota_parse). */
#pragma once

#include <stdint.h>

#include "policy/limits.h"

/* old: the text so far, or "". value: as in the file; "" takes the assignment back. Whatever else
 * is in the text stays. 0 with a new text in *ret (free), or -ENOMEM. */
int drop_in_set(const char *old, uint32_t uid, enum quota_key key, const char *value, char **ret);
