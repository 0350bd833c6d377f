/* Calls of the manager, each one round trip, read into JSON: what is printed as a table is what
 * --json prints. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "client/bus.h"
#include "client/lists.h"
#include "engine/base/macro.h"

long long list_number(const json_t *object, const char *key) {
        return json_integer_value(json_object_get(object, key));
}

const char *list_text(const json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

bool list_ended(const json_t *job) {
        static const char *const words[] = {"done", "failed", "cancelled"};

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (strcmp(list_text(job, "state"), words[i]) == 0)
                        return true;
        return false;
}

static int read_jobs(sd_bus_message *m, json_t *list) {
        int r = sd_bus_message_enter_container(m, 'a', "(oussssttt)");

        while (r >= 0) {
                const char *path, *state, *verb, *model, *priority;
                uint64_t created, in, out;
                uint32_t uid;

                r = sd_bus_message_read(m, "(oussssttt)", &path, &uid, &state, &verb, &model,
                                        &priority, &created, &in, &out);
                if (r <= 0)
                        break;
                json_array_append_new(
                        list, json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "job",
                                        bus_job_id(path), "uid", (json_int_t)uid, "state",
                                        state, "verb", verb, "model", model, "priority", priority,
                                        "created_usec", (json_int_t)created, "tokens_in",
                                        (json_int_t)in, "tokens_out", (json_int_t)out));
        }
        return r;
}

static int read_sessions(sd_bus_message *m, json_t *list) {
        int r = sd_bus_message_enter_container(m, 'a', "(oustttttub)");

        while (r >= 0) {
                uint64_t created, expires, used, max, kv;
                const char *path, *model;
                uint32_t uid, turns;
                int busy;

                r = sd_bus_message_read(m, "(oustttttub)", &path, &uid, &model, &created, &expires,
                                        &used, &max, &kv, &turns, &busy);
                if (r <= 0)
                        break;
                json_array_append_new(
                        list,
                        json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "session",
                                  strrchr(path, '/') + 1, "uid", (json_int_t)uid, "model", model,
                                  "created_usec", (json_int_t)created, "expires_usec",
                                  (json_int_t)expires, "tokens_used", (json_int_t)used,
                                  "tokens_max", (json_int_t)max, "kv_bytes", (json_int_t)kv,
                                  "turns", (json_int_t)turns, "busy", busy));
        }
        return r;
}

/* One value: a number or a word. */
static int read_value(sd_bus_message *m, json_t **ret) {
        const char *text;
        uint32_t u;
        uint64_t t;
        char type;
        const char *contents;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        *ret = NULL;
        if (r < 0)
                return r;
        if (strcmp(contents, "s") == 0 && (r = sd_bus_message_read(m, "v", "s", &text)) >= 0)
                *ret = json_string(text);
        else if (strcmp(contents, "u") == 0 && (r = sd_bus_message_read(m, "v", "u", &u)) >= 0)
                *ret = json_integer((json_int_t)u);
        else if (strcmp(contents, "t") == 0 && (r = sd_bus_message_read(m, "v", "t", &t)) >= 0)
                *ret = json_integer((json_int_t)t);
        else if (r >= 0)
                r = sd_bus_message_skip(m, "v");
        return r;
}

/* Keys of the bus with "-" are keys of JSON with "_", as everywhere in bnctl. */
static int read_worker(sd_bus_message *m, json_t *worker) {
        int r;

        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                char name[40];
                json_t *value;

                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0)
                        r = read_value(m, &value);
                if (r < 0)
                        return r;
                snprintf(name, sizeof(name), "%s", key);
                for (char *p = name; *p; p++)
                        if (*p == '-')
                                *p = '_';
                if (value)
                        json_object_set_new(worker, name, value);
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static int read_workers(sd_bus_message *m, json_t *list) {
        int r = sd_bus_message_enter_container(m, 'a', "a{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'a', "{sv}")) > 0) {
                json_t *worker = json_object();

                json_array_append_new(list, worker);
                r = read_worker(m, worker);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

static int fetch(sd_bus *bus, const char *method, int all,
                 int (*read)(sd_bus_message *m, json_t *list), json_t **ret) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        json_t *list = json_array();
        int status = 0;
        int r = all ? sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, method, &error, &m,
                                         "a{sv}", 1, "all", "b", 1)
                    : sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, method, &error, &m,
                                         "a{sv}", 0);

        if (r >= 0)
                r = read(m, list);
        if (r < 0) {
                status = bus_failed(&error, r);
                json_decref(list);
        } else {
                *ret = list;
        }
        sd_bus_message_unref(m);
        sd_bus_error_free(&error);
        return status;
}

int list_jobs(sd_bus *bus, int all, json_t **ret) {
        return fetch(bus, "ListJobs", all, read_jobs, ret);
}

int list_workers(sd_bus *bus, int all, json_t **ret) {
        return fetch(bus, "ListWorkers", all, read_workers, ret);
}

int list_sessions(sd_bus *bus, int all, json_t **ret) {
        return fetch(bus, "ListSessions", all, read_sessions, ret);
}

/* "12.3M": bytes for people. */
static const char *size_of(long long bytes, char buf[16]) {
        static const char units[] = "KMGT";
        double n = (double)bytes / 1024;
        size_t u = 0;

        while (n >= 1000 && units[u + 1]) {
                n /= 1024;
                u++;
        }
        snprintf(buf, 16, "%.*f%c", n < 10 ? 1 : 0, n, units[u]);
        return buf;
}

/* A wider domain stands in place of the uid. */
static const char *whose(const json_t *w, char buf[24]) {
        const char *domain = list_text(w, "domain");

        if (strcmp(domain, "host") == 0)
                return "host";
        if (strcmp(domain, "group") == 0)
                snprintf(buf, 24, "g%lld", list_number(w, "domain_id"));
        else
                snprintf(buf, 24, "%lld", list_number(w, "uid"));
        return buf;
}

void list_print_workers(FILE *out, const json_t *workers) {
        char own[16], kv[16], shared[16], user[24];
        const json_t *w;
        size_t i;

        fprintf(out, "%6s %-9s %-28s %8s %8s %8s %9s\n", "UID", "WORKER", "MODEL", "PRIVATE", "KV",
                "SHARED", "CPU");
        json_array_foreach(workers, i, w) {
                const char *model = list_text(w, "model");

                fprintf(out, "%6s %-9s %-28s %8s %8s %8s %8.1fs\n", whose(w, user),
                        list_text(w, "state"), *model ? model : "-",
                        size_of(list_number(w, "private_bytes"), own),
                        size_of(list_number(w, "kv_bytes"), kv),
                        size_of(list_number(w, "weights_bytes"), shared),
                        (double)list_number(w, "cpu_usec") / 1e6);
        }
}

void list_print_sessions(FILE *out, const json_t *sessions) {
        char used[32], kv[16];
        const json_t *s;
        size_t i;

        fprintf(out, "%-20s %6s %-5s %-28s %6s %15s %8s\n", "SESSION", "UID", "STATE", "MODEL",
                "TURNS", "TOKENS", "KV");
        json_array_foreach(sessions, i, s) {
                snprintf(used, sizeof(used), "%lld of %lld", list_number(s, "tokens_used"),
                         list_number(s, "tokens_max"));
                fprintf(out, "%-20s %6lld %-5s %-28s %6lld %15s %8s\n", list_text(s, "session"),
                        list_number(s, "uid"),
                        json_is_true(json_object_get(s, "busy")) ? "busy" : "idle",
                        list_text(s, "model"), list_number(s, "turns"), used,
                        size_of(list_number(s, "kv_bytes"), kv));
        }
}
