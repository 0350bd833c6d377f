/* Landlock by itself, without the filter: what works before must be refused after, and descriptors
 * that were handed over keep working. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "daemon/worker/landlock.h"
#include "tests/sandbox/child.h"

/* Outcomes, each 0 or an errno. */
enum { LIST, READ, CREATE, MAKE_DIR, TCP_BIND, ABSTRACT, SIGNAL, _OUTCOMES };

struct scene {
        int abstract;          /* a listening abstract socket */
        struct sockaddr_un sa;
        socklen_t sa_size;
};

static long outcome(int fd) {
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static long bind_tcp(void) {
        struct sockaddr_in sa = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        int r = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
        int e = errno;

        close(fd);
        return r < 0 ? e : 0;
}

static long connect_abstract(const struct scene *s) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        int r = connect(fd, (const struct sockaddr *)&s->sa, s->sa_size);
        int e = errno;

        close(fd);
        return r < 0 ? e : 0;
}

static void try_everything(const struct scene *s, volatile long *ret) {
        char name[] = "/tmp/test-landlock-XXXXXX";

        ret[LIST] = outcome(open("/", O_RDONLY | O_DIRECTORY));
        ret[READ] = outcome(open("/etc/passwd", O_RDONLY));
        ret[CREATE] = outcome(mkstemp(name));
        unlink(name);
        memcpy(name + sizeof(name) - 7, "XXXXXX", 6);
        ret[MAKE_DIR] = mkdtemp(name) ? 0 : errno;
        rmdir(name);
        ret[TCP_BIND] = bind_tcp();
        ret[ABSTRACT] = connect_abstract(s);
        ret[SIGNAL] = kill(getppid(), 0) < 0 ? errno : 0;
}

static void before(struct report *r, void *userdata) {
        try_everything(userdata, r->value);
        r->reached = true;
}

static void after(struct report *r, void *userdata) {
        char c;
        int file = open("/etc/passwd", O_RDONLY);

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        r->result = landlock_enter();
        try_everything(userdata, r->value);
        r->error = read(file, &c, 1);
        r->reached = true;
}

static void expect(const char *what, long got, long expected) {
        if (got != expected)
                fail_msg("%s: errno %ld, expected %ld", what, got, expected);
}

static void test_twins(void **state) {
        unsigned abi = landlock_abi();
        struct scene s = { .sa.sun_family = AF_UNIX, .sa_size = sizeof(sa_family_t) };
        struct report free, locked;

        if (abi == 0) {
                print_message("skipped: this kernel has no Landlock, or a container hides it\n");
                skip();
        }
        s.abstract = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        s.sa_size = sizeof(s.sa);
        assert_int_equal(bind(s.abstract, (struct sockaddr *)&s.sa, sizeof(sa_family_t)), 0);
        assert_int_equal(getsockname(s.abstract, (struct sockaddr *)&s.sa, &s.sa_size), 0);
        assert_int_equal(listen(s.abstract, 4), 0);

        assert_int_equal(child_run(before, &s, &free), 0);
        assert_int_equal(child_run(after, &s, &locked), 0);
        close(s.abstract);
        for (int i = 0; i < _OUTCOMES; i++)
                expect("before", free.value[i], 0);
        print_message("Landlock ABI %u\n", abi);
        assert_true(locked.result > 0);
        expect("list", locked.value[LIST], EACCES);
        expect("read", locked.value[READ], EACCES);
        expect("create", locked.value[CREATE], EACCES);
        expect("mkdir", locked.value[MAKE_DIR], EACCES);
        expect("TCP bind", locked.value[TCP_BIND], abi >= 4 ? EACCES : 0);
        expect("abstract socket", locked.value[ABSTRACT], abi >= 6 ? EPERM : 0);
        expect("signal", locked.value[SIGNAL], abi >= 6 ? EPERM : 0);
        expect("a descriptor from before", locked.error, 1);
}

static void without_no_new_privs(struct report *r, void *userdata) {
        child_drop_privileges();
        r->result = landlock_enter();
}

static void test_needs_no_new_privs(void **state) {
        struct report r;

        if (landlock_abi() == 0)
                skip();
        assert_int_equal(child_run(without_no_new_privs, NULL, &r), 0);
        assert_int_equal(r.result, -EPERM);
}

/* Each ABI restricts at least what the one before it does, in a structure of the size it knows. */
static void test_rights(void **state) {
        static const uint64_t sizes[] = { 0, 8, 8, 8, 16, 16, 24, 24, 24, 24 };
        struct landlock_rights last = { 0 };

        for (unsigned abi = 0; abi <= LANDLOCK_ABI_KNOWN; abi++) {
                struct landlock_rights r = landlock_rights(abi);
                assert_int_equal(r.size, sizes[abi]);
                assert_int_equal(r.fs & last.fs, last.fs);
                assert_int_equal(r.net & last.net, last.net);
                assert_int_equal(r.scoped & last.scoped, last.scoped);
                assert_true(r.net == 0 || r.size >= 16);
                assert_true(r.scoped == 0 || r.size >= 24);
                last = r;
        }
        assert_int_equal(landlock_rights(2).fs, 0x3fff);
        assert_int_equal(landlock_rights(5).fs, 0xffff);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rights),
                cmocka_unit_test(test_twins),
                cmocka_unit_test(test_needs_no_new_privs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
