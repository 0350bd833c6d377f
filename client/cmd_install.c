/* bnctl install, remove and verify: models for all users. The file goes as a descriptor, so the
 * daemon needs no access to where it lies; what it then does can take minutes, and is looked at
 * until it is over. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

#define BUS_MODEL "org.bitnetd.Bitnetd1.Model"

enum { EXIT_USAGE = 2, EXIT_NO_INPUT = 66, LOOK_MS = 100, NAME_SIZE = 64 };

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

static char *word(sd_bus *bus, const char *path, const char *property) {
        char *value = NULL;

        if (sd_bus_get_property_string(bus, BUS_NAME, path, BUS_MODEL, property, NULL, &value) < 0)
                return NULL;
        return value;
}

/* Until the model is ready or bad. */
static int wait_until_settled(sd_bus *bus, const char *path, const struct options *o) {
        _cleanup_free_ char *state = NULL, *problem = NULL;

        if (!o->quiet)
                fputs("bnctl: preparing the model\n", stderr);
        while ((state = word(bus, path, "State")) && strcmp(state, "loading") == 0) {
                if (interrupted())
                        return error_row(ERROR_CANCELLED)->exit_status; /* it goes on */
                free(state);
                nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
        }
        if (state && strcmp(state, "ready") == 0) {
                puts("ready");
                return 0;
        }
        problem = word(bus, path, "Problem");
        term_error(problem && *problem ? problem : "the model is not there any more");
        return error_row(ERROR_MODEL_BAD)->exit_status;
}

/* A reply with the model's path; it is then looked at until it is settled. */
static int finish(sd_bus *bus, sd_bus_message *reply, const struct options *o) {
        const char *path;
        int r = sd_bus_message_read(reply, "o", &path);

        return r < 0 ? error_row(ERROR_FAILED)->exit_status : wait_until_settled(bus, path, o);
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
        status = bus_open_admin(o, &bus);
        if (status)
                return status;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "InstallModel", &error,
                               &reply, "ha{sv}", fd, 1, "name", "s", o->name ? o->name : name);
        status = r < 0 ? bus_failed(&error, r) : finish(bus, reply, o);
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        return status;
}

/* A method that takes the name of a model. */
static int call_with_name(struct options *o, const char *method, bool settles) {
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
        if (r < 0)
                status = bus_failed(&error, r);
        else if (settles)
                status = finish(bus, reply, o);
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
