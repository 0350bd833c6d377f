/* The broker against good, bad and dying workers and greedy clients, over the API socket. */
#undef NDEBUG
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/error.h"
#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"

#define SELF ((uid_t)-1)

static void test_queue_limits_are_exact(void **state) {
        struct daemon d;
        char buf[128], expect[64];
        int c[21];

        daemon_start(&d, NULL, NULL);
        for (unsigned i = 0; i < 21; i++) {
                c[i] = api_connect(&d, SELF);
                say(c[i], "job\n");
                hear(c[i], buf, sizeof(buf));
                if (i < 4)
                        assert_memory_equal(buf, "admitted ", 9);
                else if (i < 20) {
                        snprintf(expect, sizeof(expect), "queued %u\n", i - 3);
                        assert_string_equal(buf, expect);
                } else {
                        snprintf(expect, sizeof(expect), "refused %u 20 20 1000\n",
                                 ERROR_QUEUE_FULL);
                        assert_string_equal(buf, expect);
                }
        }
        /* The first ends: the fifth runs, and there is room for one more. */
        say(c[0], "end\n");
        assert_memory_equal(hear(c[4], buf, sizeof(buf)), "admitted ", 9);
        say(c[20], "job\n");
        assert_string_equal(hear(c[20], buf, sizeof(buf)), "queued 16\n");
        for (unsigned i = 0; i < 21; i++)
                close(c[i]);
        daemon_stop(&d);
}

