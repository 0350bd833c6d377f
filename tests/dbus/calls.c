/* See calls.h. Every call asserts; a test that makes one is over when it fails. */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/dbus/calls.h"

int input_of(const char *text) {
        int fd = memfd_create("input", MFD_CLOEXEC);

        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

sd_bus *private_bus(const struct daemon *d, uid_t uid) {
        char address[160];
        sd_bus *bus;

        snprintf(address, sizeof(address), "unix:path=%s", d->bus);
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_address(bus, address) >= 0);
        if (uid != 0)
                assert_int_equal(syscall(SYS_setresuid, -1, uid, -1), 0);
        assert_true(sd_bus_start(bus) >= 0);
        if (uid != 0)
                assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
        return bus;
}

int generate(sd_bus *bus, const char *method, const char *text, const char *key, const char *word,
             char path[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL, *reply = NULL;
        int input = input_of(text), output = -1, r;
        const char *p;

        assert_true(sd_bus_message_new_method_call(bus, &m, NAME, ROOT, NAME ".Manager", method) >=
                    0);
        assert_true(sd_bus_message_append(m, "sh", "", input) >= 0);
        r = key ? sd_bus_message_append(m, "a{sv}", 1, key, "s", word)
                : sd_bus_message_append(m, "a{sv}", 0);
        assert_true(r >= 0);
        r = sd_bus_call(bus, m, 10000000, &e, &reply);
        if (r >= 0) {
                assert_true(sd_bus_message_read(reply, "oh", &p, &output) >= 0);
                snprintf(path, 128, "%s", p);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        } else
                snprintf(path, 128, "%s", e.name);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        close(input);
        return output;
}

void wait_job(sd_bus *bus, const char *path, char result[128], char error[128]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *word, *name, *key;

        if (sd_bus_call_method(bus, NAME, path, NAME ".Job", "Wait", &e, &reply, "") < 0)
                fail_msg("Wait: %s", e.name);
        assert_true(sd_bus_message_read(reply, "s", &word) >= 0);
        assert_true(sd_bus_message_enter_container(reply, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_enter_container(reply, 'e', "sv") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &key) >= 0);
        assert_string_equal(key, "error");
        assert_true(sd_bus_message_read(reply, "v", "s", &name) >= 0);
        snprintf(result, 128, "%s", word);
        snprintf(error, 128, "%s", name);
        sd_bus_message_unref(reply);
}

void assert_ends(sd_bus *bus, const char *path, const char *result, const char *error) {
        char r[128], e[128];

        wait_job(bus, path, r, e);
        assert_string_equal(r, result);
        assert_string_equal(e, error);
}

void assert_string_property(sd_bus *bus, const char *path, const char *property,
                            const char *expected) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char *value = NULL;

        if (sd_bus_get_property_string(bus, NAME, path, NAME ".Job", property, &e, &value) < 0)
                fail_msg("%s: %s", property, e.name);
        assert_string_equal(value, expected);
        free(value);
}

void wait_for_state(sd_bus *bus, const char *path, const char *expected) {
        char *value = NULL;

        for (unsigned i = 0; !value || strcmp(value, expected) != 0; i++) {
                wait_a_little(i);
                free(value);
                assert_true(sd_bus_get_property_string(bus, NAME, path, NAME ".Job", "State", NULL,
                                                       &value) >= 0);
        }
        free(value);
}

uint64_t number(sd_bus *bus, const char *path, const char *property) {
        uint64_t value = 0;

        assert_true(sd_bus_get_property_trivial(bus, NAME, path, NAME ".Job", property, NULL, 't',
                                                &value) >= 0);
        return value;
}

void wait_for_number(sd_bus *bus, const char *path, const char *property, uint64_t expected) {
        for (unsigned i = 0; number(bus, path, property) != expected; i++) {
                wait_a_little(i);
        }
}

unsigned position(sd_bus *bus, const char *path) {
        uint32_t value = 0;

        assert_true(sd_bus_get_property_trivial(bus, NAME, path, NAME ".Job", "QueuePosition",
                                                NULL, 'u', &value) >= 0);
        return value;
}

void set_priority(sd_bus *bus, const char *path, const char *word, const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, NAME, path, NAME ".Job", "SetPriority", &e, NULL, "s",
                                   word);

        assert_int_equal(r < 0, error != NULL);
        if (error)
                assert_string_equal(e.name, error);
        sd_bus_error_free(&e);
}

void call_expecting(sd_bus *bus, const char *path, const char *interface, const char *method,
                    const char *error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, NAME, path, interface, method, &e, NULL, "");

        if (error) {
                assert_true(r < 0);
                assert_string_equal(e.name, error);
        } else if (r < 0)
                fail_msg("%s: %s", method, e.name);
        sd_bus_error_free(&e);
}

void pump(sd_bus *bus, unsigned milliseconds) {
        for (unsigned t = 0; t < milliseconds; t += 20) {
                while (sd_bus_process(bus, NULL) > 0)
                        continue;
                sd_bus_wait(bus, 20000);
        }
}

unsigned count_jobs(sd_bus *bus) {
        sd_bus_message *reply = NULL;
        unsigned n = 0;

        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "ListJobs", NULL, &reply,
                                       "a{sv}", 0) >= 0);
        assert_true(sd_bus_message_enter_container(reply, 'a', "(oussssttt)") >= 0);
        while (sd_bus_message_skip(reply, "(oussssttt)") > 0)
                n++;
        sd_bus_message_unref(reply);
        return n;
}
