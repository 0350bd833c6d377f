/* Installing, verifying and removing models as jobs, with the fake packer. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/fake-worker.h"
#include "tests/daemon/broker/harness.h"
#include "tests/dbus/calls.h"

enum { STRANGER = 54321 };

/* The path of the job, or the name of the error. */
static void install(sd_bus *bus, const char *content, const char *name, const char *token,
                    char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int fd = input_of(content);
        const char *p = "";
        int r = token ? sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "InstallModel", &e,
                                           &reply, "ha{sv}", fd, 2, "name", "s", name, "token",
                                           "s", token)
                      : sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "InstallModel", &e,
                                           &reply, "ha{sv}", fd, 1, "name", "s", name);

        if (r >= 0)
                assert_true(sd_bus_message_read(reply, "o", &p) >= 0);
        snprintf(path, 128, "%s", e.name ? e.name : p);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        close(fd);
}

static void call_by_name(sd_bus *bus, const char *method, const char *name, char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *p = "";

        if (sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", method, &e, &reply, "s", name) >=
            0)
                assert_true(sd_bus_message_read(reply, "o", &p) >= 0);
        snprintf(path, 128, "%s", e.name ? e.name : p);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
}

struct heard {
        unsigned count;
        char path[128], result[32];
};

static int on_completed(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct heard *h = userdata;
        const char *result;

        assert_true(sd_bus_message_read(m, "s", &result) >= 0);
        snprintf(h->path, sizeof(h->path), "%s", sd_bus_message_get_path(m));
        snprintf(h->result, sizeof(h->result), "%s", result);
        h->count++;
        return 0;
}

static void watch(sd_bus *bus, struct heard *h) {
        assert_true(sd_bus_match_signal(bus, NULL, NULL, NULL, NAME ".Job", "Completed",
                                        on_completed, h) >= 0);
}

static void wait_for_signal(sd_bus *bus, const struct heard *h, unsigned count, const char *path,
                            const char *result) {
        for (unsigned i = 0; h->count < count; i++) {
                assert_true(i < 500);
                pump(bus, 20);
        }
        assert_string_equal(h->path, path);
        assert_string_equal(h->result, result);
}

static void test_jobs_about_models(void **state) {
        struct heard heard = {}, others = {};
        sd_bus *bus, *second;
        char path[128], other[128];
        struct daemon d;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        second = private_bus(&d, 0);
        watch(bus, &heard);
        watch(second, &others);
        install(bus, "good model", "mine", "one", path);
        wait_for_signal(bus, &heard, 1, path, "done");
        assert_ends(bus, path, "done", "");
        assert_string_property(bus, path, "Verb", "install");
        assert_string_property(bus, path, "Model", "mine");
        assert_string_property(bus, path, "State", "done");
        assert_true(number(bus, path, "FinishedUSec") >= number(bus, path, "CreatedUSec"));
        set_priority(bus, path, "background", NULL); /* it has ended */
        call_by_name(bus, "VerifyModel", "mine", other);
        wait_for_signal(bus, &heard, 2, other, "done");
        assert_string_property(bus, other, "Verb", "verify");
        install(bus, "again", "other", "one", path);
        assert_string_equal(path, ERROR_NAME("TokenInUse"));
        call_by_name(bus, "RemoveModel", "mine", path);
        wait_for_signal(bus, &heard, 3, path, "done");
        assert_string_property(bus, path, "Verb", "remove");
        pump(second, 100);
        assert_int_equal(others.count, 0);
        sd_bus_flush_close_unref(second);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* What is refused at once is no job; a file that is refused fails one. */
static void test_refusals(void **state) {
        struct daemon d;
        char path[128];
        sd_bus *bus, *stranger;
        unsigned before;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        install(bus, "Bad", "awful", NULL, path);
        assert_ends(bus, path, "failed", ERROR_NAME("IntegrityFailure"));
        assert_string_property(bus, path, "State", "failed");
        call_by_name(bus, "VerifyModel", "awful", path);
        assert_ends(bus, path, "failed", ERROR_NAME("IntegrityFailure"));
        before = count_jobs(bus);
        install(bus, "x", "awful", NULL, path);
        assert_string_equal(path, ERROR_NAME("InvalidInput"));
        install(bus, "", "empty", NULL, path);
        assert_string_equal(path, ERROR_NAME("InvalidInput"));
        call_by_name(bus, "RemoveModel", "none", path);
        assert_string_equal(path, ERROR_NAME("ModelNotFound"));
        call_by_name(bus, "VerifyModel", "none", path);
        assert_string_equal(path, ERROR_NAME("ModelNotFound"));
        assert_int_equal(count_jobs(bus), before);
        if (geteuid() == 0) {
                assert_int_equal(chmod(d.bus, 0666), 0);
                stranger = private_bus(&d, STRANGER);
                call_by_name(stranger, "VerifyModel", "awful", path);
                assert_string_equal(path, ERROR_NAME("NotAuthorized"));
                call_by_name(bus, "VerifyModel", "awful", path);
                call_expecting(stranger, path, NAME ".Job", "Cancel", ERROR_NAME("NoSuchObject"));
                sd_bus_flush_close_unref(stranger);
        }
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* Packers that die are tried again, a second apart: time for a cancel, and for an end. */
static void test_cancel(void **state) {
        char path[128], second[128], third[128];
        struct heard heard = {};
        struct daemon d;
        sd_bus *bus, *other;

        daemon_start(&d, NULL, NULL);
        bus = private_bus(&d, 0);
        watch(bus, &heard);
        install(bus, "X crash", "dying", NULL, path);
        wait_for_state(bus, path, "packing");
        set_priority(bus, path, "background", ERROR_NAME("Unsupported"));
        install(bus, "good", "waiting", NULL, second);
        wait_for_state(bus, second, "queued");
        call_by_name(bus, "RemoveModel", "waiting", third);
        assert_string_equal(third, ERROR_NAME("ModelLoading"));
        call_expecting(bus, second, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, second, "cancelled", ERROR_NAME("Cancelled"));
        call_by_name(bus, "VerifyModel", "dying", third); /* waits for the same */
        call_expecting(bus, third, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, third, "cancelled", ERROR_NAME("Cancelled"));
        wait_for_state(bus, path, "packing");
        call_expecting(bus, path, NAME ".Job", "Cancel", NULL);
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        call_by_name(bus, "VerifyModel", "dying", third);
        assert_string_equal(third, ERROR_NAME("ModelNotFound"));
        other = private_bus(&d, 0); /* one that goes away takes its installation along */
        install(other, "X crash", "dying", NULL, path);
        wait_for_state(other, path, "packing");
        sd_bus_flush_close_unref(other);
        assert_ends(bus, path, "cancelled", ERROR_NAME("Cancelled"));
        install(bus, "X crash", "dying", NULL, path); /* and so does the daemon */
        wait_for_state(bus, path, "packing");
        daemon_stop(&d);
        sd_bus_flush_close_unref(bus);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_jobs_about_models),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_cancel),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
