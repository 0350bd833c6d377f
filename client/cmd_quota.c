/* bnctl quota: what a user may do and has used, what decided it, and changing it. bnctl reload. The
 * keys and their spelling are those of the configuration (policy/quota_key.h), on the bus, too. */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/bus.h"
#include "client/commands.h"
#include "client/term.h"
#include "engine/base/macro.h"
#include "policy/quota_key.h"
#include "policy/slice.h"

enum { EXIT_USAGE = 2, TEXT_MAX = 256, PATH_BYTES = 256 };

/* For GetQuota: whoever asks. */
#define UID_SELF UINT32_MAX

struct value {
        bool known;
        uint64_t number;
        char text[TEXT_MAX]; /* of keys that are lists or names */
};

struct quota {
        uint32_t uid;
        char slice[SLICE_RULE_SIZE]; /* whose section makes it an account of its own; "": none */
        char path[PATH_BYTES];       /* of its object */
        struct value limits[_QUOTA_MAX], used[_QUOTA_MAX];
        uint64_t reset_usec, next_allowed_usec, virtual_counter;
};

static bool is_number(enum quota_key key) {
        switch (quota_row(key)->kind) {
        case QUOTA_KIND_COUNT:
        case QUOTA_KIND_BYTES:
        case QUOTA_KIND_TIME:
                return true;
        case QUOTA_KIND_VERBS:
        case QUOTA_KIND_PRIORITIES:
        case QUOTA_KIND_PATTERNS:
        case QUOTA_KIND_MODEL:
                break;
        }
        return false;
}

/* --- reading --- */

