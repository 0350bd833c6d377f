/* What clients see of jobs over the bus: places in the queue, progress, results that are kept. */
#undef NDEBUG
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/dbus/calls.h"

/* One runs, two wait. */
static void test_queue(void **state) {
        static const char *const inputs[] = { "flood", "wait", "wait" };
        struct daemon d;
        char path[4][128];
        uint64_t start;
        sd_bus *bus;
        int out[4];

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
        assert_int_equal(number(bus, path[1], "QueueTokensAhead"), FAKE_FLOOD_OUT - FAKE_FLOOD);
        assert_int_equal(position(bus, path[2]), 2);
        assert_int_equal(number(bus, path[2], "QueueTokensAhead"),
                         FAKE_FLOOD_OUT - FAKE_FLOOD + FAKE_TOKENS_IN + FAKE_TOKENS_OUT);
        start = number(bus, path[1], "EstimatedStartUSec");
        assert_true(start > number(bus, path[1], "CreatedUSec"));
        assert_true(number(bus, path[2], "EstimatedStartUSec") > start);

        set_priority(bus, path[1], "urgent", ERROR_NAME("InvalidInput"));
        set_priority(bus, ROOT "/job/1", "background", ERROR_NAME("NoSuchObject"));
        set_priority(bus, path[1], "background", NULL);
        assert_string_property(bus, path[1], "Priority", "background");
        wait_for_state(bus, path[1], "generating"); /* one background job may always run, */
        assert_int_equal(position(bus, path[2]), 1);
        assert_int_equal(number(bus, path[2], "QueueTokensAhead"), FAKE_FLOOD_OUT - FAKE_FLOOD);
        out[3] = generate(bus, "Generate", "wait", "priority", "background", path[3]);
        wait_for_number(bus, path[3], "TokensIn", FAKE_TOKENS_IN); /* but not two beside others */
        assert_int_equal(position(bus, path[3]), 2);
        set_priority(bus, path[0], "background", NULL); /* it makes room for interactive ones */
        wait_for_state(bus, path[2], "generating");
        assert_int_equal(position(bus, path[3]), 1);
        wait_for_number(bus, path[3], "QueueTokensAhead",
                        FAKE_FLOOD_OUT - FAKE_FLOOD + 2 * (FAKE_TOKENS_OUT - 2));
        call_expecting(bus, path[2], NAME ".Job", "Cancel", NULL);
        assert_ends(bus, path[2], "cancelled", ERROR_NAME("Cancelled"));
        set_priority(bus, path[2], "interactive", NULL); /* it has ended: nothing happens */
        for (unsigned i = 0; i < 4; i++)
                close(out[i]);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Who is refused because the queue is full is told when there will be room. */
static void test_full_queue_says_when(void **state) {
        unsigned code, retry;
        unsigned long long value, limit;
        struct daemon d;
        char path[128], line[96];
        sd_bus *bus;
        int out, c[2];

        daemon_start(&d, NULL, "[Default]\nMaxConcurrentJobs = 1\nMaxQueuedJobs = 1\n");
        bus = private_bus(&d, 0);
        out = generate(bus, "Generate", "flood", NULL, NULL, path);
        wait_for_number(bus, path, "TokensOut", FAKE_FLOOD);
        for (unsigned i = 0; i < 2; i++) {
                c[i] = api_connect(&d, (uid_t)-1);
                say(c[i], "job\n");
                hear(c[i], line, sizeof(line));
        }
        assert_int_equal(sscanf(line, "refused %u %llu %llu %u", &code, &value, &limit, &retry), 4);
        assert_int_equal(limit, 2);
        /* it has written 400 tokens in about half a second and may write 99,600 more */
        assert_in_range(retry, 10000, 3600000);
        for (unsigned i = 0; i < 2; i++)
                close(c[i]);
        close(out);
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

/* Options of detached jobs; keep 0: not said. Otherwise as generate. */
static int start_detached(sd_bus *bus, const char *text, uint64_t keep, char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int input = input_of(text), output = -1, r;
        const char *p;

        r = keep ? sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", &e, &reply,
                                      "sha{sv}", "", input, 2, "keep-result-usec", "t", keep,
                                      "detach", "b", 1)
                 : sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", &e, &reply,
                                      "sha{sv}", "", input, 1, "detach", "b", 1);
        if (r >= 0) {
                assert_true(sd_bus_message_read(reply, "oh", &p, &output) >= 0);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        }
        snprintf(path, 128, "%s", r >= 0 ? p : e.name);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        close(input);
        return output;
}

/* A stream, or -1 and error is the one expected. */
static int take_output(sd_bus *bus, const char *path, const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int output = -1, r;

        r = sd_bus_call_method(bus, NAME, path, NAME ".Job", "TakeOutput", &e, &reply, "");
        if (r >= 0) {
                assert_null(error);
                assert_true(sd_bus_message_read(reply, "h", &output) >= 0);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        } else
                assert_string_equal(e.name, error ? error : "success");
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        return output;
}

static void assert_output(sd_bus *bus, const char *path, const char *text) {
        int output = take_output(bus, path, NULL);
        char buf[64];

        assert_string_equal(hear_all(output, buf, sizeof(buf)), text);
        close(output);
}

