/* bnctl wait and bnctl output: come back to a job. Both end with the job's own exit status; an
 * interrupt ends only us, since the job is another one's, or detached. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_READER_GONE = 141, CHUNK = 16384, CHARACTER_MAX = 4 };
static const uint64_t LOOK_USEC = 500000;

struct ending {
        bool known;
        int status;          /* exit status */
};

/* error s and message s of the details; the rest is for programs. */
static int read_details(sd_bus_message *m, const char **ret_error, const char **ret_message) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;

                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && strcmp(key, "error") == 0)
                        r = sd_bus_message_read(m, "v", "s", ret_error);
                else if (r >= 0 && strcmp(key, "message") == 0)
                        r = sd_bus_message_read(m, "v", "s", ret_message);
                else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

static int on_end(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        struct ending *ending = userdata;
        const char *result, *error = "", *message = "";

        ending->known = true;
        if (sd_bus_message_is_method_error(m, NULL)) {
                ending->status = bus_report(sd_bus_message_get_error(m));
                return 0;
        }
        if (sd_bus_message_read(m, "s", &result) < 0 || read_details(m, &error, &message) < 0) {
                ending->status = 1;
                return 0;
        }
        if (error[0]) {
                term_error(message);
                ending->status = error_row(error_from_dbus(error))->exit_status;
        }
        return 0;
}

/* A job of the daemon itself, not of a model. */
static bool is_about_bytes(const struct bus_job *job) {
        return strcmp(job->verb, "install") == 0 || strcmp(job->verb, "verify") == 0;
}

static void show(sd_bus *bus, const char *path) {
        struct bus_job job = {0};
        char line[160], rest[64] = "";

        snprintf(job.path, sizeof(job.path), "%s", path);
        if (!isatty(STDERR_FILENO) || bus_get_job(bus, &job) < 0)
                return;
        if (job.queue_position > 0)
                snprintf(rest, sizeof(rest), ", position %" PRIu32, job.queue_position);
        else if (job.progress_valid)
                snprintf(rest, sizeof(rest), ", %.0f %%", job.progress * 100);
        if (is_about_bytes(&job))
                snprintf(line, sizeof(line), "%s%s, %.1f of %.1f MB", job.state, rest,
                         (double)job.bytes_covered / 1e6, (double)job.bytes_in / 1e6);
        else
                snprintf(line, sizeof(line), "%s%s, %" PRIu64 " tokens written", job.state, rest,
                         job.tokens_out);
        term_progress(line);
}

/* Without the time-out of other calls. */
static int call_wait(sd_bus *bus, const char *path, struct ending *ending) {
        sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, path, BUS_JOB, "Wait");

        if (r >= 0)
                r = sd_bus_call_async(bus, NULL, m, on_end, ending, UINT64_MAX);
        sd_bus_message_unref(m);
        return r;
}

int wait_for_job(const struct options *o, sd_bus *bus, const char *path) {
        struct ending ending = {0};
        int r = call_wait(bus, path, &ending);

        while (r >= 0 && !ending.known && !interrupted()) {
                r = sd_bus_process(bus, NULL);
                if (r != 0)
                        continue;
                if (!o->quiet)
                        show(bus, path);
                r = sd_bus_wait(bus, LOOK_USEC);
                if (r == -EINTR)
                        r = 0;
        }
        if (!o->quiet)
                term_progress(NULL);
        if (ending.known)
                return ending.status;
        return r < 0 ? bus_failed(NULL, r) : EXIT_INTERRUPTED;
}

/* Bytes at the end of p that begin a character that is not whole yet. */
static size_t begun(const char *p, size_t n) {
        for (size_t k = 1; k < CHARACTER_MAX && k <= n; k++) {
                unsigned char c = (unsigned char)p[n - k];

                if (c >= 0xc0)
                        return k < (c >= 0xf0 ? 4U : c >= 0xe0 ? 3U : 2U) ? k : 0;
                if (c < 0x80)
                        return 0;
        }
        return 0;
}

/* 0, an exit status, or a negative errno. */
static int copy_text(const struct options *o, int fd) {
        bool safe = isatty(STDOUT_FILENO) && !o->raw;
        char buf[CHUNK], last = '\n';
        size_t kept = 0;
        ssize_t n;

        while ((n = read(fd, buf + kept, sizeof(buf) - kept)) != 0) {
                size_t whole, all;

                if (n < 0 && errno == EINTR && !interrupted())
                        continue;
                if (n < 0)
                        return interrupted() ? EXIT_INTERRUPTED : -errno;
                all = kept + (size_t)n;
                kept = begun(buf, all);
                whole = all - kept;
                if (whole > 0)
                        last = buf[whole - 1];
                if (!term_text(stdout, buf, whole, safe))
                        return EXIT_READER_GONE;
                memmove(buf, buf + whole, kept);
        }
        if (last != '\n')
                putchar('\n');
        explicit_bzero(buf, sizeof(buf));
        return fflush(stdout) == 0 ? 0 : EXIT_READER_GONE;
}

static int take_output(const struct options *o, sd_bus *bus, const char *path) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int fd, status = 0;
        int r = sd_bus_call_method(bus, BUS_NAME, path, BUS_JOB, "TakeOutput", &error, &reply, "");

        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        if (r >= 0)
                r = copy_text(o, fd);
        if (r < 0)
                status = bus_failed(&error, r);
        else
                status = r;
        sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        return status;
}

/* The end of the stream is not success: the job says how it ended. */
static int output_and_wait(const struct options *o, sd_bus *bus, const char *path) {
        int status = take_output(o, bus, path);

        return status ? status : wait_for_job(o, bus, path);
}

static int for_job(struct options *o,
                   int (*run)(const struct options *o, sd_bus *bus, const char *path)) {
        char path[192];
        sd_bus *bus = NULL;
        int status = bus_job_path(o->n_args == 1 ? o->args[0] : "", path, sizeof(path));

        if (!status)
                status = bus_open(o, &bus);
        if (!status)
                status = run(o, bus, path);
        sd_bus_flush_close_unref(bus);
        return status;
}

int cmd_wait(struct options *o) {
        return for_job(o, wait_for_job);
}

int cmd_output(struct options *o) {
        return for_job(o, output_and_wait);
}