static int read_words(sd_bus_message *m, char *buf) {
        const char *word;
        size_t n = 0;
        int r = sd_bus_message_enter_container(m, 'v', "as");

        if (r > 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        while (r > 0 && (r = sd_bus_message_read(m, "s", &word)) > 0 && n < TEXT_MAX)
                n += (size_t)snprintf(buf + n, TEXT_MAX - n, "%s%s", n > 0 ? " " : "", word);
        if (n == 0)
                snprintf(buf, TEXT_MAX, "none");
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_value(sd_bus_message *m, struct value *v) {
        const char *type, *text;
        int r = sd_bus_message_peek_type(m, NULL, &type);

        v->known = true;
        if (r < 0)
                return r;
        if (strcmp(type, "t") == 0)
                return sd_bus_message_read(m, "v", "t", &v->number);
        if (strcmp(type, "as") == 0)
                return read_words(m, v->text);
        r = sd_bus_message_read(m, "v", "s", &text);
        if (r >= 0)
                snprintf(v->text, sizeof(v->text), "%s", text);
        return r;
}

/* A dictionary by keys of the configuration, in a variant; keys of a later version are skipped. */
static int read_values(sd_bus_message *m, struct value values[_QUOTA_MAX]) {
        int r = sd_bus_message_enter_container(m, 'v', "a{sv}");

        if (r > 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r > 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                enum quota_key key;
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        break;
                key = quota_key_find(name);
                r = key == _QUOTA_MAX ? sd_bus_message_skip(m, "v") : read_value(m, &values[key]);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_entry(sd_bus_message *m, struct quota *q) {
        const struct {
                const char *name, *type;
                void *target;
        } numbers[] = { { "UID", "u", &q->uid },
                        { "ResetUSec", "t", &q->reset_usec },
                        { "NextAllowedUSec", "t", &q->next_allowed_usec },
                        { "VirtualCounter", "t", &q->virtual_counter } };
        const char *name, *slice;
        int r = sd_bus_message_read(m, "s", &name);

        if (r < 0)
                return r;
        if (strcmp(name, "Slice") == 0) {
                r = sd_bus_message_read(m, "v", "s", &slice);
                if (r >= 0)
                        snprintf(q->slice, sizeof(q->slice), "%s", slice);
                return r;
        }
        if (strcmp(name, "Limits") == 0)
                return read_values(m, q->limits);
        if (strcmp(name, "Used") == 0)
                return read_values(m, q->used);
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                if (strcmp(numbers[i].name, name) == 0)
                        return sd_bus_message_read(m, "v", numbers[i].type, numbers[i].target);
        return sd_bus_message_skip(m, "v");
}

static int read_quota(sd_bus_message *m, struct quota *q) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_entry(m, q);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

static int get_quota(sd_bus *bus, uint32_t uid, struct quota *q) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        int r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "GetQuota", &error, &m,
                                   "u", uid);

        if (r >= 0)
                r = read_quota(m, q);
        if (r >= 0)
                snprintf(q->path, sizeof(q->path), BUS_ROOT "/quota/%" PRIu32, q->uid);
        sd_bus_message_unref(m);
        return r < 0 ? bus_failed(&error, r) : 0;
}

/* That of the same user in another slice; GetQuota has asked whether we may. */
static int get_in_slice(sd_bus *bus, const char *slice, struct quota *q) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        int r = sd_bus_path_encode(q->path, slice, &path);

        *q = (struct quota){ .uid = q->uid };
        if (r >= 0)
                r = snprintf(q->path, sizeof(q->path), "%s", path) >= PATH_BYTES ? -ENAMETOOLONG
                                                                                 : 0;
        if (r >= 0)
                r = sd_bus_call_method(bus, BUS_NAME, q->path, "org.freedesktop.DBus.Properties",
                                       "GetAll", &error, &m, "s", BUS_QUOTA);
        if (r >= 0)
                r = read_quota(m, q);
        sd_bus_message_unref(m);
        return r < 0 ? bus_failed(&error, r) : 0;
}

/* --- showing --- */

static const char *print_value(enum quota_key key, const struct value *v, char buf[TEXT_MAX]) {
        char number[QUOTA_PRINT_MAX];

        if (!v->known)
                snprintf(buf, TEXT_MAX, "-");
        else if (is_number(key))
                snprintf(buf, TEXT_MAX, "%s", quota_print(key, v->number, number));
        else
                snprintf(buf, TEXT_MAX, "%s", v->text[0] ? v->text : "-");
        return buf;
}

/* CPU time is measured in microseconds, which nobody wants to read. */
static const char *print_used(enum quota_key key, const struct value *v, char buf[TEXT_MAX]) {
        if (v->known && key == QUOTA_CPU_TIME_PER_DAY)
                snprintf(buf, TEXT_MAX, "%" PRIu64 ".%" PRIu64 "s", v->number / 1000000,
                         v->number % 1000000 / 100000);
        else
                print_value(key, v, buf);
        return buf;
}

static json_t *json_value(enum quota_key key, const struct value *v) {
        if (!is_number(key))
                return json_string(v->text);
        return v->number == QUOTA_INFINITY ? json_null() : json_integer((json_int_t)v->number);
}

static json_t *json_values(const struct value values[_QUOTA_MAX]) {
        json_t *out = json_object();

        for (unsigned i = 0; i < _QUOTA_MAX; i++)
                if (values[i].known)
                        json_object_set_new(out, quota_row((enum quota_key)i)->name,
                                            json_value((enum quota_key)i, &values[i]));
        return out;
}

static void print_json(json_t *out) {
        json_dumpf(out, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(out);
}

static void print_table(const struct quota *q) {
        uint64_t now = (uint64_t)time(NULL);
        char limit[TEXT_MAX], used[TEXT_MAX];

        printf("Quota of uid %" PRIu32 "%s%s\n%-20s %16s %16s\n", q->uid,
               q->slice[0] ? " in " : "", q->slice, "", "LIMIT", "USED");
        for (unsigned i = 0; i < _QUOTA_MAX; i++) {
                const char *name = quota_row((enum quota_key)i)->name;

                print_value((enum quota_key)i, &q->limits[i], limit);
                if (strlen(limit) > 16) /* a list of words, of which none is used up */
                        printf("%-20s %s\n", name, limit);
                else
                        printf("%-20s %16s %16s\n", name, limit,
                               print_used((enum quota_key)i, &q->used[i], used));
        }
        printf("The day begins anew in %" PRIu64 " min. ",
               q->reset_usec / 1000000 > now ? (q->reset_usec / 1000000 - now + 59) / 60 : 0);
        if (q->next_allowed_usec / 1000000 > now)
                printf("Requests are refused for %" PRIu64 " s.\n",
                       q->next_allowed_usec / 1000000 - now + 1);
        else
                puts("Requests are accepted.");
}

static int show(sd_bus *bus, const struct options *o, const struct quota *q) {
        if (!o->json)
                print_table(q);
        else
                print_json(json_pack("{s:I, s:s, s:o, s:o, s:I, s:I, s:I}", "uid",
                                     (json_int_t)q->uid, "slice", q->slice, "limits",
                                     json_values(q->limits), "used", json_values(q->used),
                                     "reset_usec",
                                     (json_int_t)q->reset_usec, "next_allowed_usec",
                                     (json_int_t)q->next_allowed_usec, "virtual_counter",
                                     (json_int_t)q->virtual_counter));
        return 0;
}

static void explain_one(json_t *out, const struct quota *q, enum quota_key key,
                        const char *section, const char *file, uint32_t line) {
        char value[TEXT_MAX];

        if (out)
                json_object_set_new(
                        out, quota_row(key)->name,
                        json_pack("{s:o, s:s, s:s, s:I}", "value",
                                  json_value(key, &q->limits[key]), "section", section, "file",
                                  file, "line", (json_int_t)line));
        else if (file[0])
                printf("%-20s %-16s [%s] %s:%" PRIu32 "\n", quota_row(key)->name,
                       print_value(key, &q->limits[key], value), section, file, line);
        else
                printf("%-20s %-16s built in\n", quota_row(key)->name,
                       print_value(key, &q->limits[key], value));
}

static int explain(sd_bus *bus, const struct options *o, const struct quota *q) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        json_t *out = o->json ? json_object() : NULL;
        const char *name, *section, *file;
        sd_bus_message *m = NULL;
        uint32_t line;
        int r = sd_bus_get_property(bus, BUS_NAME, q->path, BUS_QUOTA, "Origins", &error, &m,
                                    "a{s(ssu)}");

        if (!out && q->slice[0])
                printf("Quota of uid %" PRIu32 " in %s\n", q->uid, q->slice);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{s(ssu)}");
        while (r >= 0 &&
               (r = sd_bus_message_read(m, "{s(ssu)}", &name, &section, &file, &line)) > 0)
                if (quota_key_find(name) != _QUOTA_MAX)
                        explain_one(out, q, quota_key_find(name), section, file, line);
        sd_bus_message_unref(m);
        if (out && r >= 0)
                print_json(out);
        else
                json_decref(out);
        return r < 0 ? bus_failed(&error, r) : 0;
}

/* --- changing --- */

/* Appends KEY=VALUE, or says what is wrong with it: 0 or an exit status. */
static int append_change(sd_bus_message *m, const char *argument) {
        const char *equals = strchr(argument, '=');
        const char *problem = NULL;
        enum quota_key key;
        uint64_t ignored;
        char name[32];

        snprintf(name, sizeof(name), "%.*s", (int)(equals ? equals - argument : 0), argument);
        key = quota_key_find(name);
        if (key == _QUOTA_MAX) {
                fprintf(stderr, "bnctl: \"%s\" is not KEY=VALUE with a key of bitnetd.conf\n",
                        argument);
                return EXIT_USAGE;
        }
        if (equals[1])
                problem = quota_parse(key, equals + 1, &ignored);
        if (problem) {
                fprintf(stderr, "bnctl: %s: %s\n", name, problem);
                return EXIT_USAGE;
        }
        return sd_bus_message_append(m, "{sv}", name, "s", equals + 1) < 0 ? 1 : 0;
}

static int set(sd_bus *bus, const struct options *o, const struct quota *q) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        int status = 0, r;

        r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, BUS_ROOT, BUS_MANAGER, "SetQuota");
        if (r >= 0)
                r = sd_bus_message_append(m, "u", q->uid);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        for (int i = 1; r >= 0 && !status && i < o->n_args; i++)
                status = append_change(m, o->args[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", o->persistent);
        if (r >= 0 && !status)
                r = sd_bus_call(bus, m, 0, &error, NULL);
        sd_bus_message_unref(m);
        if (status)
                return status;
        return r < 0 ? bus_failed(&error, r) : 0;
}

static const struct action {
        const char *name;
        int (*run)(sd_bus *bus, const struct options *o, const struct quota *q);
        bool takes_arguments;
} actions[] = { { "show", show, false }, { "explain", explain, false }, { "set", set, true } };

static const struct action *find_action(const struct options *o) {
        const char *name = o->n_args > 0 ? o->args[0] : "show";

        for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
                if (strcmp(actions[i].name, name) == 0 &&
                    (o->n_args > 1) == actions[i].takes_arguments)
                        return &actions[i];
        term_error("usage: bnctl quota [show|explain|set KEY=VALUE...] (bnctl quota --help)");
        return NULL;
}

static bool parse_uid(const char *text, uint32_t *ret) {
        unsigned long long n;
        char *end;

        *ret = UID_SELF;
        if (!text)
                return true;
        errno = 0;
        n = strtoull(text, &end, 10);
        *ret = (uint32_t)n;
        if (*text >= '0' && *text <= '9' && !*end && !errno && n < UID_SELF)
                return true;
        term_error("--uid takes a number");
        return false;
}

int cmd_quota(struct options *o) {
        const struct action *action = find_action(o);
        struct quota *q = calloc(1, sizeof(*q));
        sd_bus *bus = NULL;
        uint32_t uid;
        int status;

        if (o->slice && action && action->takes_arguments) {
                term_error("quotas are set for a user; those of a slice stand in bitnetd.conf");
                action = NULL;
        }
        if (!action || !q || !parse_uid(o->uid, &uid)) {
                free(q);
                return EXIT_USAGE;
        }
        status = o->uid || action->takes_arguments ? bus_open_admin(o, &bus) : bus_open(o, &bus);
        if (!status)
                status = get_quota(bus, uid, q);
        if (!status && o->slice)
                status = get_in_slice(bus, o->slice, q);
        if (!status)
                status = action->run(bus, o, q);
        sd_bus_flush_close_unref(bus);
        free(q);
        return status;
}

int cmd_reload(struct options *o) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus = NULL;
        int status = bus_open_admin(o, &bus), r;

        if (status)
                return status;
        r = sd_bus_call_method(bus, BUS_NAME, BUS_ROOT, BUS_MANAGER, "Reload", &error, NULL, "");
        if (r < 0)
                status = bus_failed(&error, r);
        sd_bus_flush_close_unref(bus);
        return status;
}