static void test_too_many_connections(void **state) {
        static const char config[] = "[Default]\nMaxConnections = 3\n";
        struct daemon d;
        char buf[1024];
        int c[3], refused, again;

        daemon_start(&d, NULL, config);
        for (unsigned i = 0; i < 3; i++) {
                c[i] = api_connect(&d, SELF);
                worker_pid(c[i], NULL, NULL);
        }
        refused = api_connect(&d, SELF);
        say(refused, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"); /* never read */
        hear_all(refused, buf, sizeof(buf));
        assert_memory_equal(buf, "HTTP/1.1 429 Too Many Requests\r\n", 32);
        assert_non_null(strstr(buf, "\r\nRetry-After: 1\r\n"));
        assert_non_null(strstr(buf, "\"code\":\"too_many_connections\""));
        assert_non_null(strstr(buf, "\r\n\r\n{"));
        close(refused);
        say(c[1], "close\n");
        assert_string_equal(hear_all(c[1], buf, sizeof(buf)), "");
        /* The broker may see the new connection before it reads that the old one was closed. */
        for (unsigned i = 0; i < 100; i++) {
                again = api_connect(&d, SELF);
                say(again, "pid\n");
                hear(again, buf, sizeof(buf));
                close(again);
                if (strncmp(buf, "HTTP/", 5) != 0)
                        break;
                usleep(10000);
        }
        assert_memory_not_equal(buf, "HTTP/", 5);
        for (unsigned i = 0; i < 3; i++)
                close(c[i]);
        daemon_stop(&d);
}

static void test_dead_worker_is_replaced(void **state) {
        struct daemon d;
        char buf[64];
        pid_t first, second;
        int a, b;

        daemon_start(&d, NULL, NULL);
        a = api_connect(&d, SELF);
        b = api_connect(&d, SELF);
        first = worker_pid(a, NULL, NULL);
        assert_int_equal(worker_pid(b, NULL, NULL), first); /* one worker per uid */
        say(a, "exit\n");
        assert_string_equal(hear_all(b, buf, sizeof(buf)), ""); /* both connections end */
        /* The kernel closes a process's descriptors in an order of its own: one that was accepted
         * before the link was closed would share the end of the others. */
        wait_until_gone(first);
        close(a);
        close(b);
        a = api_connect(&d, SELF);
        second = worker_pid(a, NULL, NULL);
        assert_int_not_equal(first, second);
        kill(second, SIGKILL);
        hear_all(a, buf, sizeof(buf));
        wait_until_gone(second);
        close(a);
        a = api_connect(&d, SELF);
        assert_int_not_equal(worker_pid(a, NULL, NULL), second);
        close(a);
        daemon_stop(&d);
}

static void test_illegal_messages_end_the_worker(void **state) {
        for (unsigned kind = 0; kind < FAKE_ILLEGAL_KINDS; kind++) {
                struct daemon d;
                char buf[64];
                pid_t pid;
                int c;

                daemon_start(&d, NULL, NULL);
                c = api_connect(&d, SELF);
                pid = worker_pid(c, NULL, NULL);
                snprintf(buf, sizeof(buf), "illegal %u\n", kind);
                say(c, buf);
                hear_all(c, buf, sizeof(buf));
                wait_until_gone(pid);
                close(c);
                c = api_connect(&d, SELF);
                if (worker_pid(c, NULL, NULL) == pid)
                        fail_msg("illegal message %u was accepted", kind);
                close(c);
                daemon_stop(&d);
        }
}

/* Workers that never get ready: the client gets 503 and the broker does not spin. */
static void test_bad_starts(void **state) {
        static const char *const threads[] = { "13", "15" };

        for (unsigned i = 0; i < 2; i++) {
                const char *const options[] = { "--threads", threads[i], NULL };
                struct daemon d;
                char buf[1024];

                daemon_start(&d, options, NULL);
                for (unsigned k = 0; k < 3; k++) {
                        int c = api_connect(&d, SELF);

                        hear_all(c, buf, sizeof(buf));
                        assert_memory_equal(buf, "HTTP/1.1 503 ", 13);
                        assert_non_null(strstr(buf, "\"code\":\"unavailable\""));
                        close(c);
                }
                daemon_stop(&d);
        }
}

static void test_stop_with_silent_worker(void **state) {
        const char *const options[] = { "--threads", "14", NULL };
        struct daemon d;
        int c;

        daemon_start(&d, options, NULL);
        c = api_connect(&d, SELF);
        daemon_stop(&d); /* checks that no process is left */
        close(c);
}

static void test_idle_worker_ends(void **state) {
        struct daemon d;
        pid_t pid;
        int c;

        daemon_start(&d, NULL, "[Default]\nIdleTimeoutSec = 1\n");
        c = api_connect(&d, SELF);
        pid = worker_pid(c, NULL, NULL);
        usleep(1300000); /* a connection keeps it */
        assert_int_equal(worker_pid(c, NULL, NULL), pid);
        close(c);
        wait_until_gone(pid);
        c = api_connect(&d, SELF);
        assert_int_not_equal(worker_pid(c, NULL, NULL), pid);
        close(c);
        daemon_stop(&d);
}

/* A model that is to stay loaded keeps its worker, as long as the user's limit says and no
 * longer. */
static void test_kept_worker_stays(void **state) {
        struct daemon d;
        struct timespec start, end;
        pid_t pid;
        int c;

        daemon_start(&d, NULL,
                     "[Default]\nIdleTimeoutSec = 1\nModelIdleSec = 1\nMaxKeepAliveSec = 3\n");
        c = api_connect(&d, SELF);
        pid = worker_pid(c, NULL, NULL);
        clock_gettime(CLOCK_MONOTONIC, &start);
        say(c, "keep 1000000000000000\n");
        close(c);
        wait_until_gone(pid);
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_true(end.tv_sec - start.tv_sec >= 2); /* without: one second */
        daemon_stop(&d);
}

/* The packed file in the state folder; there is exactly one. */
static void packed_path(const struct daemon *d, char path[256]) {
        glob_t g;
        char pattern[96];

        snprintf(pattern, sizeof(pattern), "%s/state/*.packed", d->dir);
        for (unsigned i = 0; glob(pattern, 0, NULL, &g) != 0; i++) {
                wait_a_little(i);
        }
        assert_int_equal(g.gl_pathc, 1);
        snprintf(path, 256, "%s", g.gl_pathv[0]);
        globfree(&g);
}

static void wait_for_content(const char *path, const char *expected) {
        char text[64] = "";

        for (unsigned i = 0; strcmp(text, expected) != 0; i++) {
                FILE *f = fopen(path, "re");

                wait_a_little(i);
                if (f) {
                        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
                        fclose(f);
                }
        }
}

/* A packed file is made once, kept over a restart, and made anew when somebody changed it. */
static void test_packed_file_is_verified(void **state) {
        struct stat first, second, third;
        struct daemon d;
        char path[256];
        FILE *f;

        daemon_start(&d, NULL, NULL);
        packed_path(&d, path);
        wait_for_content(path, FAKE_PACKED);
        assert_int_equal(stat(path, &first), 0);
        assert_int_equal(first.st_mode & 07777, 0600);
        daemon_restart(&d);
        usleep(300000);
        assert_int_equal(stat(path, &second), 0);
        assert_int_equal(first.st_ino, second.st_ino);
        f = fopen(path, "r+e");
        fputs("evil", f);
        fclose(f);
        daemon_restart(&d);
        wait_for_content(path, FAKE_PACKED);
        assert_int_equal(stat(path, &third), 0);
        assert_int_not_equal(first.st_ino, third.st_ino);
        daemon_stop(&d);
}

static void test_two_uids_two_workers(void **state) {
        const char *const options[] = { "--socket-mode", "0666", NULL };
        uid_t process_uid[2], served[2];
        struct daemon d;
        char buf[64];
        int a, b, many[20];

        if (geteuid() != 0) {
                print_message("skipped: only root can connect as two users\n");
                skip();
        }
        daemon_start(&d, options, NULL);
        a = api_connect(&d, 1234);
        b = api_connect(&d, 1235);
        assert_int_not_equal(worker_pid(a, &process_uid[0], &served[0]),
                             worker_pid(b, &process_uid[1], &served[1]));
        assert_int_equal(served[0], 1234);
        assert_int_equal(served[1], 1235);
        assert_true(process_uid[0] >= 61184 && process_uid[1] >= 61184);
        assert_int_not_equal(process_uid[0], process_uid[1]);
        /* One user's full queue is not the other's. */
        for (unsigned i = 0; i < 20; i++) {
                many[i] = api_connect(&d, 1234);
                say(many[i], "job\n");
                hear(many[i], buf, sizeof(buf));
        }
        say(a, "job\n");
        assert_memory_equal(hear(a, buf, sizeof(buf)), "refused ", 8);
        say(b, "job\n");
        assert_memory_equal(hear(b, buf, sizeof(buf)), "admitted ", 9);
        for (unsigned i = 0; i < 20; i++)
                close(many[i]);
        close(a);
        close(b);
        daemon_stop(&d);
}

static void test_second_instance_is_refused(void **state) {
        struct daemon d, second;
        int status;

        daemon_start(&d, NULL, NULL);
        second.pid = fork();
        if (second.pid == 0) {
                quiet();
                execl(BITNETD_PATH, BITNETD_PATH, "--user", "--socket", d.api, "--state-dir", d.dir,
                      NULL);
                _exit(99);
        }
        assert_int_equal(waitpid(second.pid, &status, 0), second.pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 99);
        assert_int_equal(access(d.api, F_OK), 0);
        daemon_stop(&d);
}

/* What the daemon wrote so far (it is started with its errors in a file). */
/* A worker that goes on without a lease is logged, then ended. */
static void test_overrun_ends_the_worker(void **state) {
        struct daemon d;
        char buf[8192];
        pid_t pid;
        int c;

        daemon_start(&d, NULL, NULL);
        c = api_connect(&d, SELF);
        pid = worker_pid(c, NULL, NULL);
        say(c, "overrun\n");
        assert_string_equal(hear_all(c, buf, sizeof(buf)), "");
        wait_until_gone(pid);
        read_log(&d, buf, sizeof(buf));
        assert_non_null(strstr(buf, "worker keeps computing after its lease"));
        close(c);
        c = api_connect(&d, SELF);
        assert_int_not_equal(worker_pid(c, NULL, NULL), pid);
        close(c);
        daemon_stop(&d);
}

static void test_fault_flood_ends_the_worker(void **state) {
        struct daemon d;
        char buf[8192], *p = buf;
        unsigned lines = 0;
        int c;

        daemon_start(&d, NULL, NULL);
        c = api_connect(&d, SELF);
        worker_pid(c, NULL, NULL);
        say(c, "faults\n");
        assert_string_equal(hear_all(c, buf, sizeof(buf)), "");
        close(c);
        read_log(&d, buf, sizeof(buf));
        while ((p = strstr(p, "reports a fault"))) {
                lines++;
                p++;
        }
        assert_int_equal(lines, 16);
        daemon_stop(&d);
}

static void test_bad_model_is_named_in_the_log(void **state) {
        struct daemon d;

        daemon_start(&d, NULL, NULL);
        wait_for_log(&d, "model \"bad\" refused: not a GGUF file (code=");
        daemon_stop(&d);
}

static void send_stop(const struct daemon *d) {
        kill(d->pid, SIGTERM);
}

/* At the end running and waiting jobs are told why; what comes later is refused. */
static void test_stop_tells_the_clients(void **state) {
        char buf[1024], expect[64];
        struct daemon d;
        int c[6], keep;

        daemon_start(&d, NULL, NULL);
        keep = api_connect(&d, SELF);
        worker_pid(keep, NULL, NULL);
        say(keep, "linger\n"); /* the worker does not leave at once */
        for (unsigned i = 0; i < 6; i++) {
                c[i] = api_connect(&d, SELF);
                say(c[i], "job\n");
                hear(c[i], buf, sizeof(buf));
        }
        send_stop(&d);
        for (unsigned i = 0; i < 6; i++)
                assert_string_equal(hear(c[i], buf, sizeof(buf)), "cancelled\n");
        say(c[0], "job\n");
        snprintf(expect, sizeof(expect), "refused %u 0 0 0\n", ERROR_STOPPING);
        assert_string_equal(hear(c[0], buf, sizeof(buf)), expect);
        for (unsigned i = 0; i < 6; i++)
                close(c[i]);
        close(keep);
        daemon_stop(&d);
}

/* A worker that hangs at the end costs two seconds, not more. */
static void test_stop_is_bounded(void **state) {
        struct daemon d;
        struct timespec start, end;
        int c;

        daemon_start(&d, NULL, NULL);
        c = api_connect(&d, SELF);
        worker_pid(c, NULL, NULL);
        say(c, "hang\n");
        clock_gettime(CLOCK_MONOTONIC, &start);
        daemon_stop(&d);
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_in_range((end.tv_sec - start.tv_sec) * 1000 +
                                (end.tv_nsec - start.tv_nsec) / 1000000,
                        1900, 60000);
        close(c);
}

/* More models than the link holds messages, told of while the worker does not read. */
static void test_long_catalogue(void **state) {
        struct daemon d;
        char path[160];
        pid_t pid;
        int c;

        daemon_start(&d, NULL, NULL);
        for (unsigned i = 0; i < 200; i++) {
                FILE *f;

                snprintf(path, sizeof(path), "%s/models/more-%u.gguf", d.dir, i);
                f = fopen(path, "we");
                fputs("B source", f);
                fclose(f);
        }
        c = api_connect(&d, SELF);
        pid = worker_pid(c, NULL, NULL);
        say(c, "nap\n");
        usleep(100000);
        for (unsigned i = 0; i < 4; i++) { /* each reload tells of all again */
                kill(d.pid, SIGHUP);
                usleep(100000);
        }
        assert_int_equal(worker_pid(c, NULL, NULL), pid);
        close(c);
        daemon_stop(&d);
}

static unsigned count_descriptors(pid_t pid) {
        char pattern[48];
        unsigned n;
        glob_t g;

        snprintf(pattern, sizeof(pattern), "/proc/%d/fd/*", pid);
        assert_int_equal(glob(pattern, 0, NULL, &g), 0);
        n = (unsigned)g.gl_pathc;
        globfree(&g);
        return n;
}

static int private_bus(const struct daemon *d) {
        static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
        int fd = unix_connect(d->bus, SELF);
        char buf[128];

        assert_int_equal(write(fd, hello, sizeof(hello) - 1), sizeof(hello) - 1);
        assert_memory_equal(hear(fd, buf, sizeof(buf)), "DATA", 4);
        assert_memory_equal(hear(fd, buf, sizeof(buf)), "OK ", 3);
        assert_memory_equal(hear(fd, buf, sizeof(buf)), "AGREE_UNIX_FD", 13);
        return fd;
}

/* Descriptors that one client parks in an unfinished message do not lock the others out. */
static void test_descriptors_run_out(void **state) {
        enum { ALL = 64 };
        char control[CMSG_SPACE(ALL * sizeof(int))] = "", byte = 'l';
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };
        struct cmsghdr *cmsg = (struct cmsghdr *)control;
        unsigned n, held;
        struct daemon d;
        int greedy;

        daemon_start_limited(&d, ALL);
        wait_for_log(&d, "refused");
        greedy = private_bus(&d);
        held = count_descriptors(d.pid);
        assert_in_range(held, 5, ALL - 1);
        n = ALL - held;
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n * sizeof(int));
        m.msg_controllen = CMSG_SPACE(n * sizeof(int)); /* all are standard input, descriptor 0 */
        assert_int_equal(sendmsg(greedy, &m, 0), 1);
        for (unsigned i = 0; count_descriptors(d.pid) < ALL; i++) {
                wait_a_little(i);
        }
        for (unsigned i = 0; i < 3; i++) {
                int c = api_connect(&d, SELF);

                worker_pid(c, NULL, NULL);
                close(c);
        }
        close(greedy);
        daemon_stop(&d);
}

