/* Twins: for each condition on an argument one call that passes and its neighbours that must not,
 * each in a process of its own, first without the filter (is the call there at all?), then with it.
 * Arguments are such that a call that is not blocked answers without harm. A call that is allowed
 * must give exactly what it gives without the filter. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <seccomp.h>

#include "engine/base/macro.h"
#include "tests/sandbox/child.h"
#include "tests/sandbox/program.h"

enum { PASS = 0, KILL = -1 }; /* else the errno of a soft denial */

enum { SERVE_MODE = 1 << SANDBOX_SERVE, PACK_MODE = 1 << SANDBOX_PACK,
       EITHER_MODE = SERVE_MODE | PACK_MODE };

/* Stand-ins, replaced by the child: a mapped page, a word in it, the child's own id, a file. */
#define A_PAGE 0x7e57000000000001L
#define A_SELF 0x7e57000000000002L
#define A_FILE 0x7e57000000000003L
#define A_PATH 0x7e57000000000004L
#define HIGH (1L << 32) /* one bit above what the kernel sees of an int */

#define NOT_THERE 1000  /* a descriptor that is not open */

struct twin {
        const char *call;
        long args[6];
        int expect;
        unsigned modes; /* 0: both */
};

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static const struct twin twins[] = {
        { "mmap", { 0, 4096, RW, ANON, -1, 0 }, PASS },
        { "mmap", { 0, 4096, PROT_NONE, ANON | MAP_NORESERVE, -1, 0 }, PASS },
        { "mmap", { 0, 4096, RW, ANON | MAP_STACK, -1, 0 }, PASS },
        { "mmap", { 0, 4096, RW, 0x08 | MAP_ANONYMOUS, -1, 0 }, PASS }, /* droppable */
        { "mmap", { 0, 4096, RW | PROT_EXEC, ANON, -1, 0 }, KILL },
        { "mmap", { 0, 4096, PROT_EXEC, ANON, -1, 0 }, KILL },
        { "mmap", { 0, 4096, RW | HIGH, ANON, -1, 0 }, KILL },
        { "mmap", { 0, 4096, RW, ANON | HIGH, -1, 0 }, KILL },
        { "mmap", { A_PAGE, 4096, RW, ANON | MAP_FIXED, -1, 0 }, KILL },
        { "mmap", { 0, 4096, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0 }, KILL },
        { "mmap", { 0, 4096, RW, ANON | 0x40000 /* huge pages */, -1, 0 }, KILL },
        { "mmap", { 0, 4096, PROT_READ, MAP_PRIVATE, A_FILE, 0 }, PASS },
        { "mmap", { 0, 4096, PROT_READ, MAP_SHARED, A_FILE, 0 }, KILL },
        { "mmap", { 0, 4096, RW, MAP_PRIVATE, A_FILE, 0 }, KILL },
        { "mmap", { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, A_FILE, 0 }, KILL },
        { "mmap", { 0, 4096, PROT_READ | HIGH, MAP_PRIVATE, A_FILE, 0 }, KILL },
        { "mprotect", { A_PAGE, 4096, RW }, PASS },
        { "mprotect", { A_PAGE, 4096, PROT_NONE }, PASS },
        { "mprotect", { A_PAGE, 4096, PROT_READ | PROT_EXEC }, KILL },
        { "mprotect", { A_PAGE, 4096, RW | PROT_EXEC }, KILL },
        { "mprotect", { A_PAGE, 4096, RW | HIGH }, KILL },
        { "mprotect", { A_PAGE, 4096, RW | 0x01000000 /* grows down */ }, KILL },
        { "pkey_mprotect", { A_PAGE, 4096, RW, -1 }, KILL },
        { "mremap", { A_PAGE, 4096, 8192, MREMAP_MAYMOVE }, PASS },
        { "mremap", { A_PAGE, 4096, 4096, 0 }, KILL },
        { "mremap", { A_PAGE, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, A_PAGE }, KILL },
        { "mremap", { A_PAGE, 4096, 4096, MREMAP_MAYMOVE | 4 /* keep the old */ }, KILL },
        { "mremap", { A_PAGE, 4096, 4096, MREMAP_MAYMOVE | HIGH }, KILL },
        { "madvise", { A_PAGE, 4096, MADV_WILLNEED }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_DONTNEED }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_FREE }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_HUGEPAGE }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_NOHUGEPAGE }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_DONTDUMP }, PASS },
        { "madvise", { A_PAGE, 4096, 22 /* populate for reading */ }, PASS },
        { "madvise", { A_PAGE, 4096, 25 /* collapse */ }, PASS },
        { "madvise", { A_PAGE, 4096, MADV_WILLNEED | HIGH }, PASS }, /* the kernel cuts it off */
        { "madvise", { A_PAGE, 4096, MADV_DONTFORK | HIGH }, KILL },
        { "madvise", { A_PAGE, 4096, MADV_DONTFORK }, KILL },
        { "madvise", { A_PAGE, 4096, MADV_DODUMP }, KILL },
        { "madvise", { A_PAGE, 4096, MADV_REMOVE }, KILL },
        { "madvise", { A_PAGE, 4096, MADV_HWPOISON }, KILL },
        { "madvise", { A_PAGE, 4096, 12 /* mergeable: a timing oracle */ }, KILL },
        { "mlock2", { A_PAGE, 4096, 0 }, PASS },
        { "mlock2", { A_PAGE, 4096, 1 }, PASS },
        { "mlock2", { A_PAGE, 4096, 2 }, KILL },
        { "mlockall", { 0 }, KILL },

        { "futex", { A_PAGE, FUTEX_WAKE, 1 }, PASS },
        { "futex", { A_PAGE, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1 }, PASS },
        { "futex", { A_PAGE, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 99 }, PASS },
        { "futex", { A_PAGE, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 99, 0, 0, -1 }, PASS },
        { "futex", { A_PAGE, FUTEX_WAKE_BITSET, 1, 0, 0, -1 }, PASS },
        { "futex", { A_PAGE, FUTEX_WAKE | HIGH, 1 }, PASS },
        { "futex", { A_PAGE, FUTEX_LOCK_PI, 0 }, KILL },
        { "futex", { A_PAGE, FUTEX_LOCK_PI | HIGH, 0 }, KILL },
        { "futex", { A_PAGE, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG, 0 }, KILL },
        { "futex", { A_PAGE, FUTEX_REQUEUE, 0, 0, A_PAGE }, KILL },
        { "futex", { A_PAGE, FUTEX_CMP_REQUEUE, 0, 0, A_PAGE, 99 }, KILL },
        { "futex", { A_PAGE, FUTEX_WAKE_OP, 0, 0, A_PAGE, 0 }, KILL },
        { "futex", { A_PAGE, FUTEX_CMP_REQUEUE_PI, 0, 0, A_PAGE, 99 }, KILL },
        { "clock_gettime", { CLOCK_MONOTONIC, A_PAGE }, PASS },
        { "clock_gettime", { CLOCK_REALTIME, A_PAGE }, PASS },
        { "clock_gettime", { CLOCK_MONOTONIC_RAW, A_PAGE }, PASS },
        { "clock_gettime", { CLOCK_BOOTTIME, A_PAGE }, PASS },
        { "clock_gettime", { CLOCK_THREAD_CPUTIME_ID, A_PAGE }, PASS },
        { "clock_gettime", { CLOCK_TAI, A_PAGE }, KILL },
        { "clock_gettime", { -14, A_PAGE }, KILL }, /* the clock of process 1 */
        { "clock_settime", { CLOCK_REALTIME, 0 }, KILL },
        { "clock_nanosleep", { CLOCK_MONOTONIC, 0, 0, 0 }, PASS },
        { "clock_nanosleep", { CLOCK_REALTIME, 0, 0, 0 }, KILL },
        { "getrandom", { A_PAGE, 8, 0 }, PASS },
        { "getrandom", { A_PAGE, 8, GRND_NONBLOCK }, PASS },
        { "getrandom", { A_PAGE, 8, GRND_RANDOM }, KILL },

        { "sendmsg", { 3, 0, MSG_DONTWAIT | MSG_NOSIGNAL }, PASS },
        { "sendmsg", { 3 | HIGH, 0, MSG_NOSIGNAL }, PASS },
        { "sendmsg", { 4, 0, MSG_NOSIGNAL }, KILL },
        { "sendmsg", { 3, 0, MSG_OOB }, KILL },
        { "recvmsg", { 3, 0, MSG_DONTWAIT | MSG_CMSG_CLOEXEC }, PASS },
        { "recvmsg", { 3, 0, MSG_CMSG_CLOEXEC | HIGH }, PASS },
        { "recvmsg", { 3, 0, MSG_DONTWAIT }, KILL },
        { "recvmsg", { 3, 0, MSG_CMSG_CLOEXEC | MSG_PEEK }, KILL },
        { "recvmsg", { 5, 0, MSG_CMSG_CLOEXEC }, KILL },
        { "sendmmsg", { 3, 0, 0, 0 }, KILL },
        { "recvmmsg", { 3, 0, 0, 0, 0 }, KILL },
        { "sendto", { NOT_THERE, 0, 0, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0 }, PASS },
        { "sendto", { NOT_THERE, 0, 0, MSG_NOSIGNAL, A_PAGE, 16 }, KILL },
        { "sendto", { NOT_THERE, 0, 0, MSG_NOSIGNAL, HIGH, 16 }, KILL },
        { "sendto", { NOT_THERE, 0, 0, 0x20000000 /* connects by itself */, 0, 0 }, KILL },
        { "recvfrom", { NOT_THERE, 0, 0, MSG_PEEK, 0, 0 }, PASS },
        { "recvfrom", { NOT_THERE, 0, 0, 0, A_PAGE, A_PAGE }, KILL },
        { "recvfrom", { NOT_THERE, 0, 0, MSG_ERRQUEUE, 0, 0 }, KILL },
        { "fcntl", { 3, F_GETFL }, PASS },
        { "fcntl", { 3, F_SETFL, O_NONBLOCK }, PASS },
        { "fcntl", { A_FILE, F_GET_SEALS }, PASS },
        { "fcntl", { 3, F_GETFL | HIGH }, PASS },
        { "fcntl", { 3, F_DUPFD, 10 }, KILL },
        { "fcntl", { 3, F_DUPFD_CLOEXEC, 10 }, KILL },
        { "fcntl", { 3, F_DUPFD | HIGH, 10 }, KILL },
        { "fcntl", { 3, F_SETOWN, 1 }, KILL },
        { "fcntl", { A_FILE, F_ADD_SEALS, 0 }, KILL },
        { "lseek", { A_FILE, 0, SEEK_END }, PASS },
        { "lseek", { A_FILE, 0, SEEK_CUR }, PASS },
        { "lseek", { A_FILE, 0, SEEK_SET }, PASS },
        { "lseek", { A_FILE, 0, SEEK_DATA }, KILL },
        { "close", { A_FILE }, PASS },
        { "close", { 7 }, PASS },
        { "close", { 256 }, PASS },
        { "close", { 3 }, KILL },
        { "close", { 3 | HIGH }, KILL },
        { "close", { 0 }, KILL },
        { "close", { 2 }, KILL },
        { "close_range", { 900, 900, 0 }, KILL },
        { "pwrite64", { NOT_THERE, A_PAGE, 1, 0 }, KILL, SERVE_MODE },
        { "pwrite64", { NOT_THERE, A_PAGE, 1, 0 }, PASS, PACK_MODE },
        { "pwritev2", { NOT_THERE, A_PAGE, 1, 0, 0, 0 }, KILL },
        { "ftruncate", { A_FILE, 0 }, KILL },
        { "write", { NOT_THERE, A_PAGE, 1 }, PASS },
        { "writev", { NOT_THERE, A_PAGE, 0 }, PASS },
        { "read", { NOT_THERE, A_PAGE, 1 }, PASS },
        { "readv", { NOT_THERE, A_PAGE, 0 }, KILL },
        { "shutdown", { NOT_THERE, SHUT_WR }, PASS },
        { "pread64", { A_FILE, A_PAGE, 1, 0 }, PASS },
        { "fstat", { A_FILE, A_PAGE }, PASS },
        { "ppoll", { 0, 0, A_PAGE, 0, 8 }, PASS },

        { "tgkill", { A_SELF, A_SELF, SIGABRT }, PASS },
        { "tgkill", { A_SELF, A_SELF, 0 }, KILL },
        { "tgkill", { A_SELF, A_SELF, SIGTERM }, KILL },
        { "tgkill", { 0x3fffffff, 0x3fffffff, SIGABRT }, KILL },
        { "kill", { A_SELF, 0 }, KILL },
        { "rt_sigaction", { SIGUSR1, 0, 0, 8 }, KILL },
        { "prlimit64", { 0, RLIMIT_NOFILE, 0, A_PAGE }, EPERM },
        { "prlimit64", { 0, RLIMIT_NOFILE, A_PAGE, 0 }, KILL },

        { "openat", { AT_FDCWD, A_PATH, O_RDONLY }, EPERM },
        { "open", { A_PATH, O_RDONLY }, EPERM },
        { "newfstatat", { A_FILE, A_PATH, A_PAGE, AT_EMPTY_PATH }, EPERM },
        { "statx", { AT_FDCWD, A_PATH, 0, 0, A_PAGE }, EPERM },
        { "faccessat", { AT_FDCWD, A_PATH, R_OK }, EPERM },
        { "readlinkat", { AT_FDCWD, A_PATH, A_PAGE, 8 }, EPERM },
        { "uname", { A_PAGE }, EPERM },
        { "sched_getaffinity", { 0, 128, A_PAGE }, EPERM },
        { "openat2", { AT_FDCWD, A_PATH, 0, 0 }, EPERM },

        { "socket", { AF_UNIX, SOCK_STREAM, 0 }, KILL },
        { "socket", { AF_INET, SOCK_STREAM, 0 }, KILL },
        { "socketpair", { AF_UNIX, SOCK_STREAM, 0, A_PAGE }, KILL },
        { "connect", { NOT_THERE, 0, 0 }, KILL },
        { "bind", { NOT_THERE, 0, 0 }, KILL },
        { "listen", { NOT_THERE, 0 }, KILL },
        { "accept4", { NOT_THERE, 0, 0, 0 }, KILL },
        { "setsockopt", { 3, 0, 0, 0, 0 }, KILL },
        { "execve", { 0, 0, 0 }, KILL },
        { "execveat", { NOT_THERE, 0, 0, 0, 0 }, KILL },
        { "clone", { CLONE_THREAD, 0, 0, 0, 0 }, KILL }, /* a set of flags that never works */
        { "clone3", { 0, 0 }, KILL },
        { "unshare", { 0 }, KILL },
        { "setns", { NOT_THERE, 0 }, KILL },
        { "ptrace", { 0 }, KILL },
        { "process_vm_readv", { A_SELF, 0, 0, 0, 0, 0 }, KILL },
        { "process_vm_writev", { A_SELF, 0, 0, 0, 0, 0 }, KILL },
        { "process_madvise", { NOT_THERE, 0, 0, 0, 0 }, KILL },
        { "pidfd_open", { A_SELF, 0 }, KILL },
        { "pidfd_getfd", { NOT_THERE, 0, 0 }, KILL },
        { "memfd_create", { A_PATH, 0 }, KILL },
        { "bpf", { -1, 0, 0 }, KILL },
        { "perf_event_open", { 0, 0, -1, -1, 0 }, KILL },
        { "userfaultfd", { 0 }, KILL },
        { "io_uring_setup", { 0, 0 }, KILL },
        { "keyctl", { -1 }, KILL },
        { "pkey_alloc", { 0, 0 }, KILL },
        { "seccomp", { 2, 0, A_PAGE }, KILL },
        { "landlock_create_ruleset", { 0, 0, 1 }, KILL },
        { "prctl", { PR_GET_DUMPABLE }, KILL },
        { "personality", { 0xffffffff }, KILL },
        { "modify_ldt", { 0, 0, 0 }, KILL },
        { "shmget", { 0, 0, 0 }, KILL },
        { "msgget", { 1, 0 }, KILL },
        { "semget", { 1, 0, 0 }, KILL },
        { "mq_open", { 0, 0, 0, 0 }, KILL },
        { "ioctl", { 3, 0, 0 }, KILL },
        { "dup", { 3 }, KILL },
        { "epoll_create1", { 0 }, KILL },
        { "eventfd2", { 0, 0 }, KILL },
        { "pipe2", { 0, 0 }, KILL },
        { "splice", { NOT_THERE, 0, NOT_THERE, 0, 0, 0 }, KILL },
        { "sendfile", { NOT_THERE, NOT_THERE, 0, 0 }, KILL },
        { "copy_file_range", { NOT_THERE, 0, NOT_THERE, 0, 0, 0 }, KILL },
        { "chdir", { 0 }, KILL },
        { "mount", { 0, 0, 0, 0, 0 }, KILL },
        { "mkdirat", { NOT_THERE, 0, 0 }, KILL },
        { "unlinkat", { NOT_THERE, 0, 0 }, KILL },
        { "sched_setaffinity", { -1, 0, 0 }, KILL },
        { "setuid", { -2 }, KILL },
        { "mincore", { A_PAGE, 4096, A_PAGE }, KILL },
};

