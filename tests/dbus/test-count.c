/* CountTokens: what the broker makes of it, with the fake worker, which counts bytes. */
#undef NDEBUG
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/harness.h"
#include "tests/dbus/calls.h"

enum { AT_ONCE = 8 };

static void new_call(sd_bus *bus, int fd, const char *key, const char *word,
                     sd_bus_message **ret) {
        sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(bus, &m, NAME, ROOT, NAME ".Manager", "CountTokens");

        assert_true(r >= 0);
        assert_true(sd_bus_message_append(m, "sh", "", fd) >= 0);
        r = key ? sd_bus_message_append(m, "a{sv}", 1, key, "s", word)
                : sd_bus_message_append(m, "a{sv}", 0);
        assert_true(r >= 0);
        *ret = m;
}

/* error: the name that is expected, NULL: so many tokens. */
static void count(sd_bus *bus, int fd, const char *key, const char *word, const char *error,
                  uint64_t expected) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL, *reply = NULL;
        uint64_t tokens, context;

        new_call(bus, fd, key, word, &m);
        if (sd_bus_call(bus, m, 30000000, &e, &reply) >= 0) {
                if (error)
                        fail_msg("no error");
                assert_true(sd_bus_message_read(reply, "tt", &tokens, &context) >= 0);
                assert_int_equal(tokens, expected);
                assert_int_equal(context, 1000);
        } else if (!error || strcmp(e.name, error) != 0)
                fail_msg("%s: %s", e.name, e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
}

static void count_text(sd_bus *bus, const char *text, const char *error, uint64_t expected) {
        int fd = input_of(text);

        count(bus, fd, NULL, NULL, error, expected);
        close(fd);
}

static void count_word(sd_bus *bus, const char *key, const char *word, const char *error) {
        int fd = input_of("four");

        count(bus, fd, key, word, error, 4);
        close(fd);
}

static void test_answers(void **state) {
        struct daemon d;
        sd_bus *bus;
        int fd;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        count_text(bus, "12345", NULL, 5);
        count_word(bus, "mode", "complete", NULL);
        count_word(bus, "input-format", "chat-json", NULL);
        count_word(bus, "input-format", "text-json", ERROR_NAME("InvalidInput"));
        count_word(bus, "priority", "background", ERROR_NAME("InvalidInput"));
        count_text(bus, "long", ERROR_NAME("ContextTooLong"), 0);
        fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        count(bus, fd, NULL, NULL, ERROR_NAME("InvalidInput"), 0);
        close(fd);
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        count(bus, fd, NULL, NULL, ERROR_NAME("InvalidInput"), 0);
        close(fd);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_costs_a_request(void **state) {
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, "[Default]\nRequestsPerMinute = 3\nTokensPerDay = 1\n");
        bus = private_bus(&d, 0);
        for (unsigned i = 0; i < 3; i++)
                count_text(bus, "much more than one token", NULL, 24);
        count_text(bus, "x", ERROR_NAME("RateLimited"), 0);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_verbs_of_the_quota(void **state) {
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, "[Default]\nAllowVerbs = summarize\n");
        bus = private_bus(&d, 0);
        count_text(bus, "x", ERROR_NAME("NotAuthorized"), 0);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

struct heard {
        unsigned answers;
        char error[128];
};

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        struct heard *h = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        h->answers++;
        snprintf(h->error, sizeof(h->error), "%s", e ? e->name : "");
        return 0;
}

static void count_later(sd_bus *bus, const char *text, struct heard *h) {
        sd_bus_message *m = NULL;
        int fd = input_of(text);

        new_call(bus, fd, NULL, NULL, &m);
        assert_true(sd_bus_call_async(bus, NULL, m, on_reply, h, 30000000) >= 0);
        assert_true(sd_bus_flush(bus) >= 0);
        sd_bus_message_unref(m);
        close(fd);
}

/* Silence fills the places of a user, and the end of the caller does not free them at once; the
 * worker that said nothing is ended, and all are answered. */
static void test_places_and_silence(void **state) {
        struct heard heard = {};
        struct daemon d;
        sd_bus *bus, *other;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        other = private_bus(&d, 0);
        count_text(bus, "x", NULL, 1);
        for (unsigned i = 0; i < AT_ONCE - 1; i++)
                count_later(bus, "silent", &heard);
        count_later(other, "silent", &heard);
        pump(other, 100);
        sd_bus_flush_close_unref(other);
        count_text(bus, "x", ERROR_NAME("TooManyObjects"), 0);
        for (unsigned i = 0; heard.answers < AT_ONCE - 1; i++) {
                assert_true(i < 300);
                pump(bus, 100);
        }
        assert_string_equal(heard.error, ERROR_NAME("DeadlineExceeded"));
        count_text(bus, "12", NULL, 2); /* of the next worker */
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static pid_t worker_of(const struct daemon *d) {
        int fd = api_connect(d, (uid_t)-1);
        pid_t pid = worker_pid(fd, NULL, NULL);

        close(fd);
        return pid;
}

static void test_worker_dies(void **state) {
        struct daemon d;
        sd_bus *bus;
        pid_t before;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        count_text(bus, "exit", ERROR_NAME("WorkerFailed"), 0);
        count_text(bus, "12", NULL, 2);
        before = worker_of(&d);
        count_text(bus, "twice", NULL, 5); /* the second answer ends the worker */
        wait_until_gone(before);
        count_text(bus, "12", NULL, 2);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_the_daemon_stops(void **state) {
        struct heard heard = {};
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        count_text(bus, "x", NULL, 1);
        count_later(bus, "silent", &heard);
        pump(bus, 100);
        kill(d.pid, SIGTERM);
        for (unsigned i = 0; heard.answers == 0; i++) {
                assert_true(i < 100);
                pump(bus, 100);
        }
        assert_string_equal(heard.error, ERROR_NAME("ShuttingDown"));
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_costs_a_request),
                cmocka_unit_test(test_verbs_of_the_quota),
                cmocka_unit_test(test_places_and_silence),
                cmocka_unit_test(test_worker_dies),
                cmocka_unit_test(test_the_daemon_stops),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
