/* The lock-in as a whole: what it leaves behind, that every failing step ends the process with its
 * own exit status, that all threads are caught, that libraries still work inside, and that other
 * processes of the same user cannot look in. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>
#include <seccomp.h>

#include "daemon/worker/sandbox.h"
#include "engine/base/macro.h"
#include "tests/sandbox/child.h"

enum { MAX_FDS = 64, THREADS = 4 };

static void expect_exit(int status, int expected) {
        char text[64];

        if (!WIFEXITED(status) || WEXITSTATUS(status) != expected)
                fail_msg("the child %s, expected exit %d", child_status(status, text, sizeof(text)),
                         expected);
}

static void lock_in(enum sandbox_mode mode) {
        child_drop_privileges();
        sandbox_before_threads();
        if (sandbox_enter(mode, 4096, MAX_FDS) != 2)
                _exit(90);
}

/* ---- each failing step has its own exit status ---- */

static void start_without_link(struct report *r, void *userdata) {
        close(SANDBOX_LINK_FD);
        lock_in(SANDBOX_SERVE);
}

static void start_with_stream(struct report *r, void *userdata) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
                dup2(pair[0], SANDBOX_LINK_FD);
        lock_in(SANDBOX_SERVE);
}

static void test_link(void **state) {
        expect_exit(child_run(start_without_link, NULL, NULL), SANDBOX_EXIT_LINK);
        expect_exit(child_run(start_with_stream, NULL, NULL), SANDBOX_EXIT_LINK);
}

static void start_as_root(struct report *r, void *userdata) {
        child_make_link();
        sandbox_before_threads();
}

static void start_with_capabilities(struct report *r, void *userdata) {
        child_make_link();
        prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
        child_drop_privileges();
        sandbox_before_threads();
}

static void test_privilege(void **state) {
        if (geteuid() != 0) {
                print_message("skipped: only root can start a worker with privileges\n");
                skip();
        }
        expect_exit(child_run(start_as_root, NULL, NULL), SANDBOX_EXIT_PRIVILEGE);
        expect_exit(child_run(start_with_capabilities, NULL, NULL), SANDBOX_EXIT_PRIVILEGE);
}

/* A call to spoil from outside, as a container's filter might, and the exit it must cause. */
struct spoiled {
        const char *call;
        struct scmp_arg_cmp arg;
        uint16_t error; /* 0: the call claims success and does nothing */
        int exit;
};

static void start_spoiled(struct report *r, void *userdata) {
        const struct spoiled *s = userdata;
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

        child_make_link();
        child_drop_privileges();
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after execve; changing the uid cleared it */
        int call = seccomp_syscall_resolve_name(s->call);
        if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(s->error), call, 1, s->arg) < 0 ||
            seccomp_load(ctx) < 0)
                _exit(91);
        sandbox_before_threads();
        sandbox_enter(SANDBOX_SERVE, 0, MAX_FDS);
}

static void test_spoiled_steps(void **state) {
        const struct spoiled steps[] = {
                { "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS), EPERM,
                  SANDBOX_EXIT_NO_NEW_PRIVS },
                { "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_SET_DUMPABLE), EPERM,
                  SANDBOX_EXIT_UNDUMPABLE },
                { "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_SET_DUMPABLE), 0, SANDBOX_EXIT_UNDUMPABLE },
                { "capget", SCMP_A0_64(SCMP_CMP_NE, 0), EPERM, SANDBOX_EXIT_PRIVILEGE },
                { "prlimit64", SCMP_A1_64(SCMP_CMP_EQ, RLIMIT_CORE), EPERM, SANDBOX_EXIT_RLIMIT },
                { "prlimit64", SCMP_A1_64(SCMP_CMP_EQ, RLIMIT_NPROC), EPERM, SANDBOX_EXIT_RLIMIT },
                /* only the loading itself: a null program is libseccomp looking around */
                { "seccomp", SCMP_A2_64(SCMP_CMP_NE, 0), EPERM, SANDBOX_EXIT_SECCOMP },
                { "seccomp", SCMP_A2_64(SCMP_CMP_NE, 0), 0, SANDBOX_EXIT_CHECK },
        };

        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                struct spoiled s = steps[i];
                print_message("%s spoiled with %d\n", s.call, s.error);
                expect_exit(child_run(start_spoiled, &s, NULL), s.exit);
        }
}

static void start_with_many_fds(struct report *r, void *userdata) {
        child_make_link();
        child_drop_privileges();
        sandbox_before_threads();
        sandbox_enter(SANDBOX_SERVE, 0, 65537);
}

static void test_fd_limit(void **state) {
        expect_exit(child_run(start_with_many_fds, NULL, NULL), SANDBOX_EXIT_RLIMIT);
}

/* ---- what is left afterwards ---- */