struct attempt {
        const struct twin *twin;
        int call;
        int mode; /* enum sandbox_mode, -1: without the filter */
};

static long stand_in(long arg, void *page, int file) {
        static const char path[] = "/";

        switch (arg) {
        case A_PAGE:
                return (long)page;
        case A_SELF:
                return getpid();
        case A_FILE:
                return file;
        case A_PATH:
                return (long)path;
        }
        return arg;
}

static void attempt(struct report *report, void *userdata) {
        const struct attempt *a = userdata;
        long args[6];

        child_make_link();
        int file = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        void *page = mmap(NULL, 4096, RW, ANON, -1, 0);
        if (file < 0 || page == MAP_FAILED || ftruncate(file, 4096) < 0)
                _exit(98);
        for (unsigned i = 0; i < 6; i++)
                args[i] = stand_in(a->twin->args[i], page, file);
        child_drop_privileges();
        /* The filter knows its process, so each child has its own. */
        if (a->mode >= 0) {
                struct program p = program_build((enum sandbox_mode)a->mode, SCMP_ARCH_NATIVE,
                                                 getpid(), false);
                if (program_install(&p) < 0)
                        _exit(99);
        }
        errno = 0;
        long r = syscall(a->call, args[0], args[1], args[2], args[3], args[4], args[5]);
        report->error = errno;
        report->result = r < 0 ? -1 : r > 0; /* addresses differ from run to run */
        report->reached = true;
}