static void test_reload(void **state) {
        struct daemon d;
        char buf[1024], path[128];
        FILE *f;
        int a, b;

        daemon_start(&d, NULL, "[Default]\nMaxConnections = 1\n");
        a = api_connect(&d, SELF);
        worker_pid(a, NULL, NULL);
        b = api_connect(&d, SELF);
        assert_memory_equal(hear_all(b, buf, sizeof(buf)), "HTTP/1.1 429", 12);
        close(b);
        snprintf(path, sizeof(path), "%s/conf", d.dir);
        f = fopen(path, "we");
        fputs("[Default]\nMaxConnections = 2\n", f);
        fclose(f);
        kill(d.pid, SIGHUP);
        wait_for_log(&d, "configuration reloaded");
        b = api_connect(&d, SELF);
        assert_int_equal(worker_pid(b, NULL, NULL), worker_pid(a, NULL, NULL));
        close(b);
        f = fopen(path, "we");
        fputs("[Default]\nMaxConnections = none\n", f); /* refused, the old one stays */
        fclose(f);
        kill(d.pid, SIGHUP);
        wait_for_log(&d, "/conf:2: not a number\n");
        b = api_connect(&d, SELF);
        worker_pid(b, NULL, NULL);
        close(a);
        close(b);
        daemon_stop(&d);
}

