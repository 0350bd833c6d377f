/* bnctl install, remove and verify: models for all users. The file goes as a descriptor, so the
 * daemon needs no access to where it lies; what it then does is a job, which can take minutes and
 * is waited for. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

#define BUS_MODEL "org.bitnetd.Bitnetd1.Model"

enum { EXIT_USAGE = 2, EXIT_NO_INPUT = 66, NAME_SIZE = 64 };

/* "Dir/Falcon3.gguf" gives "falcon3"; whether it is a legal name the daemon says. */
static void name_of_file(const char *path, char ret[NAME_SIZE]) {
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        size_t n = strlen(base);

        if (n > 5 && strcasecmp(base + n - 5, ".gguf") == 0)
                n -= 5;
        snprintf(ret, NAME_SIZE, "%.*s", (int)MIN(n, (size_t)NAME_SIZE), base);
        for (char *p = ret; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char)(*p - 'A' + 'a');
}

/* Why a model was refused, if it is still there to say so. */
static void print_problem(sd_bus *bus, const char *name) {
        _cleanup_free_ char *path = NULL, *problem = NULL;

        if (sd_bus_path_encode(BUS_ROOT "/model", name, &path) >= 0 &&
            sd_bus_get_property_string(bus, BUS_NAME, path, BUS_MODEL, "Problem", NULL,
                                       &problem) >= 0 &&
            *problem)
                term_error(problem);
}

/* Ctrl-C takes back what was begun, and waits until nothing of it is left. */
static int cancel(const struct options *o, sd_bus *bus, const char *job) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, BUS_NAME, job, BUS_JOB, "Cancel", &error, NULL, "");

        if (r >= 0)
                r = sd_bus_call_method(bus, BUS_NAME, job, BUS_JOB, "Wait", &error, NULL, "");
        if (r < 0)
                bus_failed(&error, r);
        else if (!o->quiet)
                fputs("bnctl: cancelled, nothing was changed\n", stderr);
        sd_bus_error_free(&error);
        return EXIT_INTERRUPTED;
}

/* A reply with a job, which is waited for. */
static int finish(const struct options *o, sd_bus *bus, sd_bus_message *reply, const char *name,
                  bool says_ready) {
        const char *job;
        int status, r = sd_bus_message_read(reply, "o", &job);

        if (r < 0)
                return bus_failed(NULL, r);
        status = wait_for_job(o, bus, job);
        if (status == EXIT_INTERRUPTED && interrupted())
                return cancel(o, bus, job);
        if (status == error_row(ERROR_MODEL_BAD)->exit_status)
                print_problem(bus, name);
        else if (status == 0 && says_ready)
                puts("ready");
        return status;
}

int cmd_install(struct options *o) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        _cleanup_close_ int fd = -1;
        char name[NAME_SIZE];
        sd_bus *bus = NULL;
        int status, r;

        if (o->n_args != 1) {
                term_error("name one file (bnctl install --help)");
                return EXIT_USAGE;
        }
        fd = open(o->args[0], O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0) {
                fprintf(stderr, "bnctl: cannot open %s: %s\n", o->args[0], strerror(errno));
                return EXIT_NO_INPUT;
        }
        name_of_file(o->args[0], name);
        if (!o->name)
                o->name = name;
        status = bus_open_admin(o, &bus);
        if (status)
                return status;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "InstallModel", &error,
                               &reply, "ha{sv}", fd, 1, "name", "s", o->name);
        status = r < 0 ? bus_failed(&error, r) : finish(o, bus, reply, o->name, true);
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        return status;
}

/* A method that takes the name of a model. */
static int call_with_name(struct options *o, const char *method, bool says_ready) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        sd_bus *bus = NULL;
        int status, r;

        if (o->n_args != 1) {
                term_error("name one model (bnctl models lists them)");
                return EXIT_USAGE;
        }
        status = bus_open_admin(o, &bus);
        if (status)
                return status;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, method, &error, &reply, "s",
                               o->args[0]);
        status = r < 0 ? bus_failed(&error, r) : finish(o, bus, reply, o->args[0], says_ready);
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        return status;
}

int cmd_remove(struct options *o) {
        return call_with_name(o, "RemoveModel", false);
}

int cmd_verify(struct options *o) {
        return call_with_name(o, "VerifyModel", true);
}