static bool same(int status, const struct report *r, int free_status, const struct report *free) {
        return status == free_status && r->reached == free->reached && r->result == free->result &&
               (r->result >= 0 || r->error == free->error);
}

static bool as_expected(const struct twin *t, int status, const struct report *r, int free_status,
                        const struct report *free) {
        if (t->expect == PASS)
                return same(status, r, free_status, free);
        if (t->expect == KILL)
                return child_was_filtered(status) && !r->reached;
        return status == 0 && r->reached && r->result == -1 && r->error == t->expect;
}

/* 0 as expected, 1 not, -1 this kernel or architecture has no such call. */
static int check(const struct twin *t, enum sandbox_mode mode) {
        int call = seccomp_syscall_resolve_name(t->call);
        struct report free, filtered;
        char a[64], b[64];

        if (call < 0)
                return -1;
        int free_status = child_run(attempt, &(struct attempt){ t, call, -1 }, &free);
        if (free.reached && free.result < 0 && free.error == ENOSYS)
                return -1;
        /* Without the filter the call must answer, or be one that ends the process by itself. */
        bool free_ok = free.reached ? free_status == 0 : !child_was_filtered(free_status);
        int status = child_run(attempt, &(struct attempt){ t, call, (int)mode }, &filtered);
        if (free_ok && as_expected(t, status, &filtered, free_status, &free))
                return 0;
        fprintf(stderr, "%s(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx) in mode %d: expected %d; without "
                "filter: %s, result %ld, errno %ld; with: %s, result %ld, errno %ld\n", t->call,
                t->args[0], t->args[1], t->args[2], t->args[3], t->args[4], t->args[5], mode,
                t->expect, child_status(free_status, a, sizeof(a)), free.result, free.error,
                child_status(status, b, sizeof(b)), filtered.result, filtered.error);
        return 1;
}

int main(void) {
        unsigned passed = 0, failed = 0, skipped = 0;

        for (int mode = SANDBOX_SERVE; mode <= SANDBOX_PACK; mode++)
                for (size_t i = 0; i < ARRAY_SIZE(twins); i++) {
                        unsigned modes = twins[i].modes ? twins[i].modes : EITHER_MODE;

                        if (!(modes & 1u << mode))
                                continue;
                        int r = check(&twins[i], (enum sandbox_mode)mode);
                        if (r < 0)
                                printf("skipped: %s is not in this kernel\n", twins[i].call);
                        *(r < 0 ? &skipped : r > 0 ? &failed : &passed) += 1;
                }
        printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
        return failed || passed < ARRAY_SIZE(twins) ? EXIT_FAILURE : EXIT_SUCCESS;
}
