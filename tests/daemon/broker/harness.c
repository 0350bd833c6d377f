/* The test program is a sub-reaper, so a worker that outlives its broker becomes its child and is
 * noticed. Paths of the programs are compiled in. */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"

enum { MAX_ARGS = 40 };

void wait_a_little(unsigned i) {
        assert_true(i < 12000);
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

static void write_file(const char *dir, const char *name, const char *text) {
        char path[160];
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", dir, name);
        f = fopen(path, "we");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

void quiet(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0 && dup2(fd, 1) == 1 && dup2(fd, 2) == 2);
}

static void limit_descriptors(unsigned n) {
        struct rlimit l = { n, n };

        if (n > 0)
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
}

static void exec_daemon(const struct daemon *d, const char *const *options) {
        char models[96], state[96], conf[96], log[96];
        const char *argv[MAX_ARGS] = { BITNETD_PATH, "--user", "--socket", d->api, "--state-dir",
                                       state, "--model-dir", models,
                                       "--pressure-file", "" };
        size_t n = 10;

        snprintf(models, sizeof(models), "%s/models", d->dir);
        snprintf(state, sizeof(state), "%s/state", d->dir);
        snprintf(conf, sizeof(conf), "%s/conf", d->dir);
        snprintf(log, sizeof(log), "%s/log", d->dir);
        if (d->config) {
                argv[n++] = "--config";
                argv[n++] = conf;
        }
        while (options && *options && n < MAX_ARGS - 1)
                argv[n++] = *options++;
        setenv("BITNETD_WORKER", FAKE_WORKER_PATH, 1);
        setenv("XDG_CONFIG_HOME", d->dir, 1); /* not that of the person who runs the test */
        prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        quiet();
        assert_true(dup2(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), 2) == 2);
        limit_descriptors(d->descriptors);
        execv(BITNETD_PATH, (char **)argv);
        _exit(99);
}

static void launch(struct daemon *d, const char *const *options) {
        d->pid = fork();
        assert_true(d->pid >= 0);
        if (d->pid == 0)
                exec_daemon(d, options);
        /* A socket appears under its name when it listens. */
        for (unsigned i = 0; access(d->bus, F_OK) < 0; i++) {
                assert_int_equal(waitpid(d->pid, NULL, WNOHANG), 0);
                wait_a_little(i);
        }
}

static void start(struct daemon *d, const char *const *options, const char *config) {
        char models[96];

        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        snprintf(d->dir, sizeof(d->dir), "/tmp/bitnetd-test-XXXXXX");
        assert_non_null(mkdtemp(d->dir));
        chmod(d->dir, 0711);
        snprintf(d->api, sizeof(d->api), "%s/api.sock", d->dir);
        snprintf(d->bus, sizeof(d->bus), "%s/bus.sock", d->dir);
        snprintf(models, sizeof(models), "%s/models", d->dir);
        mkdir(models, 0700);
        write_file(models, "Alpha.gguf", "A source");
        write_file(models, "bad.gguf", "B source");
        write_file(models, "not a name.gguf", "A source");
        write_file(models, "readme.txt", "nothing");
        if (config)
                write_file(d->dir, "conf", config);
        d->config = config;
        launch(d, options);
}

void daemon_start(struct daemon *d, const char *const *options, const char *config) {
        d->descriptors = 0;
        start(d, options, config);
}

void daemon_start_limited(struct daemon *d, unsigned descriptors) {
        d->descriptors = descriptors;
        start(d, NULL, NULL);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

void remove_tree(const char *dir) {
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void end(struct daemon *d) {
        int status = -1;

        kill(d->pid, SIGTERM);
        for (unsigned i = 0; waitpid(d->pid, &status, WNOHANG) == 0; i++)
                wait_a_little(i);
        assert_int_equal(status, 0);
        assert_int_equal(access(d->api, F_OK), -1);
        assert_int_equal(access(d->bus, F_OK), -1);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

void daemon_pause(struct daemon *d) {
        end(d);
}

void daemon_resume(struct daemon *d) {
        launch(d, NULL);
}

void daemon_restart(struct daemon *d) {
        daemon_pause(d);
        daemon_resume(d);
}

void daemon_stop(struct daemon *d) {
        end(d);
        remove_tree(d->dir);
}

void read_log(const struct daemon *d, char *buf, size_t size) {
        char path[128];
        FILE *f;

        snprintf(path, sizeof(path), "%s/log", d->dir);
        f = fopen(path, "re");
        assert_non_null(f);
        buf[fread(buf, 1, size - 1, f)] = '\0';
        fclose(f);
}

void wait_for_log(const struct daemon *d, const char *text) {
        char buf[8192] = "";

        for (unsigned i = 0; !strstr(buf, text); i++) {
                wait_a_little(i);
                read_log(d, buf, sizeof(buf));
        }
}

int unix_connect(const char *path, uid_t uid) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
        /* The peer's credentials are those of the thread that connects. */
        if (uid != (uid_t)-1)
                assert_int_equal(syscall(SYS_setresuid, -1, uid, -1), 0);
        r = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
        if (uid != (uid_t)-1)
                assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
        assert_int_equal(r, 0);
        return fd;
}

int api_connect(const struct daemon *d, uid_t uid) {
        return unix_connect(d->api, uid);
}

void say(int fd, const char *line) {
        assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
}

static const char *read_text(int fd, char *buf, size_t size, bool line) {
        size_t n = 0;

        while (n < size - 1) {
                struct pollfd p = { fd, POLLIN, 0 };
                ssize_t r;

                assert_int_equal(poll(&p, 1, 60000), 1);
                r = read(fd, buf + n, 1);
                if (r <= 0)
                        break;
                n++;
                if (line && buf[n - 1] == '\n')
                        break;
        }
        buf[n] = '\0';
        return buf;
}

const char *hear(int fd, char *buf, size_t size) {
        return read_text(fd, buf, size, true);
}

const char *hear_all(int fd, char *buf, size_t size) {
        return read_text(fd, buf, size, false);
}

pid_t worker_pid(int fd, uid_t *ret_process_uid, uid_t *ret_served_uid) {
        unsigned process_uid, served_uid;
        char buf[64];
        int pid;

        say(fd, "pid\n");
        if (sscanf(hear(fd, buf, sizeof(buf)), "%d %u %u", &pid, &process_uid, &served_uid) != 3)
                fail_msg("no pid: '%s'", buf);
        if (ret_process_uid)
                *ret_process_uid = process_uid;
        if (ret_served_uid)
                *ret_served_uid = served_uid;
        return pid;
}

void wait_until_gone(pid_t pid) {
        for (unsigned i = 0; kill(pid, 0) == 0; i++) {
                wait_a_little(i);
        }
}
