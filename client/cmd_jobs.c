/* bnctl ps and bnctl cancel: the one job table, whoever started the jobs. */

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/lists.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2 };

static void collect(void *userdata, const struct bus_job *j) {
        json_t *list = userdata;
        json_t *progress = j->progress_valid ? json_real(j->progress) : json_null();

        json_array_append_new(
                list, json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:i, s:I, s:o, s:I, s:I, s:I}",
                                "job", j->id,
                                "uid", (json_int_t)j->uid,
                                "verb", j->verb,
                                "state", j->state,
                                "model", j->model,
                                "priority", j->priority,
                                "detached", j->detached,
                                "queue_position", (int)j->queue_position,
                                "estimated_start_usec", (json_int_t)j->estimated_start_usec,
                                "progress", progress,
                                "tokens_in", (json_int_t)j->tokens_in,
                                "tokens_out", (json_int_t)j->tokens_out,
                                "created_usec", (json_int_t)j->created_usec));
}

/* "#2, 14s": its place in the queue, and when it starts by estimate. */
static void describe(const json_t *job, long long now, char *text, size_t size) {
        json_t *progress = json_object_get(job, "progress");
        long long place = list_number(job, "queue_position");
        long long wait = list_number(job, "estimated_start_usec") / 1000000 - now;

        text[0] = '\0';
        if (place > 0 && list_number(job, "estimated_start_usec") > 0)
                snprintf(text, size, "#%lld, %llds", place, wait < 0 ? 0 : wait);
        else if (place > 0)
                snprintf(text, size, "#%lld", place);
        else if (json_is_real(progress))
                snprintf(text, size, "%.0f%%", json_real_value(progress) * 100);
}

static void print_table(const struct options *o, const json_t *list) {
        long long now = (long long)time(NULL);
        json_t *j;
        size_t i;

        if (json_array_size(list) == 0) {
                if (!o->quiet)
                        fputs("no jobs\n", stderr);
                return;
        }
        printf("%-20s %6s %-10s %-11s %-10s %-28s %8s %8s %6s\n", "JOB", "UID", "VERB", "STATE",
               "PROGRESS", "MODEL", "READ", "WRITTEN", "AGE");
        json_array_foreach(list, i, j) {
                long long age = now - list_number(j, "created_usec") / 1000000;
                char text[64];

                describe(j, now, text, sizeof(text));
                printf("%-20s %6lld %-10s %-11s %-10s %-28s %8lld %8lld %5llds\n",
                       list_text(j, "job"), list_number(j, "uid"), list_text(j, "verb"),
                       list_text(j, "state"), text, list_text(j, "model"),
                       list_number(j, "tokens_in"), list_number(j, "tokens_out"),
                       age < 0 ? 0 : age);
        }
}

static void print_json(const json_t *list) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
}

static int show(const struct options *o, sd_bus *bus) {
        json_t *list = json_array(), *workers = NULL, *sessions = NULL;
        int status = 0;

        if (!o->workers)
                status = bus_each_job(bus, o->all, collect, list);
        if (!status && !o->workers && !o->json)
                status = list_sessions(bus, o->all, &sessions);
        if (!status && (o->workers || !o->json))
                status = list_workers(bus, o->all, &workers);
        if (!status && o->json)
                print_json(o->workers ? workers : list);
        else if (!status) {
                if (!o->workers)
                        print_table(o, list);
                if (json_array_size(sessions) > 0) {
                        putchar('\n');
                        list_print_sessions(stdout, sessions);
                }
                if (!o->workers && json_array_size(workers) > 0)
                        putchar('\n');
                if (o->workers || json_array_size(workers) > 0)
                        list_print_workers(stdout, workers);
        }
        json_decref(list);
        json_decref(workers);
        json_decref(sessions);
        return status;
}

int cmd_ps(struct options *o) {
        return bus_run(o, show);
}

static int cancel_all(sd_bus *bus) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        uint32_t n = 0;
        int status = 0;
        int r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "CancelAll", &error, &m,
                                   "");

        if (r >= 0)
                r = sd_bus_message_read(m, "u", &n);
        if (r < 0)
                status = bus_failed(&error, r);
        else
                fprintf(stderr, "%" PRIu32 " job(s) cancelled\n", n);
        sd_bus_message_unref(m);
        sd_bus_error_free(&error);
        return status;
}

static int cancel_one(sd_bus *bus, const char *id) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char path[192];
        int r, status;

        status = bus_job_path(id, path, sizeof(path));
        if (status)
                return status;
        r = sd_bus_call_method(bus, BUS_NAME, path, BUS_JOB, "Cancel", &error, NULL, "");
        if (r < 0)
                status = bus_failed(&error, r);
        sd_bus_error_free(&error);
        return status;
}

int cmd_cancel(struct options *o) {
        sd_bus *bus = NULL;
        int status;

        if (!o->all && o->n_args == 0) {
                term_error("name a job (bnctl ps lists them) or give --all");
                return EXIT_USAGE;
        }
        status = bus_open(o, &bus);
        if (!status && o->all)
                status = cancel_all(bus);
        for (int i = 0; !status && i < o->n_args; i++)
                status = cancel_one(bus, o->args[i]);
        sd_bus_flush_close_unref(bus);
        return status;
}