static void start_and_look(struct report *r, void *userdata) {
        int *pipe_fds = userdata;

        child_make_link();
        dup2(pipe_fds[1], STDERR_FILENO);
        dup2(pipe_fds[1], 20);
        lock_in(SANDBOX_SERVE);
        r->value[0] = write(STDERR_FILENO, "secret", 6);
        r->value[1] = fcntl(20, F_GETFL);
        r->value[2] = errno;
        r->value[3] = fcntl(SANDBOX_LINK_FD, F_GETFL) >= 0;
        r->reached = true;
}

static void test_descriptors(void **state) {
        struct report r;
        char buf[16];
        int fds[2];

        assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
        expect_exit(child_run(start_and_look, fds, &r), 0);
        assert_true(r.reached);
        assert_int_equal(r.value[0], 6);
        assert_int_equal(r.value[1], -1);
        assert_int_equal(r.value[2], EBADF);
        assert_true(r.value[3]);
        close(fds[1]);
        /* nothing arrived: end of file */
        assert_int_equal(read(fds[0], buf, sizeof(buf)), 0);
        close(fds[0]);
}

/* A locked-in child that waits until its link closes; the caller looks at it from outside. */
static pid_t start_waiting(int *ret_link) {
        int pair[2];
        char byte;

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(pair[0], SANDBOX_LINK_FD);
                lock_in(SANDBOX_SERVE);
                send(SANDBOX_LINK_FD, "", 1, MSG_NOSIGNAL);
                _exit(recv(SANDBOX_LINK_FD, &byte, 1, 0) == 0 ? 0 : 92);
        }
        close(pair[0]);
        *ret_link = pair[1];
        assert_int_equal(recv(pair[1], &byte, 1, 0), 1);
        return pid;
}

static void stop_waiting(pid_t pid, int link) {
        int status;

        close(link);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        expect_exit(status, 0);
}

static void read_proc(pid_t pid, const char *name, char *buf, size_t size) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                fail_msg("%s: %s", path, strerror(errno));
        ssize_t n = read(fd, buf, size - 1);
        assert_true(n > 0);
        buf[n] = '\0';
        close(fd);
}

static void expect_line(const char *text, const char *line) {
        if (!strstr(text, line))
                fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void test_from_outside(void **state) {
        char status[4096], limits[4096];
        int link;
        pid_t pid = start_waiting(&link);

        read_proc(pid, "status", status, sizeof(status));
        read_proc(pid, "limits", limits, sizeof(limits));
        stop_waiting(pid, link);
        expect_line(status, "Seccomp:\t2\n");
        expect_line(status, "NoNewPrivs:\t1\n");
        expect_line(status, "CapEff:\t0000000000000000\n");
        expect_line(status, "CapPrm:\t0000000000000000\n");
        expect_line(limits, "Max processes             0                    0 ");
        expect_line(limits, "Max core file size        0                    0 ");
        expect_line(limits, "Max file size             0                    0 ");
        expect_line(limits, "Max open files            64                   64 ");
}

/* Three ways into another process. Returns a bit for each that worked. */
static long ways_in(pid_t pid) {
        char path[64], byte;
        struct iovec local = { &byte, 1 }, remote = { (void *)(uintptr_t)&byte, 1 };
        long ways = 0;

        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1)
                ways |= 1;
        snprintf(path, sizeof(path), "/proc/%d/mem", pid);
        if (open(path, O_RDONLY | O_CLOEXEC) >= 0)
                ways |= 2;
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0)
                ways |= 4;
        return ways;
}

static pid_t sleeping_child(void) {
        pid_t pid = fork();

        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                pause();
                _exit(0);
        }
        return pid;
}

/* Runs as an ordinary user: first against a child that did nothing, then against one locked in. */
static void try_ways_in(struct report *r, void *userdata) {
        int link;

        child_drop_privileges();
        prctl(PR_SET_DUMPABLE, 1); /* changing the uid cleared it, and children inherit it */
        pid_t open_child = sleeping_child();
        r->value[0] = ways_in(open_child);
        kill(open_child, SIGKILL);
        pid_t locked = start_waiting(&link);
        r->value[1] = ways_in(locked);
        kill(locked, SIGKILL);
        r->reached = true;
}

static void test_nobody_looks_in(void **state) {
        struct report r;

        expect_exit(child_run(try_ways_in, NULL, &r), 0);
        assert_true(r.reached);
        if (r.value[0] != 7)
                print_message("only ways %ld of 7 work on an open process here\n", r.value[0]);
        assert_true(r.value[0] != 0);
        assert_int_equal(r.value[1], 0);
}

/* ---- limits on what is written ---- */