static int run_daemon(const char *const *options) {
        const char *argv[16] = { BITNETD_PATH };
        int status;
        pid_t pid = fork();

        for (unsigned i = 0; options[i]; i++)
                argv[i + 1] = options[i];
        if (pid == 0) {
                quiet();
                execv(BITNETD_PATH, (char **)argv);
                _exit(99);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_command_line(void **state) {
        char bad[] = "/tmp/bitnetd-test-XXXXXX";
        int fd = mkstemp(bad);

        assert_int_equal(write(fd, "[Default]\nWhat=1\n", 17), 17);
        close(fd);
        assert_int_equal(run_daemon((const char *[]){ "--version", NULL }), 0);
        assert_int_equal(run_daemon((const char *[]){ "--help", NULL }), 0);
        assert_int_equal(run_daemon((const char *[]){ "--what", NULL }), 2);
        assert_int_equal(run_daemon((const char *[]){ "argument", NULL }), 2);
        assert_int_equal(run_daemon((const char *[]){ "--threads", "65", NULL }), 2);
        assert_int_equal(run_daemon((const char *[]){ "--cpu", "sse9", NULL }), 2);
        assert_int_equal(run_daemon((const char *[]){ "--user", "--config", bad, NULL }), 78);
        assert_int_equal(run_daemon((const char *[]){ "--user", "--config", "/no/file", NULL }),
                         78);
        /* The configuration is read first: a mistake in it is told even where nothing could run. */
        setenv("BITNETD_WORKER", "/no/worker", 1);
        assert_int_equal(run_daemon((const char *[]){ "--user", "--config", bad, NULL }), 78);
        assert_int_equal(run_daemon((const char *[]){ "--user", "--config", "/dev/null", NULL }),
                         69);
        unsetenv("BITNETD_WORKER");
        unlink(bad);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_queue_limits_are_exact),
                cmocka_unit_test(test_too_many_connections),
                cmocka_unit_test(test_dead_worker_is_replaced),
                cmocka_unit_test(test_illegal_messages_end_the_worker),
                cmocka_unit_test(test_bad_starts),
                cmocka_unit_test(test_stop_with_silent_worker),
                cmocka_unit_test(test_idle_worker_ends),
                cmocka_unit_test(test_kept_worker_stays),
                cmocka_unit_test(test_packed_file_is_verified),
                cmocka_unit_test(test_two_uids_two_workers),
                cmocka_unit_test(test_second_instance_is_refused),
                cmocka_unit_test(test_overrun_ends_the_worker),
                cmocka_unit_test(test_fault_flood_ends_the_worker),
                cmocka_unit_test(test_bad_model_is_named_in_the_log),
                cmocka_unit_test(test_stop_tells_the_clients),
                cmocka_unit_test(test_stop_is_bounded),
                cmocka_unit_test(test_long_catalogue),
                cmocka_unit_test(test_descriptors_run_out),
                cmocka_unit_test(test_reload),
                cmocka_unit_test(test_command_line),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
