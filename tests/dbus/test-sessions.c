/* Sessions on the bus: what the broker and its face make of them, with the fake worker. */
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"
#include "tests/dbus/calls.h"

enum { STRANGER = 54321 };

/* A session with these first messages (or NULL): its path, or the name of the error. */
static void create(sd_bus *bus, const char *initial, char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL, *reply = NULL;
        int fd = initial ? input_of(initial) : -1;
        const char *p = "";

        assert_true(sd_bus_message_new_method_call(bus, &m, NAME, ROOT, NAME ".Manager",
                                                   "CreateSession") >= 0);
        assert_true(sd_bus_message_append(m, "s", "") >= 0);
        assert_true((initial ? sd_bus_message_append(m, "a{sv}", 1, "initial", "h", fd)
                             : sd_bus_message_append(m, "a{sv}", 0)) >= 0);
        if (sd_bus_call(bus, m, 20000000, &e, &reply) >= 0)
                assert_true(sd_bus_message_read(reply, "o", &p) >= 0);
        snprintf(path, 128, "%s", e.name ? e.name : p);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        if (fd >= 0)
                close(fd);
}

/* A method of a session without result. error: NULL for none. text: its input, or NULL. */
static void call(sd_bus *bus, const char *path, const char *method, const char *text,
                 const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int fd = text ? input_of(text) : -1;
        int r = text ? sd_bus_call_method(bus, NAME, path, NAME ".Session", method, &e, NULL, "h",
                                          fd)
                     : sd_bus_call_method(bus, NAME, path, NAME ".Session", method, &e, NULL, "");

        if (error && r >= 0)
                fail_msg("%s: no error", method);
        if (r < 0 && (!error || strcmp(e.name, error) != 0))
                fail_msg("%s: %s (%s)", method, e.name, e.message);
        sd_bus_error_free(&e);
        if (fd >= 0)
                close(fd);
}

/* Start a turn: its output, and the job's path; or -1 and the name of the error. */
static int prompt(sd_bus *bus, const char *path, const char *text, char job[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int fd = input_of(text), output = -1;
        const char *p;

        if (sd_bus_call_method(bus, NAME, path, NAME ".Session", "Prompt", &e, &reply, "ha{sv}", fd,
                               0) >= 0) {
                assert_true(sd_bus_message_read(reply, "oh", &p, &output) >= 0);
                snprintf(job, 128, "%s", p);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        } else {
                snprintf(job, 128, "%s", e.name);
        }
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        close(fd);
        return output;
}

static void assert_result(sd_bus *bus, const char *job, const char *result) {
        sd_bus_message *reply = NULL;
        const char *word;

        assert_true(sd_bus_call_method(bus, NAME, job, NAME ".Job", "Wait", NULL, &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &word) >= 0);
        assert_string_equal(word, result);
        sd_bus_message_unref(reply);
}

/* A turn from its start to its end. */
static void turn(sd_bus *bus, const char *path, const char *text) {
        char job[128], buf[64];
        int out = prompt(bus, path, text, job);

        if (out < 0)
                fail_msg("Prompt: %s", job);
        assert_string_equal(hear_all(out, buf, sizeof(buf)), FAKE_ANSWER);
        assert_result(bus, job, "done");
        close(out);
}

static uint64_t number_of(sd_bus *bus, const char *path, const char *property, char type) {
        uint64_t value = 0;

        if (sd_bus_get_property_trivial(bus, NAME, path, NAME ".Session", property, NULL, type,
                                        &value) < 0)
                fail_msg("no property %s", property);
        return value;
}

/* Sessions that ListSessions shows. */
static unsigned count(sd_bus *bus, bool all, const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        unsigned n = 0;
        int r = sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "ListSessions", &e, &reply,
                                   "a{sv}", 1, "all", "b", all);

        if (error) {
                assert_true(r < 0);
                assert_string_equal(e.name, error);
        } else {
                assert_true(r >= 0);
                assert_true(sd_bus_message_enter_container(reply, 'a', "(oustttttub)") >= 0);
                while (sd_bus_message_skip(reply, "(oustttttub)") > 0)
                        n++;
        }
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        return n;
}

