/* All assignments of all files are kept in one list, in the order they were read, each with its
 * file and line; resolving walks it once for each degree of specificity, later ones overwriting. So
 * what decided a number is always known, and nothing has to be merged.
 *
 * inih splits the lines. It is fed by a reader of our own, which counts lines (inih does not tell
 * its handler) and refuses what inih would silently cut or join: lines and section names that are
 * too long, and lines that begin with a space. */
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "policy/config.h"
#include "policy/quota_key.h"

enum { LINE_MAX_BYTES = 190, SECTION_MAX = 48, NAME_MAX_BYTES = SLICE_RULE_SIZE };

struct setting {
        enum config_match match;
        bool by_id;
        uint32_t id;
        char name[NAME_MAX_BYTES];  /* of the user, group or slice */
        enum quota_key key;
        uint64_t value;
        char *text;                 /* of a key from _QUOTA_NUMBERS on */
        const char *path;
        unsigned line;
};

struct config {
        struct config_broker broker;
        char *paths[LIMIT_CONFIG_FILES];
        size_t n_paths;
        struct setting *settings;
        size_t n_settings;
        bool wants_names;
};

/* One file while it is read. */
struct reading {
        struct config *config;
        const char *path, *rest;
        unsigned line;
        unsigned bad_line;          /* of the first problem that is not syntax */
        const char *reason;
        char text[CONFIG_REASON_MAX]; /* room for one that names a value */
        struct setting section;     /* whom the section is for */
        bool broker;                /* it is [Broker] */
        bool sound;                 /* the section is one of ours */
        int error;                  /* -ENOMEM */
};

int config_new(struct config **ret) {
        struct config *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->broker.cpu = CPU_LEVEL_ALL;
        *ret = c;
        return 0;
}

struct config *config_free(struct config *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_settings; i++)
                free(c->settings[i].text);
        for (size_t i = 0; i < c->n_paths; i++)
                free(c->paths[i]);
        free(c->settings);
        free(c);
        return NULL;
}

int config_cpu_level(const char *name, enum cpu_level *ret) {
        static const char *const names[_CPU_LEVEL_MAX] = {
                [CPU_LEVEL_C] = "c",
                [CPU_LEVEL_AVX2] = "avx2",
                [CPU_LEVEL_AVXVNNI] = "avxvnni",
                [CPU_LEVEL_AVX512VL] = "avx512vl",
                [CPU_LEVEL_AVX512VNNI] = "avx512vnni",
                [CPU_LEVEL_AVX512VBMI] = "avx512vbmi",
                [CPU_LEVEL_ALL] = "all",
        };

        for (unsigned i = 0; i < _CPU_LEVEL_MAX; i++)
                if (strcmp(names[i], name) == 0) {
                        *ret = (enum cpu_level)i;
                        return 0;
                }
        return -EINVAL;
}

