/* Calls of bnctl on org.bitnetd.Bitnetd1. The private socket speaks D-Bus without a bus daemon, so
 * there is no destination name on it and the kernel alone says who we are. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/term.h"
#include "engine/base/macro.h"

#define JOB_PREFIX BUS_ROOT "/job/"

enum { EXIT_USAGE = 2, ADMIN_USEC = 150000000 };

static int open_private(const struct options *o, sd_bus **ret) {
        char path[160], address[512];
        const char *slash = strrchr(o->socket, '/');
        sd_bus *bus = NULL;
        struct stat st;
        int r;

        snprintf(path, sizeof(path), "%.*s/bus.sock", slash ? (int)(slash - o->socket) : 1,
                 slash ? o->socket : ".");
        if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
                return -ENOENT;
        snprintf(address, sizeof(address), "unix:path=%s", path);
        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0) {
                sd_bus_unref(bus);
                return r;
        }
        *ret = bus;
        return 0;
}

/* A socket that was named means the daemon behind it: the one on a message bus may be another. */
int bus_open(const struct options *o, sd_bus **ret) {
        bool named = o->socket != o->path;
        int r = open_private(o, ret);

        if (r < 0 && !named && getenv("DBUS_SESSION_BUS_ADDRESS"))
                r = sd_bus_open_user(ret);
        if (r < 0 && !named)
                r = sd_bus_open_system(ret);
        if (r >= 0)
                return 0;
        fprintf(stderr, "bnctl: cannot reach bitnetd at %s: is it running?\n", o->socket);
        return error_row(ERROR_UNAVAILABLE)->exit_status;
}

/* On the private socket of somebody else's daemon only root may administer; on a message bus polkit
 * may allow it to others. */
static bool needs_polkit(const struct options *o, const char *path) {
        struct stat st;

        return o->socket == o->path && geteuid() != 0 && stat(path, &st) == 0 &&
               st.st_uid != geteuid();
}

int bus_open_admin(const struct options *o, sd_bus **ret) {
        if (!needs_polkit(o, o->socket) || sd_bus_open_system(ret) < 0)
                return bus_open(o, ret);
        /* A person may have to find a password. */
        sd_bus_set_allow_interactive_authorization(*ret, true);
        sd_bus_set_method_call_timeout(*ret, ADMIN_USEC);
        return 0;
}

int bus_run(const struct options *o, int (*run)(const struct options *o, sd_bus *bus)) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int status = o->all ? bus_open_admin(o, &bus) : bus_open(o, &bus);

        return status ? status : run(o, bus);
}

int bus_report(const sd_bus_error *error) {
        enum error_code code = error->name ? error_from_dbus(error->name) : ERROR_FAILED;

        /* No name of ours: nobody answers. */
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_DISCONNECTED) ||
            sd_bus_error_has_name(error, "System.Error.ECONNREFUSED") ||
            sd_bus_error_has_name(error, "System.Error.ECONNRESET")) {
                term_error("cannot reach bitnetd over D-Bus: is it running?");
                return error_row(ERROR_UNAVAILABLE)->exit_status;
        }
        term_error(error->message ? error->message : error_row(code)->text);
        return error_row(code)->exit_status;
}

int bus_failed(sd_bus_error *error, int r) {
        sd_bus_error own = SD_BUS_ERROR_NULL;
        int status;

        if (error && sd_bus_error_is_set(error))
                return bus_report(error);
        sd_bus_error_set_errno(&own, r);
        status = bus_report(&own);
        sd_bus_error_free(&own);
        return status;
}

struct field {
        const char *name;
        char type;
        void *target;
        size_t size;
};

/* Read the variant under the cursor into the field that has this name; skip all others. */
static int take_property(sd_bus_message *m, const struct field *fields, size_t n,
                         const char *name) {
        for (size_t i = 0; i < n; i++) {
                char type[2] = {fields[i].type, 0};
                const char *text;
                int r;

                if (strcmp(fields[i].name, name) != 0)
                        continue;
                if (fields[i].type != 's')
                        return sd_bus_message_read(m, "v", type, fields[i].target);
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r >= 0)
                        snprintf(fields[i].target, fields[i].size, "%s", text);
                return r;
        }
        return sd_bus_message_skip(m, "v");
}