static void write_beyond(struct report *r, void *userdata) {
        const enum sandbox_mode *mode = userdata;
        char bytes[4096] = { 0 };

        child_make_link();
        signal(SIGXFSZ, SIG_IGN);
        child_drop_privileges();
        sandbox_before_threads();
        int file = memfd_create("file", MFD_CLOEXEC);
        sandbox_enter(*mode, sizeof(bytes), MAX_FDS);
        r->value[0] = write(file, bytes, 1);
        r->value[1] = errno;
        r->reached = true;
        if (*mode == SANDBOX_SERVE)
                return;
        r->value[2] = pwrite(file, bytes, sizeof(bytes), 0);
        r->value[3] = pwrite(file, bytes, 1, sizeof(bytes));
        r->value[4] = errno;
}

static void test_file_size(void **state) {
        enum sandbox_mode mode = SANDBOX_SERVE;
        struct report r;

        expect_exit(child_run(write_beyond, &mode, &r), 0);
        assert_int_equal(r.value[0], -1);
        assert_int_equal(r.value[1], EFBIG);
        mode = SANDBOX_PACK;
        expect_exit(child_run(write_beyond, &mode, &r), 0);
        assert_int_equal(r.value[0], 1);
        assert_int_equal(r.value[2], 4096);
        assert_int_equal(r.value[3], -1);
        assert_int_equal(r.value[4], EFBIG);
}

/* ---- threads and libraries ---- */

struct pool {
        pthread_barrier_t start;
        pthread_t threads[THREADS];
        unsigned culprit; /* who makes the forbidden call; THREADS: nobody */
        unsigned next;
        struct report *report;
};

static int compare_bytes(const void *a, const void *b) {
        return *(const char *)a - *(const char *)b;
}

static void use_libraries(void) {
        enum { BIG = 3 << 20 };
        char text[64], *big = malloc(BIG);
        time_t now = time(NULL);
        struct tm tm;

        memset(big, 'x', BIG);
        qsort(big, 4096, 1, compare_bytes);
        for (size_t n = 1; n < BIG; n *= 3) {
                char *p = malloc(n);
                memset(p, 1, n);
                p = realloc(p, 2 * n);
                memset(p, 2, 2 * n);
                free(p);
        }
        snprintf(text, sizeof(text), "%.3f %s", 1.5, gmtime_r(&now, &tm) ? "time" : "no time");
        free(big);
}

static void *pool_thread(void *userdata) {
        struct pool *pool = userdata;
        unsigned self = __atomic_fetch_add(&pool->next, 1, __ATOMIC_SEQ_CST);

        pthread_barrier_wait(&pool->start); /* threads exist */
        pthread_barrier_wait(&pool->start); /* locked in */
        use_libraries();
        if (self == pool->culprit) {
                syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
                pool->report->reached = true;
        }
        return NULL;
}

static void run_pool(struct report *r, void *userdata) {
        struct pool pool = { .culprit = *(unsigned *)userdata, .report = r };

        child_make_link();
        child_drop_privileges();
        tzset();
        sandbox_before_threads();
        pthread_barrier_init(&pool.start, NULL, THREADS + 1);
        for (unsigned i = 0; i < THREADS; i++)
                if (pthread_create(&pool.threads[i], NULL, pool_thread, &pool) != 0)
                        _exit(93);
        pthread_barrier_wait(&pool.start);
        sandbox_enter(SANDBOX_SERVE, 0, MAX_FDS);
        pthread_barrier_wait(&pool.start);
        use_libraries();
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(pool.threads[i], NULL);
        r->value[0] = 1;
}

static void test_every_thread(void **state) {
        struct report r;
        char text[64];

        for (unsigned culprit = 0; culprit < THREADS; culprit++) {
                int status = child_run(run_pool, &culprit, &r);
                if (!child_was_filtered(status) || r.reached || r.value[0])
                        fail_msg("thread %u called socket and the process %s", culprit,
                                 child_status(status, text, sizeof(text)));
        }
}

static void test_honest_threads(void **state) {
        unsigned nobody = THREADS;
        struct report r;

        expect_exit(child_run(run_pool, &nobody, &r), 0);
        assert_int_equal(r.value[0], 1);
}

static void late_thread(struct report *r, void *userdata) {
        struct pool pool = { .culprit = THREADS };

        child_make_link();
        lock_in(SANDBOX_SERVE);
        pthread_create(&pool.threads[0], NULL, pool_thread, &pool);
        r->reached = true;
}

static void do_abort(struct report *r, void *userdata) {
        child_make_link();
        lock_in(SANDBOX_SERVE);
        abort();
}

static void test_abort_and_threads(void **state) {
        struct report r;
        int status = child_run(do_abort, NULL, NULL);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
        assert_true(child_was_filtered(child_run(late_thread, NULL, &r)));
        assert_false(r.reached);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_link),
                cmocka_unit_test(test_privilege),
                cmocka_unit_test(test_spoiled_steps),
                cmocka_unit_test(test_fd_limit),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_from_outside),
                cmocka_unit_test(test_nobody_looks_in),
                cmocka_unit_test(test_file_size),
                cmocka_unit_test(test_every_thread),
                cmocka_unit_test(test_honest_threads),
                cmocka_unit_test(test_abort_and_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