/* Whoever started it leaves while it runs; somebody else of that uid comes for it. */
static void test_detached_job_goes_on(void **state) {
        struct daemon d;
        char path[128], buf[8];
        sd_bus *bus, *other;
        int first, second;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        other = private_bus(&d, 0);
        first = start_detached(bus, "wait", 0, path);
        assert_true(first >= 0);
        second = take_output(other, path, NULL); /* the worker may not have seen the job yet */
        assert_string_equal(hear_all(first, buf, sizeof(buf)), ""); /* has lost it */
        close(first);
        sd_bus_flush_close_unref(bus);
        close(second);
        wait_for_state(other, path, "generating");
        assert_int_equal(number(other, path, "KeptUntilUSec"), 0);
        second = take_output(other, path, NULL);
        call_expecting(other, path, NAME ".Job", "Cancel", NULL);
        assert_ends(other, path, "cancelled", ERROR_NAME("Cancelled"));
        assert_string_equal(hear_all(second, buf, sizeof(buf)), "");
        close(second);
        take_output(other, path, ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(other);
        daemon_stop(&d);
}

static void test_result_is_kept(void **state) {
        struct daemon d;
        char path[128];
        uint64_t end;
        sd_bus *bus, *other;

        daemon_start(&d, NULL, "[Default]\nIdleTimeoutSec = 1\n");
        bus = private_bus(&d, 0);
        other = private_bus(&d, 0);
        close(start_detached(bus, "ok", 60000000, path));
        sd_bus_flush_close_unref(bus);
        assert_ends(other, path, "done", "");
        end = number(other, path, "FinishedUSec");
        assert_in_range(number(other, path, "KeptUntilUSec"), end + 50000000, end + 70000000);
        assert_output(other, path, FAKE_ANSWER);
        usleep(2000000); /* an idle worker would be gone */
        assert_output(other, path, FAKE_ANSWER);
        call_expecting(other, path, NAME ".Job", "Cancel", NULL);
        assert_int_equal(number(other, path, "KeptUntilUSec"), 0);
        take_output(other, path, ERROR_NAME("NoSuchObject"));
        assert_string_property(other, path, "State", "done");

        close(start_detached(other, "ok", 3000000, path));
        assert_ends(other, path, "done", "");
        assert_output(other, path, FAKE_ANSWER);
        for (unsigned i = 0; number(other, path, "KeptUntilUSec") != 0; i++)
                wait_a_little(i);
        take_output(other, path, ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(other);
        daemon_stop(&d);
}

static void test_results_of_a_dead_worker(void **state) {
        struct daemon d;
        char path[128], dying[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        close(start_detached(bus, "ok", 0, path));
        assert_ends(bus, path, "done", "");
        out = generate(bus, "Generate", "exit", NULL, NULL, dying);
        assert_ends(bus, dying, "failed", ERROR_NAME("WorkerFailed"));
        close(out);
        take_output(bus, path, ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_bounds_of_keeping(void **state) {
        struct daemon d;
        char path[128], first[128];
        sd_bus *bus;
        int out;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        assert_int_equal(start_detached(bus, "ok", 999999, path), -1);
        assert_string_equal(path, ERROR_NAME("InvalidInput"));
        assert_int_equal(start_detached(bus, "ok", UINT64_C(3600000001), path), -1);
        assert_string_equal(path, ERROR_NAME("InvalidInput"));
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", NULL, NULL,
                                       "sha{sv}", "", 0, 1, "keep-result-usec", "t",
                                       UINT64_C(1000000)) < 0); /* and no detach */
        for (unsigned i = 0; i < 16; i++) {
                out = start_detached(bus, i % 2 ? "ok" : "early", 0, i ? path : first);
                assert_true(out >= 0);
                close(out);
                assert_ends(bus, i ? path : first, i % 2 ? "done" : "failed",
                            i % 2 ? "" : ERROR_NAME("InvalidInput"));
        }
        assert_int_equal(start_detached(bus, "ok", 0, path), -1);
        assert_string_equal(path, ERROR_NAME("TooManyObjects"));
        /* Jobs that are not kept go first when the table is full. */
        for (unsigned i = 0; i < 70; i++) {
                out = generate(bus, "Generate", "early", NULL, NULL, path);
                assert_ends(bus, path, "failed", ERROR_NAME("InvalidInput"));
                close(out);
        }
        assert_output(bus, first, FAKE_ANSWER);
        take_output(bus, path, ERROR_NAME("NoSuchObject"));
        call_expecting(bus, first, NAME ".Job", "Cancel", NULL);
        out = start_detached(bus, "ok", 0, path);
        assert_true(out >= 0);
        close(out);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Root sees the job of another, and not what it wrote. */
static void test_output_of_others(void **state) {
        struct daemon d;
        char path[128];
        sd_bus *user, *stranger, *root;
        int out;

        if (geteuid() != 0)
                skip();
        daemon_start(&d, NULL, NULL);
        assert_int_equal(chmod(d.bus, 0666), 0);
        user = private_bus(&d, 4711);
        stranger = private_bus(&d, 4712);
        root = private_bus(&d, 0);
        out = start_detached(user, "ok", 0, path);
        assert_true(out >= 0);
        close(out);
        assert_ends(user, path, "done", "");
        take_output(stranger, path, ERROR_NAME("NoSuchObject"));
        take_output(root, path, ERROR_NAME("NotAuthorized"));
        assert_string_property(root, path, "State", "done");
        assert_output(user, path, FAKE_ANSWER);
        sd_bus_flush_close_unref(user);
        sd_bus_flush_close_unref(stranger);
        sd_bus_flush_close_unref(root);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_queue),
                cmocka_unit_test(test_full_queue_says_when),
                cmocka_unit_test(test_priority_that_is_not_allowed),
                cmocka_unit_test(test_progress_is_coalesced),
                cmocka_unit_test(test_detached_job_goes_on),
                cmocka_unit_test(test_result_is_kept),
                cmocka_unit_test(test_results_of_a_dead_worker),
                cmocka_unit_test(test_bounds_of_keeping),
                cmocka_unit_test(test_output_of_others),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
