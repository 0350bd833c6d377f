/* bnctl top: what is computed now, once a second, as a page on a terminal or as plain text. Rates
 * are differences between two looks, so the first picture comes after one interval.
 *
 * A page is written over the one before, from the upper left corner; nothing of the terminal is
 * changed otherwise (no alternate screen, no hidden cursor), so there is nothing to put back. */

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/interrupt.h"
#include "client/lists.h"
#include "engine/base/macro.h"

enum { INTERVAL_MS = 1000, NAP_MS = 50 };

struct look {
        json_t *jobs, *workers;
        double at;               /* seconds, CLOCK_MONOTONIC */
};

static double seconds(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void look_done(struct look *l) {
        json_decref(l->jobs);
        json_decref(l->workers);
        *l = (struct look){0};
}

static int look_take(sd_bus *bus, int all, struct look *ret) {
        int status = list_jobs(bus, all, &ret->jobs);

        if (!status)
                status = list_workers(bus, all, &ret->workers);
        ret->at = seconds();
        return status;
}

/* False: interrupted. */
static bool nap(void) {
        const struct timespec t = {.tv_nsec = NAP_MS * 1000000L};

        for (int ms = 0; ms < INTERVAL_MS && !interrupted(); ms += NAP_MS)
                nanosleep(&t, NULL);
        return !interrupted();
}

static const json_t *find_job(const json_t *jobs, const char *id) {
        const json_t *j;
        size_t i;

        json_array_foreach(jobs, i, j)
                if (strcmp(list_text(j, "job"), id) == 0)
                        return j;
        return NULL;
}

/* Tokens written a second by one job since the last look. */
static double rate_of(const struct look *before, const struct look *now, const json_t *job) {
        const json_t *old = find_job(before->jobs, list_text(job, "job"));
        long long tokens = list_number(job, "tokens_out") - (old ? list_number(old, "tokens_out")
                                                                 : 0);

        return tokens > 0 ? (double)tokens / (now->at - before->at) : 0;
}

static double sum(const json_t *list, const char *key) {
        const json_t *v;
        double total = 0;
        size_t i;

        json_array_foreach(list, i, v)
                total += (double)list_number(v, key);
        return total;
}

/* CPUs in use. A worker that has gone in between takes its time with it. */
static double cpus(const struct look *before, const struct look *now) {
        double used = sum(now->workers, "cpu_usec") - sum(before->workers, "cpu_usec");

        return used > 0 ? used / 1e6 / (now->at - before->at) : 0;
}

struct totals {
        unsigned running, waiting;
        double rate, cpus;
};

static struct totals totals_of(const struct look *before, const struct look *now) {
        struct totals t = {.cpus = cpus(before, now)};
        const json_t *j;
        size_t i;

        json_array_foreach(now->jobs, i, j) {
                t.rate += rate_of(before, now, j);
                if (list_ended(j))
                        continue;
                if (strcmp(list_text(j, "state"), "queued") == 0)
                        t.waiting++;
                else
                        t.running++;
        }
        return t;
}

static void print_job(const struct look *before, const struct look *now, const json_t *j) {
        long long age = (long long)time(NULL) - list_number(j, "created_usec") / 1000000;

        printf("%-20s %6lld %-10s %-11s %-10s %8lld %8lld %7.1f %5llds\n", list_text(j, "job"),
               list_number(j, "uid"), list_text(j, "verb"), list_text(j, "state"),
               list_text(j, "priority"), list_number(j, "tokens_in"),
               list_number(j, "tokens_out"), rate_of(before, now, j), age < 0 ? 0 : age);
}

static void print_text(const struct look *before, const struct look *now, int lines) {
        struct totals t = totals_of(before, now);
        const json_t *j;
        size_t i;

        printf("jobs %u running, %u waiting   tokens/s %.1f   CPUs %.2f\n\n", t.running, t.waiting,
               t.rate, t.cpus);
        list_print_workers(stdout, now->workers);
        printf("\n%-20s %6s %-10s %-11s %-10s %8s %8s %7s %6s\n", "JOB", "UID", "VERB", "STATE",
               "PRIORITY", "READ", "WRITTEN", "TOK/S", "AGE");
        lines -= 5 + (int)json_array_size(now->workers);
        json_array_foreach(now->jobs, i, j)
                if (!list_ended(j) && lines-- > 0)
                        print_job(before, now, j);
}

static void print_json(const struct look *before, const struct look *now) {
        struct totals t = totals_of(before, now);
        json_t *running = json_array(), *out, *j;
        size_t i;

        json_array_foreach(now->jobs, i, j) {
                if (list_ended(j))
                        continue;
                json_object_set_new(j, "tokens_per_second", json_real(rate_of(before, now, j)));
                json_array_append(running, j);
        }
        out = json_pack("{s:i, s:i, s:f, s:f, s:o, s:O}", "running", (int)t.running, "waiting",
                        (int)t.waiting, "tokens_per_second", t.rate, "cpus", t.cpus, "jobs",
                        running, "workers", now->workers);
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(out);
}

static int page_lines(void) {
        struct winsize w;

        return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 ? w.ws_row : 24;
}

/* False: nobody reads it any more. */
static bool print(const struct options *o, const struct look *before, const struct look *now) {
        bool page = isatty(STDOUT_FILENO) && !o->once && !o->json;

        if (page)
                fputs("\033[H\033[J", stdout);
        if (o->json)
                print_json(before, now);
        else
                print_text(before, now, page ? page_lines() - 1 : 1 << 20);
        if (!page && !o->json && !o->once)
                putchar('\n');
        return fflush(stdout) == 0;
}

static int watch(const struct options *o, sd_bus *bus) {
        struct look before = {0}, now = {0};
        int status = look_take(bus, o->all, &before);

        while (!status && nap()) {
                status = look_take(bus, o->all, &now);
                if (status || !print(o, &before, &now))
                        break;
                look_done(&before);
                before = now;
                now = (struct look){0};
                if (o->once)
                        break;
        }
        look_done(&before);
        look_done(&now);
        return status;
}

int cmd_top(struct options *o) {
        return bus_run(o, watch);
}
