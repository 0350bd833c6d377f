/* Start of a worker, in the order the kernel forces: libraries do what they will not be able to do
 * later (time zone, random numbers, allocator settings, hash seeds), then the first half of the
 * sandbox while there is one thread, then HELLO, then threads, then the second half, then READY.
 * Nothing from a client is looked at before the sandbox is closed. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/loop.h"
#include "daemon/worker/pack_mode.h"
#include "daemon/worker/receive.h"
#include "daemon/worker/sandbox.h"
#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"

enum { EXIT_HELLO = 210, EXIT_MEMORY, EXIT_PROTOCOL, EXIT_SIGNAL };
enum { FAULT_SIGBUS = 1 };
enum { SPARE_FDS = 64, PACK_FDS = 16 };

/* A mapped file became shorter. Only system calls that are safe in a handler. */
static void __attribute__((noreturn)) on_sigbus(int signal) {
        union wire_message m = { .fault = { .h = { WIRE_FAULT, WIRE_VERSION },
                                            .code = FAULT_SIGBUS } };

        send(SANDBOX_LINK_FD, &m, sizeof(m.fault), MSG_DONTWAIT | MSG_NOSIGNAL);
        _exit(EXIT_SIGNAL);
}

static int prepare_signals(void) {
        struct sigaction bus = { .sa_handler = on_sigbus };
        struct sigaction ignore = { .sa_handler = SIG_IGN };

        /* a pipe without reader, and FSIZE: errors, not signals */
        if (sigaction(SIGBUS, &bus, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0 ||
            sigaction(SIGXFSZ, &ignore, NULL) < 0)
                return -errno;
        return 0;
}

/* What libraries would otherwise do lazily, when it is forbidden. One arena, never trimmed: an
 * allocator that trims others opens a file in /proc. */
static int prepare_libraries(uint64_t *ret_seed) {
        time_t now = time(NULL);
        struct tm tm;

        mallopt(M_ARENA_MAX, 1);
        mallopt(M_TRIM_THRESHOLD, INT_MAX);
        mallopt(M_MMAP_THRESHOLD, 1 << 20);
        tzset();
        if (!gmtime_r(&now, &tm))
                return -errno;
        secure_json_init();
        if (getrandom(ret_seed, sizeof(*ret_seed), 0) != sizeof(*ret_seed))
                return -errno;
        json_object_seed((size_t)*ret_seed | 1); /* else it would look for a file */
        return 0;
}

static int say_ready(unsigned flags, unsigned threads, unsigned landlock, unsigned seccomp) {
        union wire_message m = { .ready = { .h.type = WIRE_READY, .cpu_flags = flags,
                                            .threads = threads, .landlock_abi = landlock,
                                            .seccomp = seccomp } };

        return wire_send(SANDBOX_LINK_FD, &m, -1);
}

static int pack(const struct wire_hello *hello, unsigned landlock) {
        unsigned seccomp = sandbox_enter(SANDBOX_PACK, hello->fsize, PACK_FDS);
        int r = say_ready(cpu_flags(hello->cpu_mask), 1, landlock, seccomp);

        if (r == 0)
                r = pack_mode(SANDBOX_LINK_FD, cpu_flags(hello->cpu_mask));
        return r < 0 ? EXIT_PROTOCOL : 0;
}

static int serve(const struct wire_hello *hello, unsigned landlock, uint64_t seed) {
        unsigned flags = cpu_flags(hello->cpu_mask), seccomp;
        uint32_t sequences = MIN(hello->limits.max_sequences, (uint32_t)SCHEDULER_MAX_SEQUENCES);
        uint64_t fds = SPARE_FDS + 4 * (uint64_t)hello->limits.max_connections;
        struct scheduler *scheduler;
        int r;

        if (scheduler_new(&scheduler, hello->threads, flags, MAX(sequences, 1U)) < 0)
                return EXIT_MEMORY;
        scheduler_set_kv_form(scheduler, hello->kv == WIRE_KV_S8    ? KV_S8
                                         : hello->kv == WIRE_KV_F16 ? KV_F16
                                                                    : KV_S16);
        seccomp = sandbox_enter(SANDBOX_SERVE, 0, (unsigned)MIN(fds, UINT64_C(65536)));
        r = say_ready(flags, hello->threads, landlock, seccomp);
        if (r == 0)
                r = loop_run(SANDBOX_LINK_FD, hello, scheduler, seed);
        return r == -ENOMEM ? EXIT_MEMORY : r < 0 ? EXIT_PROTOCOL : 0;
}

int main(void) {
        unsigned landlock = sandbox_before_threads();
        union wire_message hello;
        uint64_t seed;
        int status;

        if (prepare_signals() < 0 || prepare_libraries(&seed) < 0 ||
            receive_type(SANDBOX_LINK_FD, WIRE_HELLO, &hello, NULL) < 0)
                return EXIT_HELLO;
        status = hello.hello.mode == WIRE_MODE_PACK ? pack(&hello.hello, landlock)
                                                    : serve(&hello.hello, landlock, seed);
        _exit(status); /* memory goes with the process; threads end with it */
}
