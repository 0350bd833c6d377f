/* Whose slice is told for a connection: of the process that made it, while it lives, and of nobody
 * else. /proc is a folder of the test; processes, descriptors and sockets are real. */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/broker/slices.h"
#include "tests/daemon/broker/harness.h"

#define OURS "0::/system.slice/system-x.slice/bitnetd-test.service/app.slice/evil.slice\n"

static char proc[64];

static void put(pid_t pid, const char *name, const char *text) {
        char path[128];
        FILE *f;

        snprintf(path, sizeof(path), "%s/%d", proc, (int)pid);
        mkdir(path, 0700);
        snprintf(path, sizeof(path), "%s/%d/%s", proc, (int)pid, name);
        f = fopen(path, "we");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

static void put_status(pid_t pid, uid_t uid) {
        char text[128];

        snprintf(text, sizeof(text), "Name:\tx\nUid:\t77\t%u\t77\t77\nGid:\t0\t0\t0\t0\n", uid);
        put(pid, "status", text);
}

static int make_proc(void **state) {
        snprintf(proc, sizeof(proc), "/tmp/bitnetd-test-XXXXXX");
        return mkdtemp(proc) ? 0 : -1;
}

static int remove_proc(void **state) {
        remove_tree(proc);
        return 0;
}

/* A child that connects to a socket of ours and waits. */
static pid_t connect_child(int *ret_fd) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
        pid_t pid;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", proc);
        unlink(address.sun_path);
        assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listening, 1), 0);
        pid = fork();
        if (pid == 0) {
                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                        pause();
                _exit(1);
        }
        assert_true(pid > 0);
        *ret_fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        assert_true(*ret_fd >= 0);
        close(listening);
        return pid;
}

static void end(pid_t pid, bool reap) {
        siginfo_t info;

        kill(pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | (reap ? 0 : WNOWAIT)), 0);
}

static void test_a_connection(void **state) {
        char slice[SLICE_NAME_SIZE];
        int fd;
        pid_t pid = connect_child(&fd);

        assert_true(slices_of_socket(proc, fd, slice) < 0); /* /proc does not show it */
        put(pid, "cgroup", OURS);
        put_status(pid, geteuid());
        assert_int_equal(slices_of_socket(proc, fd, slice), 0);
        assert_string_equal(slice, "system-x.slice");
        put(pid, "cgroup", "0::/\n");
        assert_int_equal(slices_of_socket(proc, fd, slice), 0);
        assert_string_equal(slice, "");
        put(pid, "cgroup", "1:name=systemd:/system.slice/x.service\n");
        assert_true(slices_of_socket(proc, fd, slice) < 0);

        /* Its number may soon be another's: what is read there says nothing. */
        put(pid, "cgroup", OURS);
        end(pid, false);
        assert_true(slices_of_socket(proc, fd, slice) < 0);
        end(pid, true);
        assert_true(slices_of_socket(proc, fd, slice) < 0);
        close(fd);
}

static void test_a_number_counts_for_the_same_uid(void **state) {
        char slice[SLICE_NAME_SIZE];
        int fd;
        pid_t pid = connect_child(&fd);

        put(pid, "cgroup", OURS);
        put_status(pid, 1234);
        assert_int_equal(slices_of_process(proc, -1, pid, 1234, slice), 0);
        assert_string_equal(slice, "system-x.slice");
        assert_int_equal(slices_of_process(proc, -1, pid, 77, slice), -EPERM); /* the real uid */
        put(pid, "status", "Name:\tUid: 1234 1234\n");
        assert_int_equal(slices_of_process(proc, -1, pid, 1234, slice), -EBADMSG);
        put_status(pid, 1234);
        assert_true(slices_of_process(proc, -1, 0, 1234, slice) < 0);
        assert_true(slices_of_process(proc, -1, -1, 1234, slice) < 0);
        end(pid, true);
        assert_true(slices_of_process(proc, -1, pid, 1234, slice) < 0);
        close(fd);
}

/* A descriptor says which process it is: number and uid beside it are not looked at. */
static void test_a_descriptor(void **state) {
        char slice[SLICE_NAME_SIZE];
        int fd, pidfd;
        pid_t pid = connect_child(&fd);

        put(pid, "cgroup", OURS);
        pidfd = pidfd_open(pid, 0);
        assert_true(pidfd >= 0);
        assert_int_equal(slices_of_process(proc, pidfd, 1, 4711, slice), 0);
        assert_string_equal(slice, "system-x.slice");
        assert_true(slices_of_process(proc, fd, pid, geteuid(), slice) < 0); /* it is none */
        end(pid, false);
        assert_true(slices_of_process(proc, pidfd, pid, geteuid(), slice) < 0);
        end(pid, true);
        assert_true(slices_of_process(proc, pidfd, pid, geteuid(), slice) < 0);
        close(pidfd);
        close(fd);
}

static void test_visible(void **state) {
        assert_int_equal(slices_visible(proc), -EACCES);
        put(1, "cgroup", "0::/\n");
        assert_int_equal(slices_visible(proc), -ENOSYS);
        put(1, "cgroup", "0::/init.scope\n");
        assert_int_equal(slices_visible(proc), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_connection),
                cmocka_unit_test(test_a_number_counts_for_the_same_uid),
                cmocka_unit_test(test_a_descriptor),
                cmocka_unit_test(test_visible),
        };

        return cmocka_run_group_tests(tests, make_proc, remove_proc);
}
