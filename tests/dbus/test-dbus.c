/* The bus face over the private socket and over a real dbus-daemon, with the fake worker. */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"
#include "tests/dbus/calls.h"

static void test_job_from_start_to_end(void **state) {
        struct daemon d;
        char path[128], buf[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        out = generate(bus, "Generate", "ok please", NULL, NULL, path);
        assert_true(out >= 0);
        assert_string_equal(hear_all(out, buf, sizeof(buf)), FAKE_ANSWER);
        assert_ends(bus, path, "done", "");
        assert_string_property(bus, path, "State", "done");
        assert_string_property(bus, path, "Result", "done");
        assert_string_property(bus, path, "ErrorName", "");
        assert_string_property(bus, path, "Verb", "chat");
        assert_string_property(bus, path, "Model", "alpha");
        assert_string_property(bus, path, "Priority", "interactive");
        assert_int_equal(number(bus, path, "TokensOut"), 3);
        assert_int_equal(number(bus, path, "BytesCovered"), strlen("ok please"));
        assert_true(number(bus, path, "StartedUSec") >= number(bus, path, "CreatedUSec"));
        assert_true(number(bus, path, "FinishedUSec") >= number(bus, path, "StartedUSec"));
        close(out);

        out = generate(bus, "Generate", "early", NULL, NULL, path);
        assert_ends(bus, path, "failed", ERROR_NAME("InvalidInput"));
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_cancel(void **state) {
        struct daemon d;
        char path[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        out = generate(bus, "Generate", "wait", NULL, NULL, path); /* the worker is starting */
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        close(out);
        out = generate(bus, "Generate", "wait", NULL, NULL, path);
        wait_for_state(bus, path, "generating");
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL); /* it has ended: nothing happens */
        close(out);
        out = generate(bus, "Summarize", "wait", "length", "short", path);
        assert_true(out >= 0);
        call_expecting(bus, ROOT, NAME ".Manager", "CancelAll", NULL);
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        close(out);
        /* A worker that does not obey is ended, and with it the job. */
        out = generate(bus, "Generate", "hang", NULL, NULL, path);
        wait_for_state(bus, path, "generating");
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, path, "failed", ERROR_NAME("WorkerFailed"));
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_deadline(void **state) {
        struct daemon d;
        sd_bus_message *reply = NULL;
        char result[128], error[128];
        const char *path;
        int input = input_of("wait");
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", NULL, &reply,
                                       "sha{sv}", "", input, 1, "deadline-usec", "t",
                                       UINT64_C(300000)) >= 0);
        assert_true(sd_bus_message_read(reply, "oh", &path, NULL) >= 0);
        wait_job(bus, path, result, error);
        assert_string_equal(result, "failed");
        assert_string_equal(error, ERROR_NAME("DeadlineExceeded"));
        sd_bus_message_unref(reply);
        close(input);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_worker_dies(void **state) {
        struct daemon d;
        char path[3][128], buf[64];
        int out[3];
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        out[0] = generate(bus, "Generate", "wait", NULL, NULL, path[0]);
        out[1] = generate(bus, "Generate", "wait", NULL, NULL, path[1]);
        out[2] = generate(bus, "Generate", "exit", NULL, NULL, path[2]);
        for (unsigned i = 0; i < 3; i++) {
                assert_ends(bus, path[i], "failed", ERROR_NAME("WorkerFailed"));
                assert_string_equal(hear_all(out[i], buf, sizeof(buf)), "");
                close(out[i]);
        }
        out[0] = generate(bus, "Generate", "ok", NULL, NULL, path[0]);
        assert_ends(bus, path[0], "done", "");
        close(out[0]);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_refusals(void **state) {
        static const struct {
                const char *method, *key, *word, *error;
        } cases[] = {
                { "Generate", "priority", "urgent", "InvalidInput" },
                { "Generate", "no-such-option", "x", "InvalidInput" },
                { "Generate", "temperature", "hot", "InvalidInput" }, /* a string, not a number */
                { "Generate", "length", "short", "InvalidInput" },    /* of the other verb */
                { "Summarize", "mode", "chat", "InvalidInput" },
                { "Generate", "grammar", "x", "Unsupported" },
        };
        struct daemon d;
        char path[128], expected[128];
        sd_bus *bus;

        daemon_start(&d, NULL, "[Default]\nMaxInputBytes = 1K\n");
        bus = private_bus(&d, 0);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_int_equal(generate(bus, cases[i].method, "ok", cases[i].key, cases[i].word,
                                          path), -1);
                snprintf(expected, sizeof(expected), NAME ".Error.%s", cases[i].error);
                assert_string_equal(path, expected);
        }
        {
                char large[1026];

                memset(large, 'x', sizeof(large) - 1);
                large[sizeof(large) - 1] = '\0';
                assert_int_equal(generate(bus, "Generate", large, NULL, NULL, path), -1);
                assert_string_equal(path, ERROR_NAME("InputTooLarge"));
        }
        call_expecting(bus, ROOT "/job/1", NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
        call_expecting(bus, ROOT "/job/x", NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Descriptors that are no input. */
static void test_bad_descriptors(void **state) {
        struct daemon d;
        sd_bus *bus;
        int fds[5], pair[2];

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        fds[0] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fds[1] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        fds[2] = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        fds[3] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
        fds[4] = pair[1]; /* the writing end */
        for (unsigned i = 0; i < 5; i++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                int r = sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", &e, NULL,
                                           "sha{sv}", "", fds[i], 0);

                assert_true(r < 0);
                if (strcmp(e.name, ERROR_NAME("InvalidInput")) != 0)
                        fail_msg("descriptor %u: %s", i, e.name);
                sd_bus_error_free(&e);
                close(fds[i]);
        }
        close(pair[0]);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_full_queue(void **state) {
        struct daemon d;
        char path[128];
        int out[20];
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        for (unsigned i = 0; i < 20; i++) {
                out[i] = generate(bus, "Generate", "wait", NULL, NULL, path);
                assert_true(out[i] >= 0);
        }
        assert_int_equal(generate(bus, "Generate", "wait", NULL, NULL, path), -1);
        assert_string_equal(path, ERROR_NAME("QueueFull"));
        call_expecting(bus, ROOT, NAME ".Manager", "CancelAll", NULL);
        for (unsigned i = 0; i < 20; i++) {
                char buf[8];

                assert_string_equal(hear_all(out[i], buf, sizeof(buf)), "");
                close(out[i]);
        }
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_client_goes_away(void **state) {
        struct daemon d;
        char path[128], buf[8];
        sd_bus *bus, *other;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        other = private_bus(&d, 0);
        out = generate(bus, "Generate", "wait", NULL, NULL, path);
        assert_true(out >= 0);
        sd_bus_flush_close_unref(bus);
        assert_string_equal(hear_all(out, buf, sizeof(buf)), "");
        assert_ends(other, path, "cancelled", ERROR_NAME("Cancelled"));
        close(out);
        sd_bus_flush_close_unref(other);
        daemon_stop(&d);
}

/* One uid has so many private connections; one that never gets through the greeting counts too,
 * until it is closed. */
static void test_private_connections_are_bounded(void **state) {
        struct daemon d;
        char buf[64];
        int fds[8], ninth;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        for (unsigned i = 0; i < 8; i++) {
                fds[i] = unix_connect(d.bus, (uid_t)-1);
                assert_int_equal(write(fds[i], "\0AUTH EXT", 9), 9);
        }
        ninth = unix_connect(d.bus, (uid_t)-1);
        assert_string_equal(hear_all(ninth, buf, sizeof(buf)), "");
        close(ninth);
        for (unsigned i = 0; i < 8; i++)
                close(fds[i]);
        for (unsigned i = 0; buf[0] != 'D'; i++) { /* DATA: there is room again */
                wait_a_little(i);
                ninth = unix_connect(d.bus, (uid_t)-1);
                (void)!send(ninth, "\0AUTH EXTERNAL\r\n", 16, MSG_NOSIGNAL);
                hear(ninth, buf, sizeof(buf));
                close(ninth);
        }
        bus = private_bus(&d, 0);
        call_expecting(bus, ROOT, NAME ".Manager", "CancelAll", NULL);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* A client that calls and never reads the replies is dropped before they pile up. */
static void test_unread_replies_are_bounded(void **state) {
        struct daemon d;
        sd_bus_message *m = NULL;
        enum { MANY = 1000000 }; /* more than socket buffers hold */
        unsigned sent = 0;
        uint64_t cookie;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        call_expecting(bus, ROOT, NAME ".Manager", "CancelAll", NULL);
        while (sent < MANY) {
                assert_true(sd_bus_message_new_method_call(bus, &m, NAME, ROOT,
                                                           "org.freedesktop.DBus.Introspectable",
                                                           "Introspect") >= 0);
                if (sd_bus_send(bus, m, &cookie) < 0 || sd_bus_flush(bus) < 0)
                        break;
                m = sd_bus_message_unref(m);
                sent++;
        }
        sd_bus_message_unref(m);
        assert_in_range(sent, 10, MANY - 1);
        sd_bus_close_unref(bus);
        bus = private_bus(&d, 0);
        call_expecting(bus, ROOT, NAME ".Manager", "CancelAll", NULL);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* SIGTERM: who waits for a job hears how it ended, and nothing new is started. */
static void test_stop_answers_those_who_wait(void **state) {
        struct daemon d;
        static const char *const inputs[] = { "wait", "hang" };
        char path[128], buf[8];
        sd_bus *bus;
        pid_t killer;
        int out;

        for (unsigned i = 0; i < 2; i++) {
                daemon_start(&d, NULL, NULL);
                bus = private_bus(&d, 0);
                out = generate(bus, "Generate", inputs[i], NULL, NULL, path);
                wait_for_state(bus, path, "generating");
                killer = fork();
                if (killer == 0) {
                        usleep(300000);
                        kill(d.pid, SIGTERM);
                        _exit(0);
                }
                assert_ends(bus, path, "failed", ERROR_NAME("ShuttingDown"));
                assert_string_equal(hear_all(out, buf, sizeof(buf)), "");
                close(out);
                sd_bus_flush_close_unref(bus);
                assert_int_equal(waitpid(killer, NULL, 0), killer);
                daemon_stop(&d);
        }
}

/* Prepare or Release: 0, or -1 with the error's name in error. */
static int residency(sd_bus *bus, bool prepare, const char *model, char error[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r = prepare ? sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Prepare", &e, NULL,
                                             "sa{sv}", model, 0)
                        : sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Release", &e, NULL,
                                             "s", model);

        snprintf(error, 128, "%s", e.name ? e.name : "");
        sd_bus_error_free(&e);
        return r < 0 ? -1 : 0;
}

static void assert_told(const struct daemon *d, const char *expected) {
        int c = api_connect(d, (uid_t)-1);
        char buf[64];

        for (unsigned i = 0; say(c, "prepared\n"), strcmp(hear(c, buf, sizeof(buf)), expected) != 0;
             i++) {
                if (i == 1000)
                        fail_msg("the worker was told %s, not %s", buf, expected);
                usleep(5000);
        }
        close(c);
}

/* A lease keeps the worker and is known to it, also to the next one; it ends with Release or with
 * the connection. */
static void test_residency(void **state) {
        struct daemon d;
        char error[128];
        sd_bus *a, *b;
        pid_t pid;
        int c;

        daemon_start(&d, NULL, "[Default]\nIdleTimeoutSec = 1\nMaxObjects = 2\n");
        a = private_bus(&d, 0);
        b = private_bus(&d, 0);
        assert_int_equal(residency(a, true, "", error), 0);
        assert_int_equal(residency(a, true, "alpha", error), 0); /* the same again */
        assert_int_equal(residency(b, true, "alpha", error), 0);
        assert_told(&d, "keep alpha\n");
        c = api_connect(&d, (uid_t)-1);
        pid = worker_pid(c, NULL, NULL);
        close(c);
        usleep(1500000);
        assert_int_equal(kill(pid, 0), 0);
        kill(pid, SIGKILL);
        wait_until_gone(pid);
        assert_told(&d, "keep alpha\n");
        assert_int_equal(residency(a, false, "alpha", error), 0);
        assert_int_equal(residency(a, false, "alpha", error), -1);
        assert_string_equal(error, ERROR_NAME("NoSuchObject"));
        assert_told(&d, "keep alpha\n"); /* the other one's */
        c = api_connect(&d, (uid_t)-1);
        pid = worker_pid(c, NULL, NULL);
        sd_bus_close_unref(b);
        assert_told(&d, "drop alpha\n");
        close(c);
        wait_until_gone(pid);
        sd_bus_close_unref(a);
        daemon_stop(&d);
}

static void test_refused_residency(void **state) {
        struct daemon d;
        char error[128];
        sd_bus *bus;

        daemon_start(&d, NULL, "[Default]\nAllowModels = a*\nMaxObjects = 1\n");
        bus = private_bus(&d, 0);
        assert_int_equal(residency(bus, true, "nothing", error), -1);
        assert_string_equal(error, ERROR_NAME("ModelNotFound"));
        assert_int_equal(residency(bus, true, "bad", error), -1);
        assert_string_equal(error, ERROR_NAME("NotAuthorized"));
        assert_int_equal(residency(bus, false, "alpha", error), -1);
        assert_string_equal(error, ERROR_NAME("NoSuchObject"));
        assert_int_equal(residency(bus, true, "alpha", error), 0);
        daemon_stop(&d); /* with a lease */
        sd_bus_close_unref(bus);
}

static void test_foreign_jobs_do_not_exist(void **state) {
        const char *const options[] = { "--socket-mode", "0666", NULL };
        struct daemon d;
        char path[128];
        sd_bus *owner, *other;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char *text = NULL;
        int out;

        if (geteuid() != 0) {
                print_message("skipped: only root can connect as two users\n");
                skip();
        }
        daemon_start(&d, options, NULL);
        owner = private_bus(&d, 1234);
        other = private_bus(&d, 1235);
        out = generate(owner, "Generate", "wait", NULL, NULL, path);
        assert_int_equal(count_jobs(owner), 1);
        assert_int_equal(count_jobs(other), 0);
        call_expecting(other, path, NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
        assert_true(sd_bus_get_property_string(other, NAME, path, NAME ".Job", "State", &e,
                                               &text) < 0);
        assert_string_equal(e.name, ERROR_NAME("NoSuchObject"));
        sd_bus_error_free(&e);
        assert_true(sd_bus_call_method(other, NAME, ROOT, NAME ".Manager", "ListJobs", &e, NULL,
                                       "a{sv}", 1, "all", "b", 1) < 0);
        assert_string_equal(e.name, ERROR_NAME("NotAuthorized"));
        sd_bus_error_free(&e);
        call_expecting(other, ROOT, NAME ".Manager", "CancelAll", NULL);
        call_expecting(owner, path, NAME ".Job", "Cancel", NULL);
        assert_ends(owner, path, "cancelled", ERROR_NAME("Cancelled"));
        close(out);
        sd_bus_flush_close_unref(owner);
        sd_bus_flush_close_unref(other);
        daemon_stop(&d);
}

/* Finished jobs stay readable, but not without bound. */
static void test_finished_jobs_are_bounded(void **state) {
        struct daemon d;
        char path[128], first[128] = "";
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        for (unsigned i = 0; i < 70; i++) {
                int out = generate(bus, "Generate", "early", NULL, NULL, path);

                assert_ends(bus, path, "failed", ERROR_NAME("InvalidInput"));
                if (i == 0)
                        memcpy(first, path, sizeof(first));
                close(out);
        }
        assert_int_equal(count_jobs(bus), 64);
        call_expecting(bus, first, NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Jobs of the other face are in the same table. */
static void test_http_jobs_are_listed(void **state) {
        struct daemon d;
        char line[64], path[128];
        unsigned long long id;
        sd_bus *bus;
        int c;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        c = api_connect(&d, (uid_t)-1);
        say(c, "job\n");
        assert_int_equal(sscanf(hear(c, line, sizeof(line)), "admitted %llu", &id), 1);
        snprintf(path, sizeof(path), ROOT "/job/%llu", id);
        assert_int_equal(count_jobs(bus), 1);
        assert_string_property(bus, path, "Verb", "chat");
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        assert_string_equal(hear(c, line, sizeof(line)), "cancelled\n");
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        close(c);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

struct seen {
        unsigned count;
        char path[128], word[32];
};

static int on_completed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct seen *seen = userdata;
        const char *word = "";

        sd_bus_message_read(m, "s", &word);
        snprintf(seen->path, sizeof(seen->path), "%s", sd_bus_message_get_path(m));
        snprintf(seen->word, sizeof(seen->word), "%s", word);
        seen->count++;
        return 0;
}

static sd_bus *session_bus(const char *address) {
        sd_bus *bus;

        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_address(bus, address) >= 0);
        assert_true(sd_bus_set_bus_client(bus, 1) >= 0);
        assert_true(sd_bus_start(bus) >= 0);
        return bus;
}

/* A real message bus: name, unicast signal, owner that vanishes. */
static void test_message_bus(void **state) {
        static const char match[] = "type='signal',interface='" NAME ".Job',member='Completed'",
                          any[] = "type='signal',interface='" NAME ".Job'";
        struct daemon d;
        struct seen mine = {}, theirs = {};
        char dir[] = "/tmp/bitnetd-test-XXXXXX", address[64], option[80], path[128], buf[64];
        sd_bus *owner, *other;
        pid_t dbus;
        int out;

        assert_non_null(mkdtemp(dir));
        snprintf(address, sizeof(address), "unix:path=%s/bus", dir);
        snprintf(option, sizeof(option), "--address=%s", address);
        dbus = fork();
        if (dbus == 0) {
                prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
                quiet();
                execlp("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile",
                       option, NULL);
                _exit(99);
        }
        snprintf(buf, sizeof(buf), "%s/bus", dir);
        for (unsigned i = 0; access(buf, F_OK) < 0; i++) {
                int status;

                if (waitpid(dbus, &status, WNOHANG) != 0) {
                        print_message("skipped: no dbus-daemon\n");
                        skip();
                }
                wait_a_little(i);
        }
        setenv("DBUS_SESSION_BUS_ADDRESS", address, 1);
        daemon_start(&d, NULL, NULL);
        unsetenv("DBUS_SESSION_BUS_ADDRESS");
        owner = session_bus(address);
        other = session_bus(address);
        assert_true(sd_bus_add_match(owner, NULL, match, on_completed, &mine) >= 0);
        assert_true(sd_bus_add_match(other, NULL, any, on_completed, &theirs) >= 0);
        /* The sockets answer a moment before the name is there. */
        for (unsigned i = 0; (out = generate(owner, "Generate", "ok", NULL, NULL, path)) < 0; i++) {
                wait_a_little(i);
        }
        assert_string_equal(hear_all(out, buf, sizeof(buf)), FAKE_ANSWER);
        close(out);
        pump(owner, 300);
        pump(other, 300);
        assert_int_equal(mine.count, 1);
        assert_string_equal(mine.path, path);
        assert_string_equal(mine.word, "done");
        assert_int_equal(theirs.count, 0); /* unicast */

        out = generate(owner, "Generate", "wait", NULL, NULL, path);
        sd_bus_flush_close_unref(owner);
        assert_string_equal(hear_all(out, buf, sizeof(buf)), "");
        assert_ends(other, path, "cancelled", ERROR_NAME("Cancelled"));
        close(out);
        sd_bus_flush_close_unref(other);
        kill(dbus, SIGTERM);
        waitpid(dbus, NULL, 0);
        daemon_stop(&d);
        snprintf(buf, sizeof(buf), "%s/bus", dir);
        unlink(buf);
        rmdir(dir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_job_from_start_to_end),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_deadline),
                cmocka_unit_test(test_worker_dies),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_bad_descriptors),
                cmocka_unit_test(test_full_queue),
                cmocka_unit_test(test_client_goes_away),
                cmocka_unit_test(test_private_connections_are_bounded),
                cmocka_unit_test(test_unread_replies_are_bounded),
                cmocka_unit_test(test_stop_answers_those_who_wait),
                cmocka_unit_test(test_residency),
                cmocka_unit_test(test_refused_residency),
                cmocka_unit_test(test_foreign_jobs_do_not_exist),
                cmocka_unit_test(test_finished_jobs_are_bounded),
                cmocka_unit_test(test_http_jobs_are_listed),
                cmocka_unit_test(test_message_bus),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
