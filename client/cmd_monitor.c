/* bnctl monitor: one line for each job that comes, starts and ends. The daemon sends no signals
 * about jobs to anybody but their owner's connection, so this looks at the job table a few times
 * a second; ended jobs stay in it long enough that none is missed. */

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/lists.h"
#include "engine/base/macro.h"

enum { NAP_MS = 200 };

/* How far a job has come: events are told in this order, none is left out. */
enum phase { PHASE_NONE, PHASE_QUEUED, PHASE_STARTED, PHASE_ENDED };

static enum phase phase_of(const json_t *job) {
        if (list_ended(job))
                return PHASE_ENDED;
        return strcmp(list_text(job, "state"), "queued") == 0 ? PHASE_QUEUED : PHASE_STARTED;
}

static void tell(const struct options *o, const json_t *job, enum phase phase) {
        static const char *const words[] = {"", "queued", "started", "ended"};
        bool ended = phase == PHASE_ENDED;
        struct timespec now;
        struct tm tm;
        char clock[16];

        clock_gettime(CLOCK_REALTIME, &now);
        if (o->json) {
                json_t *event = json_pack("{s:s, s:I}", "event", words[phase], "time_usec",
                                          (json_int_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);

                json_object_update(event, (json_t *)(uintptr_t)job);
                json_dumpf(event, stdout, JSON_COMPACT);
                putchar('\n');
                json_decref(event);
                return;
        }
        localtime_r(&now.tv_sec, &tm);
        strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        printf("%s %-7s %-20s uid %lld %s", clock, words[phase], list_text(job, "job"),
               list_number(job, "uid"), list_text(job, "verb"));
        if (ended)
                printf(" %s, %lld read, %lld written", list_text(job, "state"),
                       list_number(job, "tokens_in"), list_number(job, "tokens_out"));
        else
                printf(" %s %s", list_text(job, "priority"), list_text(job, "model"));
        putchar('\n');
}

/* What was known of a job, kept in an object by its id. */
static void compare(const struct options *o, const json_t *known, const json_t *job, json_t *next) {
        const char *id = list_text(job, "job");
        enum phase before = (enum phase)list_number(known, id), now = phase_of(job);

        json_object_set_new(next, id, json_integer(now));
        for (enum phase p = before + 1; p <= now; p++)
                tell(o, job, p);
}

/* Jobs that had ended before the first look are no events. */
static json_t *first_look(const struct options *o, const json_t *jobs) {
        json_t *known = json_object(), *job;
        size_t i;

        json_array_foreach(jobs, i, job) {
                enum phase now = phase_of(job);

                json_object_set_new(known, list_text(job, "job"), json_integer(now));
                if (now != PHASE_ENDED)
                        tell(o, job, now);
        }
        return known;
}

static void nap(void) {
        const struct timespec t = {.tv_nsec = NAP_MS * 1000000L};

        nanosleep(&t, NULL);
}

static int watch(const struct options *o, sd_bus *bus) {
        json_t *known = NULL, *jobs, *job, *next;
        int status = 0;
        size_t i;

        while (!interrupted()) {
                status = list_jobs(bus, o->all, &jobs);
                if (status)
                        break;
                if (!known)
                        next = first_look(o, jobs);
                else {
                        next = json_object();
                        json_array_foreach(jobs, i, job)
                                compare(o, known, job, next);
                }
                json_decref(jobs);
                json_decref(known);
                known = next;
                if (fflush(stdout) != 0)
                        break; /* nobody reads it any more */
                nap();
        }
        json_decref(known);
        return status;
}

int cmd_monitor(struct options *o) {
        return bus_run(o, watch);
}
