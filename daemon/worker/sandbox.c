/* The order in which a worker gives everything up. Each step needs something that a later one takes
 * away, so the order is part of the meaning; it never goes back and never goes on after a failure.
 * A caller that gets control back is locked in. In sanitizer builds (a choice of the build, not of
 * the run) Landlock, the filter and the limits stay off, because the sanitizers' own calls would
 * end the process, and standard error stays open for their reports: such a build says so by
 * returning 0. */
#include "daemon/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "daemon/worker/landlock.h"
#include "daemon/worker/seccomp_filter.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#ifdef BITNETD_SANITIZING
enum { IS_SANITIZING = true, LAST_SILENCED_FD = STDOUT_FILENO };
#else
enum { IS_SANITIZING = false, LAST_SILENCED_FD = STDERR_FILENO };
#endif

/* The filter tells descriptors apart by 16 bits. */
enum { FDS_LIMIT = 1 << 16 };

static bool link_is_good(void) {
        int domain = 0, type = 0;
        socklen_t n = sizeof(int);

        if (getsockopt(SANDBOX_LINK_FD, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
                return false;
        n = sizeof(int);
        if (getsockopt(SANDBOX_LINK_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
                return false;
        return domain == AF_UNIX && type == SOCK_SEQPACKET;
}

static bool is_null_device(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* Whatever a library prints before it dies must not reach a terminal or a journal. */
static bool silence_standard_fds(void) {
        for (int fd = STDIN_FILENO; fd <= LAST_SILENCED_FD; fd++) {
                if (is_null_device(fd))
                        continue;
                int null = open("/dev/null", O_RDWR | O_NOCTTY);
                if (null < 0)
                        return false;
                if (null == fd)
                        continue;
                if (dup2(null, fd) < 0)
                        return false;
                close(null);
        }
        return true;
}

static bool close_others(void) {
        struct rlimit limit;

        if (syscall(SYS_close_range, SANDBOX_LINK_FD + 1, UINT_MAX, 0) == 0)
                return true;
        /* Before Linux 5.9, or refused by a container's filter. */
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max > INT_MAX)
                return false;
        for (int fd = SANDBOX_LINK_FD + 1; fd < (int)limit.rlim_max; fd++)
                close(fd);
        return true;
}

static bool is_unprivileged(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
        uid_t real, effective, saved;

        if (getresuid(&real, &effective, &saved) < 0 || !real || !effective || !saved)
                return false;
        if (syscall(SYS_capget, &header, data) < 0)
                return false;
        for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
                if (data[i].effective || data[i].permitted || data[i].inheritable)
                        return false;
        return true;
}

unsigned sandbox_before_threads(void) {
        if (!link_is_good() || !silence_standard_fds() || !close_others())
                _exit(SANDBOX_EXIT_LINK);
        if (!is_unprivileged())
                _exit(SANDBOX_EXIT_PRIVILEGE);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
                _exit(SANDBOX_EXIT_NO_NEW_PRIVS);
        /* execve sets the flag again, so it cannot come from the broker or the unit. */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
                _exit(SANDBOX_EXIT_UNDUMPABLE);
        int abi = IS_SANITIZING ? 0 : landlock_enter();
        if (abi < 0)
                _exit(SANDBOX_EXIT_LANDLOCK);
        return (unsigned)abi;
}

static bool limit(__rlimit_resource_t resource, rlim_t value) {
        return setrlimit(resource, &(struct rlimit){ value, value }) == 0;
}

static bool enter_filter(enum sandbox_mode mode) {
        scmp_filter_ctx ctx;

        if (seccomp_filter_build(&ctx, mode, SCMP_ARCH_NATIVE, getpid(), false) < 0)
                return false;
        int r = seccomp_load(ctx);
        seccomp_release(ctx);
        return r == 0;
}

static bool opening_is_refused(void) {
        return syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC) == -1 && errno == EPERM;
}

unsigned sandbox_enter(enum sandbox_mode mode, uint64_t fsize, unsigned max_fds) {
        if (IS_SANITIZING)
                return SECCOMP_MODE_DISABLED;
        /* NPROC counts threads, so the threads exist by now. */
        if (max_fds > FDS_LIMIT || !limit(RLIMIT_NPROC, 0) || !limit(RLIMIT_CORE, 0) ||
            !limit(RLIMIT_FSIZE, mode == SANDBOX_PACK ? fsize : 0) ||
            !limit(RLIMIT_NOFILE, max_fds))
                _exit(SANDBOX_EXIT_RLIMIT);
        if (!enter_filter(mode))
                _exit(SANDBOX_EXIT_SECCOMP);
        if (!opening_is_refused())
                _exit(SANDBOX_EXIT_CHECK);
        return SECCOMP_MODE_FILTER;
}
