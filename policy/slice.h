/* Slices of systemd, by which quotas may be given: names, and what the kernel's text about a
 * process proves. Where a process runs is decided by the service manager (PID 1) alone down to the
 * first control group that is no slice: a service, scope or session, which may be delegated, and
 * below which the process may move itself and make groups of any name. So the slices that count are
 * the first elements of the path, as long as they are slices. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* With the NUL: of a section of the configuration, and of any unit. */
enum { SLICE_RULE_SIZE = 40, SLICE_NAME_SIZE = 256 };

/* "user-1000.slice": a name that a slice can have, other than the root slice's. */
bool slice_name_valid(const char *name);
/* Is the inner slice in the outer one, or the same? Names say so: a-b.slice lies in a.slice. Both
 * are valid names. */
bool slice_within(const char *inner, const char *outer);

/* The innermost slice that counts, from the text of /proc/PID/cgroup (NUL-terminated); "" when the
 * process is in none. 0, or -ENODATA when nothing is said of control groups v2. */
int slice_from_cgroup(const char *text, char ret[SLICE_NAME_SIZE]);
/* Does this text of process 1 say that systemd manages control groups v2? */
bool slice_managed(const char *text);
