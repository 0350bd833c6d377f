/* Tokens: paths that clients know before the call, on the private socket. */
#undef NDEBUG
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"
#include "tests/dbus/calls.h"

enum { STRANGER = 54321, LONGEST = 64 };

/* What the path of this connection's object must be. */
static void predict(sd_bus *bus, const char *kind, const char *token, char path[128]) {
        sd_bus_message *reply = NULL;
        const char *name;

        assert_true(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                       "org.freedesktop.DBus", "Hello", NULL, &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &name) >= 0);
        assert_int_equal(name[0], ':');
        snprintf(path, 128, ROOT "/%s/%s/%s", kind, name + 1, token);
        for (char *c = path; *c; c++)
                if (*c == '.')
                        *c = '_';
        sd_bus_message_unref(reply);
}

static int start(sd_bus *bus, const char *text, const char *token, char path[128]) {
        return generate(bus, "Generate", text, "token", token, path);
}

/* Starts no job. */
static void refused(sd_bus *bus, const char *token, const char *error) {
        char path[128];

        assert_int_equal(start(bus, "ok", token, path), -1);
        assert_string_equal(path, error);
}

struct heard {
        unsigned count;
};

static int on_completed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        ((struct heard *)userdata)->count++;
        return 0;
}

static void test_known_before(void **state) {
        char expected[128], path[128], numbered[128], before[128];
        struct heard heard = {}, others = {};
        struct daemon d;
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        predict(bus, "job", "Mine_1", expected);
        assert_true(sd_bus_match_signal(bus, NULL, NULL, expected, NAME ".Job", "Completed",
                                        on_completed, &heard) >= 0);
        assert_true(sd_bus_match_signal(bus, NULL, NULL, ROOT "/job/1", NAME ".Job", "Completed",
                                        on_completed, &others) >= 0);
        close(generate(bus, "Generate", "ok", NULL, NULL, before));
        out = start(bus, "wait", "Mine_1", path);
        assert_string_equal(path, expected);
        /* every job has its number, too; they are given in order */
        snprintf(numbered, sizeof(numbered), ROOT "/job/%llu",
                 strtoull(strrchr(before, '/') + 1, NULL, 10) + 1);
        wait_for_state(bus, numbered, "generating");
        assert_string_property(bus, expected, "Verb", "chat");
        refused(bus, "Mine_1", ERROR_NAME("TokenInUse"));
        call_expecting(bus, expected, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, numbered, "cancelled", ERROR_NAME("Cancelled"));
        for (unsigned i = 0; heard.count == 0; i++) {
                assert_true(i < 100);
                pump(bus, 20);
        }
        assert_int_equal(others.count, 0);
        refused(bus, "Mine_1", ERROR_NAME("TokenInUse")); /* it can still be looked at */
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_what_is_no_token(void **state) {
        char longest[LONGEST + 2], path[128], expected[128];
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        memset(longest, 'a', sizeof(longest));
        longest[LONGEST + 1] = '\0';
        refused(bus, longest, ERROR_NAME("InvalidInput"));
        longest[LONGEST] = '\0';
        predict(bus, "job", longest, expected);
        close(start(bus, "ok", longest, path));
        assert_string_equal(path, expected);
        for (int c = 1; c < 256; c++) {
                char token[] = { 'a', (char)c, '\0' };

                if (c < 128 && !isalnum(c) && c != '_')
                        refused(bus, token, ERROR_NAME("InvalidInput"));
        }
        refused(bus, "", ERROR_NAME("InvalidInput"));
        refused(bus, "a/b", ERROR_NAME("InvalidInput"));
        call_expecting(bus, ROOT "/job/0_1/none", NAME ".Job", "Cancel",
                       ERROR_NAME("NoSuchObject"));
        call_expecting(bus, ROOT "/job/0_1/none/more", NAME ".Job", "Cancel",
                       ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_of_others(void **state) {
        char path[128], theirs[128], guess[160];
        sd_bus *bus, *second, *stranger;
        struct daemon d;
        int out, other;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        second = private_bus(&d, 0);
        out = start(bus, "wait", "same", path);
        other = start(second, "wait", "same", theirs); /* another connection, another path */
        assert_true(out >= 0 && other >= 0);
        assert_string_not_equal(path, theirs);
        wait_for_state(second, path, "generating"); /* of the same user */
        if (geteuid() == 0) {
                assert_int_equal(chmod(d.bus, 0666), 0);
                stranger = private_bus(&d, STRANGER);
                call_expecting(stranger, path, NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
                snprintf(guess, sizeof(guess), "%s_", path);
                call_expecting(stranger, guess, NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
                sd_bus_flush_close_unref(stranger);
        }
        sd_bus_flush_close_unref(second); /* its job goes with it */
        assert_ends(bus, theirs, "cancelled", ERROR_NAME("Cancelled"));
        wait_for_state(bus, path, "generating");
        close(out);
        close(other);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* The path of a session with this token, or the name of the error. */
static void create(sd_bus *bus, const char *token, char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *p = "";

        if (sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "CreateSession", &e, &reply,
                               "sa{sv}", "", 1, "token", "s", token) >= 0)
                assert_true(sd_bus_message_read(reply, "o", &p) >= 0);
        snprintf(path, 128, "%s", e.name ? e.name : p);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
}

static void test_sessions(void **state) {
        char expected[128], path[128];
        struct daemon d;
        sd_bus *bus, *stranger;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        predict(bus, "session", "talk", expected);
        create(bus, "talk", path);
        assert_string_equal(path, expected);
        call_expecting(bus, path, NAME ".Session", "Clear", NULL);
        create(bus, "talk", path);
        assert_string_equal(path, ERROR_NAME("TokenInUse"));
        create(bus, "not valid", path);
        assert_string_equal(path, ERROR_NAME("InvalidInput"));
        if (geteuid() == 0) {
                assert_int_equal(chmod(d.bus, 0666), 0);
                stranger = private_bus(&d, STRANGER);
                call_expecting(stranger, expected, NAME ".Session", "Close",
                               ERROR_NAME("NoSuchObject"));
                sd_bus_flush_close_unref(stranger);
        }
        call_expecting(bus, expected, NAME ".Session", "Close", NULL);
        call_expecting(bus, expected, NAME ".Session", "Clear", ERROR_NAME("NoSuchObject"));
        create(bus, "talk", path); /* free again */
        assert_string_equal(path, expected);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known_before),
                cmocka_unit_test(test_what_is_no_token),
                cmocka_unit_test(test_of_others),
                cmocka_unit_test(test_sessions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
