/* Prints what the running service says of its interfaces: manager, a job, a model, a quota,
 * a session. */
#undef NDEBUG
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/harness.h"

#define NAME "org.bitnetd.Bitnetd1"
#define ROOT "/org/bitnetd/Bitnetd1"

static void print(sd_bus *bus, const char *path) {
        sd_bus_message *reply = NULL;
        const char *xml;

        assert_true(sd_bus_call_method(bus, NAME, path, "org.freedesktop.DBus.Introspectable",
                                       "Introspect", NULL, &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &xml) >= 0);
        printf("%s%c", xml, '\0');
        sd_bus_message_unref(reply);
}

int main(void) {
        struct daemon d;
        sd_bus_message *reply = NULL;
        char address[160];
        const char *job, *session;
        sd_bus *bus;
        int input = memfd_create("input", MFD_CLOEXEC);

        assert_int_equal(write(input, "wait", 4), 4);
        lseek(input, 0, SEEK_SET);
        daemon_start(&d, NULL, NULL);
        snprintf(address, sizeof(address), "unix:path=%s", d.bus);
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_address(bus, address) >= 0);
        assert_true(sd_bus_start(bus) >= 0);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", NULL, &reply,
                                       "sha{sv}", "", input, 0) >= 0);
        assert_true(sd_bus_message_read(reply, "oh", &job, NULL) >= 0);
        print(bus, ROOT);
        print(bus, job);
        print(bus, ROOT "/model/alpha");
        print(bus, ROOT "/quota/0");
        reply = sd_bus_message_unref(reply);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "CreateSession", NULL,
                                       &reply, "sa{sv}", "", 0) >= 0);
        assert_true(sd_bus_message_read(reply, "o", &session) >= 0);
        print(bus, session);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
        return 0;
}
