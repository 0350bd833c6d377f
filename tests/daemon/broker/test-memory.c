/* Memory pressure, as a file says it, and the daemon that leaves when nobody is there. */
#undef NDEBUG
#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/pressure.h"
#include "policy/error.h"
#include "tests/daemon/broker/harness.h"

#define SELF ((uid_t)-1)

/* That of jobs.c would bring the job table along. */
uint64_t now_monotonic(void) {
        return (uint64_t)time(NULL) * 1000000;
}

static void test_format(void **state) {
        static const char *const bad[] = { "", "some", "some total=", "some avg10=0 total=x",
                                           "full avg10=0 total=1", "some avg10=0\nfull total=1",
                                           "some a total=-1", "some a total=1x",
                                           "some a total=99999999999999999999" };
        uint64_t usec;

        assert_int_equal(pressure_parse("some avg10=0.00 avg60=0.01 avg300=0.00 total=4271036\n"
                                        "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
                                        &usec), 0);
        assert_int_equal(usec, 4271036);
        assert_int_equal(pressure_parse("some avg10=0.00 total=0", &usec), 0);
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                if (pressure_parse(bad[i], &usec) == 0)
                        fail_msg("accepted: %s", bad[i]);
}

/* What the kernel would write. */
struct gauge {
        char path[64];
        uint64_t waited;
};

/* In place: the daemon has the file open. */
static void gauge_add(struct gauge *g, uint64_t more) {
        char text[160];
        int fd = open(g->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), n;

        g->waited += more;
        n = snprintf(text, sizeof(text),
                     "some avg10=0.00 avg60=0.00 avg300=0.00 total=%020llu\n"
                     "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                     (unsigned long long)g->waited);
        assert_int_equal(pwrite(fd, text, (size_t)n, 0), n);
        close(fd);
}

static unsigned drops(int conn) {
        char buf[64];

        say(conn, "drops\n");
        return (unsigned)atoi(hear(conn, buf, sizeof(buf)));
}

static void start(struct daemon *d, struct gauge *g) {
        const char *options[] = { "--pressure-file", g->path, NULL };

        snprintf(g->path, sizeof(g->path), "/tmp/bitnetd-pressure-%d", getpid());
        unlink(g->path);
        gauge_add(g, 1000000000); /* long ago */
        daemon_start(d, options, NULL);
}

static void packed_path(const struct daemon *d, char path[256]) {
        char pattern[96];
        glob_t g;

        snprintf(pattern, sizeof(pattern), "%s/state/*.packed", d->dir);
        for (unsigned i = 0; glob(pattern, 0, NULL, &g) != 0; i++) {
                wait_a_little(i);
        }
        snprintf(path, 256, "%s", g.gl_pathv[0]);
        globfree(&g);
}

/* Is it in the page cache? */
static bool cached(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        void *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
        unsigned char here = 1;

        assert_true(map != MAP_FAILED);
        assert_int_equal(mincore(map, 1, &here), 0);
        munmap(map, 1);
        close(fd);
        return here & 1;
}

/* What lies there is never dropped. */
static bool file_system_in_memory(void) {
        struct statfs st;

        return statfs("/tmp", &st) == 0 && st.f_type == TMPFS_MAGIC;
}

/* First caches of all, then workers without work, one that has a client stays; then the files that
 * nobody uses any more. */
static void test_pressure(void **state) {
        bool in_memory = file_system_in_memory();
        struct gauge g = {};
        struct daemon d;
        char path[256];
        pid_t pid;
        int c;

        start(&d, &g);
        c = api_connect(&d, SELF);
        pid = worker_pid(c, NULL, NULL);
        sleep(3);
        assert_int_equal(drops(c), 0); /* what was before does not count */
        for (unsigned i = 0; drops(c) < 5; i++) {
                assert_true(i < 600);
                gauge_add(&g, 30000);
                usleep(100000);
        }
        assert_int_equal(kill(pid, 0), 0); /* its client has not gone */
        close(c);
        packed_path(&d, path);
        for (unsigned i = 0; kill(pid, 0) == 0 || (cached(path) && !in_memory); i++) {
                assert_true(i < 600);
                gauge_add(&g, 30000);
                usleep(100000);
        }
        daemon_stop(&d);
        unlink(g.path);
}

/* A little waiting is no pressure. */
static void test_calm(void **state) {
        struct gauge g = {};
        struct daemon d;
        int c;

        start(&d, &g);
        c = api_connect(&d, SELF);
        for (unsigned i = 0; i < 40; i++) {
                gauge_add(&g, 2000);
                usleep(100000);
        }
        assert_int_equal(drops(c), 0);
        close(c);
        daemon_stop(&d);
        unlink(g.path);
}

/* True when the page cache has forgotten the file: a file system in memory never does. */
static bool forget(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_int_equal(fsync(fd), 0);
        assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        close(fd);
        return !cached(path);
}

static void assert_model(int conn, enum error_code expected) {
        char buf[64], text[64];

        say(conn, "want alpha\n");
        snprintf(text, sizeof(text), "model %u\n", expected);
        assert_string_equal(hear(conn, buf, sizeof(buf)), text);
}

/* A file that the page cache has lost is read before it is handed out, and verified, too. */
static void test_lost_file_is_read_again(void **state) {
        struct daemon d;
        char path[256];
        int c, fd;

        daemon_start(&d, NULL, NULL);
        c = api_connect(&d, SELF);
        assert_model(c, ERROR_NONE);
        packed_path(&d, path);
        usleep(2500000); /* not so soon after it was read */
        if (!forget(path)) {
                print_message("the page cache keeps %s: not tested\n", path);
                close(c);
                daemon_stop(&d);
                skip();
        }
        assert_model(c, ERROR_NONE);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "evil", 4, 0), 4);
        close(fd);
        usleep(2500000);
        assert_true(forget(path));
        assert_model(c, ERROR_MODEL_BAD);
        close(c);
        daemon_stop(&d);
}

static void assert_left(struct daemon *d) {
        int status = -1;

        for (unsigned i = 0; waitpid(d->pid, &status, WNOHANG) == 0; i++) {
                wait_a_little(i);
        }
        assert_int_equal(status, 0);
        assert_int_equal(access(d->api, F_OK), -1);
        assert_int_equal(access(d->bus, F_OK), -1);
        remove_tree(d->dir);
}

static void test_idle_exit(void **state) {
        const char *const options[] = { "--idle-exit", "1", NULL };
        struct daemon d;
        int c;

        daemon_start(&d, options, "[Default]\nIdleTimeoutSec = 1\n");
        c = api_connect(&d, SELF);
        worker_pid(c, NULL, NULL);
        sleep(3); /* somebody is there */
        assert_int_equal(waitpid(d.pid, NULL, WNOHANG), 0);
        close(c);
        assert_left(&d);
        daemon_start(&d, NULL, "[Broker]\nIdleExitSec = 1\n");
        assert_left(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_format),
                cmocka_unit_test(test_pressure),
                cmocka_unit_test(test_calm),
                cmocka_unit_test(test_lost_file_is_read_again),
                cmocka_unit_test(test_idle_exit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