/* What the quota object says is used of a limit. */
static uint64_t used(sd_bus *bus, const char *wanted) {
        sd_bus_message *reply = NULL;
        uint64_t value, found = UINT64_MAX;
        const char *key;

        assert_true(sd_bus_get_property(bus, NAME, ROOT "/quota/0", NAME ".Quota", "Used", NULL,
                                        &reply, "a{sv}") >= 0);
        assert_true(sd_bus_message_enter_container(reply, 'a', "{sv}") >= 0);
        while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(reply, "s", &key) >= 0);
                assert_true(sd_bus_message_read(reply, "v", "t", &value) >= 0);
                if (strcmp(key, wanted) == 0)
                        found = value;
                assert_true(sd_bus_message_exit_container(reply) >= 0);
        }
        sd_bus_message_unref(reply);
        assert_true(found != UINT64_MAX);
        return found;
}

static int on_closed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        const char *reason;
        char *out = userdata;

        assert_true(sd_bus_message_read(m, "s", &reason) >= 0);
        snprintf(out, 128, "%s", reason);
        return 0;
}

static void watch(sd_bus *bus, char reason[128]) {
        reason[0] = '\0';
        assert_true(sd_bus_match_signal(bus, NULL, NULL, NULL, NAME ".Session", "Closed", on_closed,
                                        reason) >= 0);
}

static void wait_for_closed(sd_bus *bus, const char reason[128], const char *expected) {
        for (unsigned i = 0; !reason[0]; i++) {
                assert_true(i < 1000);
                if (sd_bus_process(bus, NULL) == 0)
                        sd_bus_wait(bus, 20000);
        }
        assert_string_equal(reason, expected);
}

static void assert_gone(sd_bus *bus, const char *path) {
        for (unsigned i = 0; count(bus, false, NULL) > 0; i++) {
                wait_a_little(i);
        }
        call(bus, path, "Clear", NULL, ERROR_NAME("NoSuchObject"));
        for (unsigned i = 0; used(bus, "MaxSessions") + used(bus, "MaxSessionKV") > 0; i++) {
                wait_a_little(i);
        }
}

