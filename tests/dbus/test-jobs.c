/* What clients see of jobs over the bus: places in the queue, progress, results that are kept. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/dbus/calls.h"

/* One runs, two wait. */
static void test_queue(void **state) {
        static const char *const inputs[] = { "flood", "wait", "wait" };
        struct daemon d;
        char path[3][128];
        uint64_t start;
        sd_bus *bus;
        int out[3];

        daemon_start(&d, NULL, "[Default]\nMaxConcurrentJobs = 1\n");
        bus = private_bus(&d, 0);
        for (unsigned i = 0; i < 3; i++) {
                out[i] = generate(bus, "Generate", inputs[i], NULL, NULL, path[i]);
                wait_for_number(bus, path[i], "TokensIn", FAKE_TOKENS_IN);
        }
        wait_for_number(bus, path[0], "TokensOut", FAKE_FLOOD);
        assert_int_equal(position(bus, path[0]), 0);
        assert_int_equal(number(bus, path[0], "QueueTokensAhead"), 0);
        assert_int_equal(number(bus, path[0], "EstimatedStartUSec"), 0);
        assert_int_equal(position(bus, path[1]), 1);
        assert_int_equal(number(bus, path[1], "QueueTokensAhead"), FAKE_TOKENS_OUT - FAKE_FLOOD);
        assert_int_equal(position(bus, path[2]), 2);
        assert_int_equal(number(bus, path[2], "QueueTokensAhead"),
                         FAKE_TOKENS_OUT - FAKE_FLOOD + FAKE_TOKENS_IN + FAKE_TOKENS_OUT);
        start = number(bus, path[1], "EstimatedStartUSec");
        assert_true(start > number(bus, path[1], "CreatedUSec"));
        assert_true(number(bus, path[2], "EstimatedStartUSec") > start);

        set_priority(bus, path[1], "urgent", ERROR_NAME("InvalidInput"));
        set_priority(bus, ROOT "/job/1", "background", ERROR_NAME("NoSuchObject"));
        set_priority(bus, path[1], "background", NULL);
        assert_string_property(bus, path[1], "Priority", "background");
        assert_int_equal(position(bus, path[1]), 2);
        assert_int_equal(position(bus, path[2]), 1);
        call_expecting(bus, path[0], NAME ".Job", "Cancel", NULL);
        wait_for_state(bus, path[2], "generating");
        assert_int_equal(position(bus, path[1]), 1);
        set_priority(bus, path[2], "background", NULL); /* one that runs */
        call_expecting(bus, path[2], NAME ".Job", "Cancel", NULL);
        wait_for_state(bus, path[1], "generating");
        set_priority(bus, path[2], "interactive", NULL); /* it has ended: nothing happens */
        for (unsigned i = 0; i < 3; i++)
                close(out[i]);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_priority_that_is_not_allowed(void **state) {
        struct daemon d;
        char path[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, "[Default]\nAllowPriority = background\n");
        bus = private_bus(&d, 0);
        out = generate(bus, "Generate", "wait", NULL, NULL, path);
        assert_string_property(bus, path, "Priority", "background");
        set_priority(bus, path, "interactive", ERROR_NAME("NotAuthorized"));
        assert_string_property(bus, path, "Priority", "background");
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

struct told {
        unsigned count;
        uint64_t tokens_out;
};

static int on_progressed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct told *told = userdata;
        const char *key;

        told->count++;
        assert_true(sd_bus_message_skip(m, "s") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") >= 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &key) >= 0);
                if (strcmp(key, "tokens-out") == 0)
                        assert_true(sd_bus_message_read(m, "v", "t", &told->tokens_out) >= 0);
                else
                        assert_true(sd_bus_message_skip(m, "v") >= 0);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        return 0;
}

static uint64_t monotonic(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The worker reports hundreds of times; the client hears little, and the newest. */
static void test_progress_is_coalesced(void **state) {
        struct daemon d;
        struct told told = {};
        uint64_t begin, quarters;
        unsigned before;
        char path[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        assert_true(sd_bus_match_signal(bus, NULL, NULL, NULL, NAME ".Job", "Progressed",
                                        on_progressed, &told) >= 0);
        begin = monotonic();
        out = generate(bus, "Generate", "flood", NULL, NULL, path);
        for (unsigned i = 0; told.tokens_out < FAKE_FLOOD; i++) {
                assert_true(i < 1000);
                pump(bus, 20);
        }
        quarters = (monotonic() - begin) / 250000 + 1;
        assert_in_range(told.count, 1, quarters);
        assert_true(told.count < FAKE_FLOOD / 2);
        /* Nothing changes: a sign of life. */
        before = told.count;
        for (unsigned i = 0; told.count == before; i++) {
                assert_true(i < 300);
                pump(bus, 100);
        }
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_queue),
                cmocka_unit_test(test_priority_that_is_not_allowed),
                cmocka_unit_test(test_progress_is_coalesced),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
