/* The input goes in a memory file: it cannot change, it has no name, and the daemon need not open
 * anything. What is an option of the job and no text goes in the message. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/detach.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { USEC_PER_MSEC = 1000 };

int detach_add_options(json_t *request, const struct options *o) {
        uint64_t deadline;
        json_t *bn;
        int status = options_usec("deadline", o->deadline, 0.001, 86400, &deadline);

        if (status || (!deadline && !o->background && !o->receipt))
                return status;
        bn = json_object();
        if (deadline)
                json_object_set_new(bn, "deadline_ms",
                                    json_integer((json_int_t)(deadline / USEC_PER_MSEC)));
        if (o->background)
                json_object_set_new(bn, "priority", json_string("background"));
        if (o->receipt)
                json_object_set_new(bn, "receipt", json_true());
        json_object_set_new(request, "bn", bn);
        return 0;
}

static int write_all(int fd, const char *p, size_t n) {
        while (n > 0) {
                ssize_t k = write(fd, p, n);

                if (k < 0 && errno != EINTR)
                        return -errno;
                p += MAX(k, 0);
                n -= (size_t)MAX(k, 0);
        }
        return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

/* A descriptor to be read from its start, or a negative errno. */
static int memory_file(const json_t *request) {
        int fd = memfd_create("bnctl", MFD_CLOEXEC), r;
        char *text = json_dumps(request, JSON_COMPACT);

        if (fd < 0 || !text) {
                r = fd < 0 ? -errno : -ENOMEM;
        } else {
                r = write_all(fd, text, strlen(text));
                explicit_bzero(text, strlen(text));
        }
        free(text);
        if (r >= 0)
                return fd;
        if (fd >= 0)
                close(fd);
        return r;
}

static int add_word(sd_bus_message *m, const char *key, const char *word) {
        return word ? sd_bus_message_append(m, "{sv}", key, "s", word) : 0;
}

static int add_usec(sd_bus_message *m, const char *key, uint64_t usec) {
        return usec ? sd_bus_message_append(m, "{sv}", key, "t", usec) : 0;
}

static int add_options(sd_bus_message *m, const struct options *o, uint64_t deadline,
                       uint64_t keep) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "detach", "b", 1);
        if (r >= 0)
                r = add_word(m, "input-format", "request-json");
        if (r >= 0)
                r = add_word(m, "priority", o->background ? "background" : NULL);
        if (r >= 0)
                r = add_word(m, "type", o->type);
        if (r >= 0)
                r = add_word(m, "tone", o->tone);
        if (r >= 0)
                r = add_word(m, "length", o->length);
        if (r >= 0)
                r = add_word(m, "format", o->format);
        if (r >= 0)
                r = add_usec(m, "deadline-usec", deadline);
        if (r >= 0)
                r = add_usec(m, "keep-result-usec", keep);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* A model that nobody asked for by name is the daemon's choice. */
static int call(sd_bus *bus, const struct options *o, const char *method, int input,
                uint64_t deadline, uint64_t keep, sd_bus_error *error, sd_bus_message **reply) {
        sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, BUS_ROOT, BUS_MANAGER, method);

        if (r >= 0)
                r = sd_bus_message_append(m, "sh", o->model ? o->model : "", input);
        if (r >= 0)
                r = add_options(m, o, deadline, keep);
        if (r >= 0)
                r = sd_bus_call(bus, m, 0, error, reply);
        sd_bus_message_unref(m);
        return r;
}

static void print_id(const struct options *o, const char *path) {
        const char *id = bus_job_id(path);

        printf(o->json ? "{\"job\": \"%s\"}\n" : "%s\n", id);
        if (!o->quiet && isatty(STDERR_FILENO))
                fprintf(stderr, "bnctl: bnctl output %s prints the result, bnctl wait %s waits\n",
                        id, id);
}

int detach_start(const struct options *o, const char *method, const json_t *request) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        _cleanup_close_ int input = -1;
        uint64_t deadline, keep;
        const char *path = NULL;
        sd_bus *bus = NULL;
        int status = options_usec("deadline", o->deadline, 0.001, 86400, &deadline), r;

        if (!status)
                status = options_usec("keep", o->keep, 1, 3600, &keep);
        if (!status)
                status = bus_open(o, &bus);
        if (status)
                return status;
        r = input = memory_file(request);
        if (r >= 0)
                r = call(bus, o, method, input, deadline, keep, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                print_id(o, path);
        else
                status = bus_failed(&error, r);
        sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return status;
}