static int read_properties(sd_bus_message *m, const struct field *fields, size_t n) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = take_property(m, fields, n, name);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

const char *bus_job_id(const char *path) {
        size_t n = strlen(JOB_PREFIX);

        return strncmp(path, JOB_PREFIX, n) == 0 ? path + n : path;
}

int bus_job_path(const char *id, char *path, size_t size) {
        int n = snprintf(path, size, JOB_PREFIX "%s", id);

        if (n > 0 && (size_t)n < size && sd_bus_object_path_is_valid(path))
                return 0;
        term_error(*id ? "a job is named as bnctl ps shows it" : "which job? bnctl ps lists them");
        return EXIT_USAGE;
}

int bus_get_job(sd_bus *bus, struct bus_job *j) {
        const struct field fields[] = {
                {"State", 's', j->state, sizeof(j->state)},
                {"Verb", 's', j->verb, sizeof(j->verb)},
                {"Model", 's', j->model, sizeof(j->model)},
                {"Priority", 's', j->priority, sizeof(j->priority)},
                {"UID", 'u', &j->uid, 0},
                {"QueuePosition", 'u', &j->queue_position, 0},
                {"CreatedUSec", 't', &j->created_usec, 0},
                {"TokensIn", 't', &j->tokens_in, 0},
                {"TokensOut", 't', &j->tokens_out, 0},
                {"EstimatedStartUSec", 't', &j->estimated_start_usec, 0},
                {"ProgressValid", 'b', &j->progress_valid, 0},
                {"Progress", 'd', &j->progress, 0},
                {"Detached", 'b', &j->detached, 0},
                {"BytesIn", 't', &j->bytes_in, 0},
                {"BytesCovered", 't', &j->bytes_covered, 0},
        };
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_call_method(bus, BUS_NAME, j->path, "org.freedesktop.DBus.Properties",
                               "GetAll", &error, &m, "s", BUS_JOB);
        if (r >= 0)
                r = read_properties(m, fields, ARRAY_SIZE(fields));
        sd_bus_message_unref(m);
        sd_bus_error_free(&error);
        return r;
}

/* The paths in a reply whose structs start with one. */
static int each_path(sd_bus *bus, sd_bus_message *m,
                     void (*each)(void *userdata, const struct bus_job *job), void *userdata) {
        int r = sd_bus_message_enter_container(m, 'a', NULL);

        while (r >= 0 && sd_bus_message_at_end(m, false) == 0) {
                struct bus_job job = {0};
                const char *path;

                r = sd_bus_message_enter_container(m, 'r', NULL);
                if (r >= 0)
                        r = sd_bus_message_read(m, "o", &path);
                if (r < 0)
                        break;
                snprintf(job.path, sizeof(job.path), "%s", path);
                snprintf(job.id, sizeof(job.id), "%s", bus_job_id(path));
                if (bus_get_job(bus, &job) >= 0) /* gone in the meantime: not listed */
                        each(userdata, &job);
                while (r >= 0 && sd_bus_message_at_end(m, false) == 0)
                        r = sd_bus_message_skip(m, NULL);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

int bus_each_job(sd_bus *bus, int all, void (*each)(void *userdata, const struct bus_job *job),
                 void *userdata) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        int r, status;

        if (all)
                r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "ListJobs", &error,
                                       &m, "a{sv}", 1, "all", "b", 1);
        else
                r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "ListJobs", &error,
                                       &m, "a{sv}", 0);
        if (r >= 0)
                r = each_path(bus, m, each, userdata);
        status = r < 0 ? bus_failed(&error, r) : 0;
        sd_bus_message_unref(m);
        sd_bus_error_free(&error);
        return status;
}
