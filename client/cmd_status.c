/* bnctl status: is there a daemon, which version, can it answer, and if not, why. */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bus.h"
#include "client/commands.h"
#include "engine/base/macro.h"

struct availability {
        int available;
        const char *reason, *message;
};

static int get_availability(sd_bus *bus, sd_bus_message **m, struct availability *a,
                            sd_bus_error *error) {
        int r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "GetAvailability", error,
                                   m, "sa{sv}", "language.generate", 0);

        if (r >= 0)
                r = sd_bus_message_read(*m, "bss", &a->available, &a->reason, &a->message);
        return r;
}

/* Of those that have not ended. */
static void count_job(void *userdata, const struct bus_job *j) {
        if (strcmp(j->state, "done") != 0 && strcmp(j->state, "cancelled") != 0 &&
            strcmp(j->state, "failed") != 0)
                (*(unsigned *)userdata)++;
}

static void print(const struct options *o, const char *version, const struct availability *a,
                  unsigned jobs) {
        if (o->json) {
                json_t *out = json_pack("{s:s, s:s, s:b, s:s, s:s, s:i}", "version", version,
                                        "socket", o->socket, "available", a->available, "reason",
                                        a->reason, "message", a->message, "jobs", (int)jobs);
                json_dumpf(out, stdout, JSON_INDENT(2));
                putchar('\n');
                json_decref(out);
                return;
        }
        printf("bitnetd %s\n  socket     %s\n  answers    %s%s\n  your jobs  %u\n", version,
               o->socket, a->available ? "yes" : "no: ", a->available ? "" : a->message, jobs);
}

int cmd_status(struct options *o) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        struct availability a = {0};
        _cleanup_free_ char *version = NULL;
        sd_bus_message *m = NULL;
        unsigned jobs = 0;
        sd_bus *bus = NULL;
        int status = bus_open(o, &bus);

        if (status)
                return status;
        if (sd_bus_get_property_string(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "Version", &error,
                                       &version) < 0 ||
            get_availability(bus, &m, &a, &error) < 0)
                status = bus_report(&error);
        if (!status)
                status = bus_each_job(bus, false, count_job, &jobs);
        if (!status)
                print(o, version, &a, jobs);
        sd_bus_message_unref(m);
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return status;
}
