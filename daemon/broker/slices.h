/* In which slice a peer runs, as the kernel says. proc: where /proc is. */
#pragma once

#include <sys/types.h>

#include "policy/slice.h"

/* Can the slices of others be seen? 0; -EACCES: /proc hides other processes; -ENOSYS: process 1
 * does not manage control groups v2; -ENOMEM. */
int slices_visible(const char *proc);

/* Of the process that connected this socket. 0 with the innermost slice that counts ("": none), or
 * a negative errno: nobody knows. */
int slices_of_socket(const char *proc, int fd, char ret[SLICE_NAME_SIZE]);
/* Of a process that a bus daemon names, by number, and by descriptor where it gives one (else -1;
 * borrowed). */
int slices_of_process(const char *proc, int pidfd, pid_t pid, uid_t uid,
                      char ret[SLICE_NAME_SIZE]);