static void test_from_start_to_end(void **state) {
        char path[128], reason[128], *model = NULL;
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, "fine", path);
        assert_true(strncmp(path, ROOT "/session/", strlen(ROOT "/session/")) == 0);
        assert_int_equal(number_of(bus, path, "TokensUsed", 't'), 10);
        assert_int_equal(number_of(bus, path, "TokensMax", 't'), 1000);
        assert_int_equal(number_of(bus, path, "Busy", 'b'), 0);
        assert_true(number_of(bus, path, "ExpiresUSec", 't') >
                    number_of(bus, path, "CreatedUSec", 't') + UINT64_C(1790000000));
        assert_true(sd_bus_get_property_string(bus, NAME, path, NAME ".Session", "Model", NULL,
                                               &model) >= 0);
        assert_string_equal(model, "alpha");
        turn(bus, path, "ok 5000");
        turn(bus, path, "ok 7000");
        assert_int_equal(number_of(bus, path, "Turns", 'u'), 2);
        assert_int_equal(number_of(bus, path, "KVBytes", 't'), 7000);
        assert_int_equal(used(bus, "MaxSessions"), 1);
        assert_int_equal(used(bus, "MaxSessionKV"), 7000);
        call(bus, path, "Append", "fine", NULL);
        call(bus, path, "Append", "full", ERROR_NAME("ContextTooLong"));
        call(bus, path, "Clear", NULL, NULL);
        assert_int_equal(used(bus, "MaxSessionKV"), 0);
        assert_int_equal(count(bus, false, NULL), 1);
        call(bus, path, "Close", NULL, NULL);
        wait_for_closed(bus, reason, "closed");
        assert_gone(bus, path);
        free(model);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_one_thing_at_a_time(void **state) {
        char path[128], job[128], other[128], reason[128];
        struct daemon d;
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, NULL, path);
        out = prompt(bus, path, "wait", job);
        assert_true(out >= 0);
        assert_int_equal(number_of(bus, path, "Busy", 'b'), 1);
        assert_int_equal(prompt(bus, path, "ok", other), -1);
        assert_string_equal(other, ERROR_NAME("SessionBusy"));
        call(bus, path, "Append", "fine", ERROR_NAME("SessionBusy"));
        call(bus, path, "Clear", NULL, ERROR_NAME("SessionBusy"));
        assert_true(sd_bus_call_method(bus, NAME, job, NAME ".Job", "Cancel", NULL, NULL, "") >= 0);
        assert_result(bus, job, "cancelled");
        close(out);
        turn(bus, path, "ok");
        assert_int_equal(number_of(bus, path, "Turns", 'u'), 1);
        out = prompt(bus, path, "wait", job);
        call(bus, path, "Close", NULL, NULL); /* ends the turn, too */
        assert_result(bus, job, "cancelled");
        assert_gone(bus, path);
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_limits(void **state) {
        char path[4][128];
        struct daemon d;
        sd_bus *bus;
        char buf[32];
        int api;

        daemon_start(&d, NULL, "[Default]\nMaxSessions = 3\nMaxSessionKV = 10K\n");
        bus = private_bus(&d, 0);
        create(bus, "full", path[0]);
        assert_string_equal(path[0], ERROR_NAME("ContextTooLong"));
        for (unsigned i = 0; i < 3; i++)
                create(bus, NULL, path[i]);
        create(bus, NULL, path[3]);
        assert_string_equal(path[3], ERROR_NAME("TooManySessions"));
        assert_int_equal(used(bus, "MaxSessions"), 3);
        turn(bus, path[0], "ok 6000");
        turn(bus, path[1], "ok 4000");
        assert_int_equal(used(bus, "MaxSessionKV"), 10000);
        turn(bus, path[2], "ok 2000"); /* the longest unused gives its own back */
        assert_int_equal(number_of(bus, path[0], "KVBytes", 't'), 0);
        assert_int_equal(number_of(bus, path[1], "KVBytes", 't'), 4000);
        assert_int_equal(used(bus, "MaxSessionKV"), 6000);
        turn(bus, path[1], "ok 20000"); /* more than all may keep: nothing of this one */
        assert_int_equal(number_of(bus, path[1], "KVBytes", 't'), 0);
        assert_int_equal(used(bus, "MaxSessionKV"), 2000);
        api = api_connect(&d, (uid_t)-1);
        say(api, "forgets\n");
        assert_string_equal(hear(api, buf, sizeof(buf)), "2\n");
        close(api);
        call(bus, path[2], "Close", NULL, NULL);
        create(bus, NULL, path[3]);
        assert_int_equal(count(bus, false, NULL), 3);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_others_see_nothing(void **state) {
        char path[128], job[128];
        struct daemon d;
        sd_bus *bus, *second, *stranger;

        if (geteuid() != 0)
                skip();
        daemon_start(&d, NULL, NULL);
        assert_int_equal(chmod(d.bus, 0666), 0);
        stranger = private_bus(&d, STRANGER);
        bus = private_bus(&d, 0);
        create(bus, NULL, path);
        call(stranger, path, "Close", NULL, ERROR_NAME("NoSuchObject"));
        call(stranger, ROOT "/session/1", "Close", NULL, ERROR_NAME("NoSuchObject"));
        assert_int_equal(prompt(stranger, path, "ok", job), -1);
        assert_string_equal(job, ERROR_NAME("NoSuchObject"));
        assert_int_equal(count(stranger, false, NULL), 0);
        count(stranger, true, ERROR_NAME("NotAuthorized"));
        second = private_bus(&d, 0); /* another connection of the same user */
        turn(second, path, "ok");
        create(stranger, NULL, path);
        assert_int_equal(count(bus, false, NULL), 1);
        assert_int_equal(count(bus, true, NULL), 2);
        assert_int_equal(prompt(bus, path, "ok", job), -1); /* root looks, but does not speak */
        assert_string_equal(job, ERROR_NAME("NotAuthorized"));
        call(bus, path, "Append", "fine", ERROR_NAME("NotAuthorized"));
        call(bus, path, "Close", NULL, NULL);
        assert_int_equal(count(stranger, false, NULL), 0);
        sd_bus_flush_close_unref(second);
        sd_bus_flush_close_unref(stranger);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_ends_with_its_connection(void **state) {
        char path[128], job[128];
        struct daemon d;
        sd_bus *bus, *owner;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        owner = private_bus(&d, 0);
        create(owner, NULL, path);
        out = prompt(owner, path, "wait", job);
        assert_int_equal(count(bus, false, NULL), 1);
        sd_bus_flush_close_unref(owner);
        assert_gone(bus, path);
        assert_result(bus, job, "cancelled");
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_expiry(void **state) {
        char path[128], job[128], reason[128];
        struct daemon d;
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, "[Default]\nSessionIdleSec = 1\n");
        bus = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, NULL, path);
        out = prompt(bus, path, "wait", job);
        usleep(1500000);
        assert_int_equal(count(bus, false, NULL), 1); /* as long as a turn runs it is in use */
        assert_true(sd_bus_call_method(bus, NAME, job, NAME ".Job", "Cancel", NULL, NULL, "") >= 0);
        close(out);
        wait_for_closed(bus, reason, "expired");
        assert_gone(bus, path);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_worker_dies(void **state) {
        char path[128], other[128], reason[128];
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, NULL, path);
        call(bus, path, "Append", "exit", ERROR_NAME("WorkerFailed"));
        wait_for_closed(bus, reason, "worker-failed");
        assert_gone(bus, path);
        create(bus, "exit", path);
        assert_string_equal(path, ERROR_NAME("WorkerFailed"));
        /* One that says what it must not is ended. */
        create(bus, NULL, path);
        reason[0] = '\0';
        call(bus, path, "Append", "twice", NULL);
        wait_for_closed(bus, reason, "worker-failed");
        /* And so is one that does not close what it must. */
        create(bus, NULL, path);
        create(bus, NULL, other);
        turn(bus, path, "deaf");
        reason[0] = '\0';
        call(bus, path, "Close", NULL, NULL);
        wait_for_closed(bus, reason, "closed");
        reason[0] = '\0';
        wait_for_closed(bus, reason, "worker-failed");
        assert_gone(bus, other);
        create(bus, NULL, path);
        turn(bus, path, "ok");
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Whatever waits when the session is closed is answered. */
static void test_close_while_it_reads(void **state) {
        sd_bus_message *m = NULL;
        char path[128], reason[128];
        struct daemon d;
        sd_bus *bus, *second;
        int fd = input_of("silent");

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        second = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, NULL, path);
        assert_true(sd_bus_message_new_method_call(second, &m, NAME, path, NAME ".Session",
                                                   "Append") >= 0);
        assert_true(sd_bus_message_append(m, "h", fd) >= 0);
        assert_true(sd_bus_send(second, m, NULL) >= 0);
        assert_true(sd_bus_flush(second) >= 0);
        while (number_of(bus, path, "Busy", 'b') == 0)
                usleep(5000);
        call(bus, path, "Close", NULL, NULL);
        wait_for_closed(bus, reason, "closed");
        assert_gone(bus, path);
        sd_bus_message_unref(m);
        close(fd);
        sd_bus_flush_close_unref(second);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_the_daemon_stops(void **state) {
        char path[128], reason[128];
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        watch(bus, reason);
        create(bus, NULL, path);
        kill(d.pid, SIGTERM);
        wait_for_closed(bus, reason, "stopping");
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_from_start_to_end),
                cmocka_unit_test(test_one_thing_at_a_time),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_others_see_nothing),
                cmocka_unit_test(test_ends_with_its_connection),
                cmocka_unit_test(test_expiry),
                cmocka_unit_test(test_worker_dies),
                cmocka_unit_test(test_close_while_it_reads),
                cmocka_unit_test(test_the_daemon_stops),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
