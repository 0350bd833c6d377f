/* Everything a locked-in worker may ask of the kernel. The rule behind the table: no call can name
 * anything (path, address, process) that the worker was not handed as a descriptor, no page can
 * become executable, and nothing that makes threads or processes is left. Calls that libraries try
 * without need fail softly; every other call is a reason to end the process. Rows own nothing. */
#include "daemon/worker/seccomp_table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/macro.h"

/* Younger than the oldest C library this is built with. */
enum { ADVICE_POPULATE_READ = 22, ADVICE_COLLAPSE = 25, MAP_KIND_DROPPABLE = 0x08 };

/* mlock2's only flag; the header that names it is not in every C library. */
enum { LOCK_ONFAULT = 1 };

enum {
        SERVE = 1 << SANDBOX_SERVE,
        PACK = 1 << SANDBOX_PACK,
        BOTH = SERVE | PACK,
};

/* No descriptor beyond this many can exist (sandbox_enter limits them). */
enum { FD_BITS = 0xffff };

#define INT(i, v) { SECCOMP_MASKED, i, UINT32_MAX, (uint32_t)(v) }
#define INT_MASK(i, ignored, v)                                                                    \
        { SECCOMP_MASKED, i, UINT32_MAX & ~(uint32_t)(ignored), (uint32_t)(v) }
#define INT_SUBSET(i, bits) INT_MASK(i, bits, 0)
#define LONG(i, v) { SECCOMP_MASKED, i, UINT64_MAX, (uint64_t)(v) }
#define LONG_MASK(i, ignored, v) { SECCOMP_MASKED, i, ~(uint64_t)(ignored), (uint64_t)(v) }
#define LONG_SUBSET(i, bits) LONG_MASK(i, bits, 0)
#define ALLOW(call, reason, ...) { call, reason, 0, BOTH, { __VA_ARGS__ } }
#define ALLOW_PACK(call, reason) { call, reason, 0, PACK, { { 0 } } }
#define SOFT(call, error, reason, ...) { call, reason, error, BOTH, { __VA_ARGS__ } }

#define WAIT_WORD(op) INT_MASK(1, FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, op)

#define CLOCK(call, clock, reason) ALLOW(call, reason, INT(0, clock))
#define ADVICE(advice, reason) ALLOW("madvise", reason, INT(2, advice))
#define PROBE "a file that a library looks for; nothing may be opened"

