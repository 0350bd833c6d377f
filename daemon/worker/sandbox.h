/* How a worker locks itself in: two calls, before and after the threads are
 * made. Any failure ends the process with the distinct exit status below; nothing is best effort
 * except the Landlock ABI, which is reported. */
#pragma once

#include <stdint.h>

enum sandbox_exit {
        SANDBOX_EXIT_LINK = 200,   /* descriptor 3 is no SEQPACKET socket, or others are open */
        SANDBOX_EXIT_PRIVILEGE,    /* uid 0 or capabilities left */
        SANDBOX_EXIT_NO_NEW_PRIVS,
        SANDBOX_EXIT_UNDUMPABLE,
        SANDBOX_EXIT_LANDLOCK,
        SANDBOX_EXIT_RLIMIT,
        SANDBOX_EXIT_SECCOMP,
        SANDBOX_EXIT_CHECK,        /* the filter is on, but a forbidden call went through */
};

enum sandbox_mode { SANDBOX_SERVE, SANDBOX_PACK };

enum { SANDBOX_LINK_FD = 3 };

/* Steps 1, 2 and 6: descriptors (closes everything but 0..3, points 0..2 to /dev/null), privileges,
 * no_new_privs, undumpable, Landlock. Returns the Landlock ABI in force (0: there is none). */
unsigned sandbox_before_threads(void);

/* Steps 8 to 10: rlimits (NPROC 0, CORE 0, FSIZE 0 or fsize in pack mode, NOFILE max_fds), the
 * seccomp filter on all threads, self-check. After it only the calls of seccomp_table.c remain
 * (mind: libc's fstat may be another call than fstat, use lseek or syscall(SYS_fstat); recvmsg and
 * sendmsg only on the link, else send and recv, read and write). max_fds <= 65536. Returns the
 * seccomp mode in force, for READY: 2, or 0 in a sanitizer build, where this does nothing. */
unsigned sandbox_enter(enum sandbox_mode mode, uint64_t fsize, unsigned max_fds);