int config_kv_type(const char *name, enum kv_type *ret) {
        static const char *const names[_KV_TYPE_MAX] = { "s16", "f16", "s8" };

        for (enum kv_type i = 0; i < _KV_TYPE_MAX; i++)
                if (strcmp(name, names[i]) == 0) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

static int refuse(struct reading *r, const char *reason) {
        if (!r->reason) {
                r->reason = reason;
                r->bad_line = r->line;
        }
        return 0; /* for inih: an error on this line */
}

/* Control characters do not go into a log. */
static int refuse_value(struct reading *r, const char *must, const char *value) {
        for (const char *p = value; *p; p++)
                if (*p < ' ' || *p > '~')
                        return refuse(r, must);
        if (r->reason)
                return 0;
        snprintf(r->text, sizeof(r->text), "%s: \"%.40s\"", must, value);
        return refuse(r, r->text);
}

const char *isolation_name(enum isolation i) {
        static const char *const names[_ISOLATION_MAX] = {
                [ISOLATION_UID] = "uid",
                [ISOLATION_GROUP] = "group",
                [ISOLATION_HOST] = "host",
        };

        return names[i];
}

static int set_isolation(struct reading *r, const char *value) {
        struct config_broker *b = &r->config->broker;

        for (unsigned i = 0; i < _ISOLATION_MAX; i++)
                if (strcmp(isolation_name((enum isolation)i), value) == 0) {
                        b->isolation = (enum isolation)i;
                        b->isolation_path = r->path;
                        b->isolation_line = r->line;
                        return 1;
                }
        return refuse_value(r, "IsolationDomain= is not uid, group or host", value);
}

/* "alice" or "1000"; the number -1 is nobody. */
static const char *section_who(struct setting *s, const char *who) {
        unsigned long long id;
        size_t n = strlen(who);

        if (n == 0 || n >= sizeof(s->name) || strpbrk(who, " \t\"'[]"))
                return "not the name or number of a user or group";
        snprintf(s->name, sizeof(s->name), "%s", who);
        if (strspn(who, "0123456789") != n)
                return NULL;
        errno = 0;
        id = strtoull(who, NULL, 10);
        if (errno || id >= UINT32_MAX)
                return "number out of range";
        s->by_id = true;
        s->id = (uint32_t)id;
        return NULL;
}

static const char *section_slice(struct setting *s, const char *name) {
        if (!slice_name_valid(name) || strlen(name) >= sizeof(s->name))
                return "not the name of a slice, such as user-1000.slice, of at most 39 bytes";
        snprintf(s->name, sizeof(s->name), "%s", name);
        return NULL;
}

static const char *section_start(struct reading *r, char *name) {
        char *who = strchr(name, ' ');

        r->section = (struct setting){};
        r->broker = strcmp(name, "Broker") == 0;
        if (r->broker || strcmp(name, "Default") == 0)
                return NULL;
        if (strncmp(name, "AppId", 5) == 0)
                return "nothing proves the name of an application: it chooses it itself";
        if (!who)
                return "unknown section";
        *who++ = '\0';
        who += strspn(who, " ");
        if (strcmp(name, "User") == 0)
                r->section.match = CONFIG_USER;
        else if (strcmp(name, "Group") == 0)
                r->section.match = CONFIG_GROUP;
        else if (strcmp(name, "Slice") == 0) {
                r->section.match = CONFIG_SLICE;
                return section_slice(&r->section, who);
        } else
                return "unknown section";
        return section_who(&r->section, who);
}

/* Sections are seen here, so that an empty one is checked, too. */
static void look_at_section(struct reading *r, const char *line) {
        size_t n = strcspn(line, "]");
        char name[SECTION_MAX];
        const char *problem;

        r->sound = false;
        if (n > sizeof(name)) {
                refuse(r, "name of the section is too long");
                return;
        }
        if (line[n] != ']')
                return; /* inih says so */
        snprintf(name, sizeof(name), "%.*s", (int)n - 1, line + 1);
        problem = section_start(r, name);
        if (problem)
                refuse(r, problem);
        r->sound = !problem;
}

/* As fgets. */
static char *read_line(char *buf, int size, void *stream) {
        struct reading *r = stream;
        size_t n = strcspn(r->rest, "\n");
        size_t take = MIN(n, (size_t)size - 2);

        if (!*r->rest)
                return NULL;
        r->line++;
        memcpy(buf, r->rest, take);
        buf[take] = '\0';
        if (n > LINE_MAX_BYTES)
                refuse(r, "line is too long");
        else if (strchr(" \t", buf[0]) && buf[strspn(buf, " \t\r")])
                refuse(r, "line begins with a space");
        else if (buf[0] == '[')
                look_at_section(r, buf);
        r->rest += n + (r->rest[n] == '\n');
        return buf;
}

static int set_broker(struct reading *r, const char *name, const char *value) {
        struct config_broker *b = &r->config->broker;
        unsigned long n;
        char *end;

        if (strcmp(name, "CPU") == 0)
                return config_cpu_level(value, &b->cpu) < 0 ? refuse(r, "not a CPU level") : 1;
        if (strcmp(name, "KVType") == 0)
                return config_kv_type(value, &b->kv) < 0 ? refuse(r, "not s16, f16 or s8") : 1;
        if (strcmp(name, "IsolationDomain") == 0)
                return set_isolation(r, value);
        if (strcmp(name, "Threads") != 0 && strcmp(name, "IdleExitSec") != 0)
                return refuse(r, "unknown key");
        n = strtoul(value, &end, 10);
        if (*value < '0' || *value > '9' || *end)
                return refuse(r, "not a number");
        if (n > (name[0] == 'T' ? (unsigned long)LIMIT_THREADS : CONFIG_IDLE_EXIT_MAX))
                return refuse(r, "number out of range");
        if (name[0] == 'T')
                b->threads = (uint32_t)n;
        else {
                b->idle_given = true;
                b->idle_exit = (uint32_t)n;
        }
        return 1;
}

static int add_setting(struct reading *r, enum quota_key key, const char *value) {
        struct config *c = r->config;
        struct setting s = r->section;
        const char *problem = quota_parse(key, value, &s.value);
        struct setting *grown;

        if (problem)
                return refuse(r, problem);
        if (c->n_settings == LIMIT_CONFIG_SETTINGS)
                return refuse(r, "too many settings");
        grown = reallocarray(c->settings, c->n_settings + 1, sizeof(*grown));
        if (grown)
                c->settings = grown;
        if (grown && key >= _QUOTA_NUMBERS)
                s.text = strdup(value);
        if (!grown || (key >= _QUOTA_NUMBERS && !s.text)) {
                r->error = -ENOMEM;
                return 0;
        }
        s.key = key;
        s.path = r->path;
        s.line = r->line;
        c->settings[c->n_settings++] = s;
        c->wants_names |= s.match == CONFIG_GROUP || (s.match == CONFIG_USER && !s.by_id);
        return 1;
}

static int handle(void *userdata, const char *section, const char *name, const char *value) {
        struct reading *r = userdata;
        enum quota_key key = quota_key_find(name);

        if (!section[0])
                return refuse(r, "outside of a section");
        if (!r->sound)
                return 0; /* the section was refused */
        if (r->broker)
                return set_broker(r, name, value);
        return key == _QUOTA_MAX ? refuse(r, "unknown key") : add_setting(r, key, value);
}

static int problem_at(const struct reading *r, unsigned line, const char *reason,
                      struct config_problem *ret) {
        snprintf(ret->path, sizeof(ret->path), "%s", r->path);
        ret->line = line;
        ret->reason = reason;
        if (reason == r->text)
                ret->reason = memcpy(ret->text, reason, sizeof(ret->text));
        return -EINVAL;
}

/* Texts that come one after the other under the same path count as one file. */
static int add_path(struct reading *r) {
        struct config *c = r->config;

        if (c->n_paths > 0 && strcmp(c->paths[c->n_paths - 1], r->path) == 0) {
                r->path = c->paths[c->n_paths - 1];
                return 0;
        }
        if (c->n_paths == LIMIT_CONFIG_FILES)
                return -E2BIG;
        c->paths[c->n_paths] = strdup(r->path);
        if (!c->paths[c->n_paths])
                return -ENOMEM;
        r->path = c->paths[c->n_paths++];
        return 0;
}

int config_add(struct config *c, const char *path, const char *text, struct config_problem *ret) {
        struct reading r = { .config = c, .path = path, .rest = text };
        int bad = add_path(&r);

        if (bad == -E2BIG)
                return problem_at(&r, 0, "too many files", ret);
        if (bad == 0)
                bad = ini_parse_stream(read_line, &r, handle, &r);
        if (r.error < 0 || bad < 0) {
                problem_at(&r, 0, "out of memory", ret);
                return -ENOMEM;
        }
        if (bad > 0 && (!r.reason || (unsigned)bad < r.bad_line))
                return problem_at(&r, (unsigned)bad, "not an assignment or section", ret);
        return r.reason ? problem_at(&r, r.bad_line, r.reason, ret) : 0;
}

const struct config_broker *config_broker(const struct config *c) {
        return &c->broker;
}

bool config_wants_names(const struct config *c) {
        return c->wants_names;
}

static struct config_origin origin_of(const struct setting *s) {
        return (struct config_origin){ .match = s->match, .name = s->name, .path = s->path,
                                       .line = s->line };
}

bool config_wants_slices(const struct config *c, struct config_origin *ret) {
        for (size_t i = 0; i < c->n_settings; i++) {
                const struct setting *s = &c->settings[i];

                if (s->match != CONFIG_SLICE)
                        continue;
                if (ret)
                        *ret = origin_of(s);
                return true;
        }
        return false;
}

/* Of two slices around one, the longer name is that of the inner one. */
void config_slice(const struct config *c, const char *slice, char ret[SLICE_RULE_SIZE]) {
        ret[0] = '\0';
        for (size_t i = 0; *slice && i < c->n_settings; i++) {
                const struct setting *s = &c->settings[i];

                if (s->match == CONFIG_SLICE && slice_within(slice, s->name) &&
                    strlen(s->name) > strlen(ret))
                        memcpy(ret, s->name, sizeof(s->name));
        }
}

static bool same_name(const char *a, const char *b) {
        return a && strcmp(a, b) == 0;
}

static bool matches(const struct setting *s, const struct identity *who) {
        switch (s->match) {
        case CONFIG_DEFAULT:
                return true;
        case CONFIG_SLICE:
                return who->slice && *who->slice && slice_within(who->slice, s->name);
        case CONFIG_USER:
                return s->by_id ? s->id == who->uid : same_name(who->name, s->name);
        case CONFIG_GROUP:
                for (size_t i = 0; i < who->n_groups; i++)
                        if (s->by_id ? s->id == who->groups[i].gid
                                     : same_name(who->groups[i].name, s->name))
                                return true;
                break;
        }
        return false;
}

static void apply(const struct setting *s, struct limits *l, struct config_origin *origin) {
        if (s->match == CONFIG_SLICE && origin->match == CONFIG_SLICE &&
            strlen(origin->name) > strlen(s->name))
                return; /* said by an inner slice */
        if (s->key < _QUOTA_NUMBERS)
                l->v[s->key] = s->value;
        else
                l->text[s->key - _QUOTA_NUMBERS] = s->text;
        *origin = origin_of(s);
}

void config_resolve(const struct config *c, const struct identity *who, struct limits *ret,
                    struct config_origin ret_origins[_QUOTA_MAX]) {
        struct config_origin origins[_QUOTA_MAX] = {};

        *ret = limits_default();
        for (unsigned match = CONFIG_DEFAULT; match <= CONFIG_USER; match++)
                for (size_t i = 0; i < c->n_settings; i++)
                        if (c->settings[i].match == match && matches(&c->settings[i], who))
                                apply(&c->settings[i], ret, &origins[c->settings[i].key]);
        if (ret_origins)
                memcpy(ret_origins, origins, sizeof(origins));
}