const struct seccomp_row seccomp_rows[] = {
        ALLOW("futex", "waits of the thread pool and of locks", WAIT_WORD(FUTEX_WAIT)),
        ALLOW("futex", "wakes", WAIT_WORD(FUTEX_WAKE)),
        ALLOW("futex", "timed waits", WAIT_WORD(FUTEX_WAIT_BITSET)),
        ALLOW("futex", "wakes of one kind of waiter", WAIT_WORD(FUTEX_WAKE_BITSET)),
        ALLOW("sched_yield", "spinning part of a barrier"),
        ALLOW("ppoll", "main loop"),

        /* Messages with descriptors go to and come from the broker only: a client can neither push
         * a descriptor in nor be handed one. */
        ALLOW("sendmsg", "messages to the broker", INT(0, SANDBOX_LINK_FD),
              INT_SUBSET(2, MSG_DONTWAIT | MSG_NOSIGNAL)),
        ALLOW("recvmsg", "messages from the broker", INT(0, SANDBOX_LINK_FD),
              INT_MASK(2, MSG_DONTWAIT, MSG_CMSG_CLOEXEC)),
        ALLOW("sendto", "answers on a client's connection; no address", LONG(4, 0),
              INT_SUBSET(3, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)),
        ALLOW("recvfrom", "requests on a client's connection; no address wanted", LONG(4, 0),
              INT_SUBSET(3, MSG_DONTWAIT | MSG_PEEK)),
        ALLOW("read", "input descriptors, wake-ups between threads"),
        ALLOW("write", "output descriptors, wake-ups between threads"),
        ALLOW("writev", "header and body in one call"),
        ALLOW("shutdown", "end of an answer"),
        ALLOW("pread64", "input files, wherever their position is"),
        ALLOW_PACK("pwrite64", "the packed file: only the packer has a descriptor to write at"),
        ALLOW("lseek", "true size of a received descriptor", INT(2, SEEK_END)),
        ALLOW("lseek", "position of a received descriptor", INT(2, SEEK_CUR)),
        ALLOW("lseek", "back to where it was", INT(2, SEEK_SET)),
        ALLOW("fstat", "type and size of a received descriptor (the call itself: libc's fstat may "
              "become newfstatat)"),
        ALLOW("fcntl", "may it block?", INT(1, F_GETFL)),
        ALLOW("fcntl", "make it not block", INT(1, F_SETFL)),
        ALLOW("fcntl", "is a memfd sealed?", INT(1, F_GET_SEALS)),
        ALLOW("close", "any descriptor but the standard ones and the link",
              { SECCOMP_ANY_BIT, 0, FD_BITS & ~SANDBOX_LINK_FD, 0 }),

        /* Memory: never executable, never at a chosen address, files only to read. */
        ALLOW("mmap", "memory", LONG_SUBSET(2, PROT_READ | PROT_WRITE),
              LONG_MASK(3, MAP_NORESERVE | MAP_STACK, MAP_PRIVATE | MAP_ANONYMOUS)),
        ALLOW("mmap", "a model", LONG(2, PROT_READ), LONG(3, MAP_PRIVATE)),
        ALLOW("mmap", "random state of newer C libraries, dropped under memory pressure",
              LONG_SUBSET(2, PROT_READ | PROT_WRITE), LONG(3, MAP_KIND_DROPPABLE | MAP_ANONYMOUS)),
        ALLOW("munmap", "memory and models no longer needed"),
        ALLOW("mprotect", "growth of malloc's arenas", LONG_SUBSET(2, PROT_READ | PROT_WRITE)),
        ALLOW("mremap", "realloc", LONG(3, MREMAP_MAYMOVE)),
        ALLOW("brk", "malloc"),
        ADVICE(MADV_WILLNEED, "start reading a model"),
        ADVICE(MADV_DONTNEED, "give pages back"),
        ADVICE(MADV_FREE, "give pages back when needed"),
        ADVICE(MADV_HUGEPAGE, "fewer page table walks"),
        ADVICE(MADV_NOHUGEPAGE, "small arenas stay small"),
        ADVICE(MADV_DONTDUMP, "text never reaches a core file"),
        ADVICE(ADVICE_COLLAPSE, "huge pages now"),
        ADVICE(ADVICE_POPULATE_READ, "read a model in, an error instead of a signal"),
        ALLOW("mlock", "text never reaches swap"),
        ALLOW("mlock2", "the same, page by page", INT_SUBSET(2, LOCK_ONFAULT)),
        ALLOW("munlock", "the end of that"),

        /* Where the vDSO cannot answer; never the clock of another process. */
        CLOCK("clock_gettime", CLOCK_MONOTONIC, "leases and deadlines"),
        CLOCK("clock_gettime", CLOCK_REALTIME, "dates in answers"),
        CLOCK("clock_gettime", CLOCK_MONOTONIC_RAW, "measuring"),
        CLOCK("clock_gettime", CLOCK_BOOTTIME, "time across suspend"),
        CLOCK("clock_gettime", CLOCK_THREAD_CPUTIME_ID, "a thread's own time"),
        CLOCK("clock_nanosleep", CLOCK_MONOTONIC, "short pauses"),
        ALLOW("getrandom", "seeds", INT_SUBSET(2, GRND_NONBLOCK)),

        ALLOW("rt_sigreturn", "return from the SIGBUS handler"),
        ALLOW("rt_sigprocmask", "end of a thread, abort"),
        ALLOW("restart_syscall", "waits continued after a stop"),
        ALLOW("gettid", "abort"),
        ALLOW("getpid", "abort"),
        ALLOW("tgkill", "abort", { SECCOMP_SELF, 0, 0, 0 }, INT(2, SIGABRT)),
        ALLOW("exit", "end of a thread"),
        ALLOW("exit_group", "end of the process"),

        SOFT("openat", EPERM, PROBE),
        SOFT("open", EPERM, PROBE),
        SOFT("openat2", EPERM, PROBE),
        SOFT("newfstatat", EPERM, PROBE),
        SOFT("stat", EPERM, PROBE),
        SOFT("lstat", EPERM, PROBE),
        SOFT("statx", EPERM, PROBE),
        SOFT("access", EPERM, PROBE),
        SOFT("faccessat", EPERM, PROBE),
        SOFT("faccessat2", EPERM, PROBE),
        SOFT("readlink", EPERM, PROBE),
        SOFT("readlinkat", EPERM, PROBE),
        SOFT("uname", EPERM, "harmless, not needed"),
        SOFT("sysinfo", EPERM, "harmless, not needed: qsort asks how much memory there is"),
        SOFT("getcpu", EPERM, "harmless, not needed"),
        SOFT("sched_getaffinity", EPERM, "harmless, not needed: malloc asks how many CPUs it has"),
        SOFT("prlimit64", EPERM, "harmless, not needed, as long as no limit is set", LONG(2, 0)),
};

const size_t seccomp_n_rows = ARRAY_SIZE(seccomp_rows);
