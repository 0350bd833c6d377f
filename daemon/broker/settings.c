/* Finding and reading the files of the configuration. A new configuration is built completely
 * before anything of the old one is given up. A file that is a link to /dev/null, or empty, masks
 * those of its name in earlier folders, because it is read instead of them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/broker/settings.h"
#include "daemon/broker/slices.h"
#include "daemon/broker/text_file.h"
#include "engine/base/macro.h"
#include "policy/drop_in.h"

enum { FILE_MAX_BYTES = 64 * 1024 };

/* In place of a path. */
#define SETTINGS_RUNTIME "set until the next start"

struct drop_in {
        char name[NAME_MAX + 1];
        unsigned dir;
};

struct drop_ins {
        struct drop_in *items;
        size_t n;
};

static void drop_ins_done(struct drop_ins *d) {
        free(d->items);
}

static bool is_conf(const char *name) {
        size_t n = strlen(name);

        return name[0] != '.' && n > 5 && n <= NAME_MAX && strcmp(name + n - 5, ".conf") == 0;
}

static int add(struct drop_ins *d, const char *name, unsigned dir) {
        struct drop_in *grown;

        for (size_t i = 0; i < d->n; i++)
                if (strcmp(d->items[i].name, name) == 0) {
                        d->items[i].dir = dir;
                        return 0;
                }
        grown = reallocarray(d->items, d->n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        d->items = grown;
        snprintf(grown[d->n].name, sizeof(grown[d->n].name), "%s", name);
        grown[d->n++].dir = dir;
        return 0;
}

static int add_dir(struct drop_ins *d, const char *path, unsigned dir, const char *except) {
        DIR *open = opendir(path);
        const struct dirent *e;
        int r = 0;

        if (!open)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        while (r == 0 && (e = readdir(open)))
                if (is_conf(e->d_name) && strcmp(e->d_name, except) != 0)
                        r = add(d, e->d_name, dir);
        closedir(open);
        return r;
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const struct drop_in *)a)->name, ((const struct drop_in *)b)->name);
}

/* One after the other, or -ENAMETOOLONG. */
static int join(char buf[CONFIG_PATH_MAX], const char *a, const char *b) {
        return snprintf(buf, CONFIG_PATH_MAX, "%s%s", a, b) >= CONFIG_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int problem(const char *path, int error, struct config_problem *ret) {
        join(ret->path, path, "");
        ret->line = 0;
        ret->reason = error == -ENODATA ? "nothing is set here that could be taken back"
                                        : strerrordesc_np(-error);
        return error == -ENOMEM ? error : -EINVAL;
}

static int read_file(struct config *c, const char *path, bool required, char *buf,
                     struct config_problem *ret_problem) {
        int r = text_file_read(path, buf, FILE_MAX_BYTES);

        if (r == -ENOENT && !required)
                return 0;
        if (r < 0)
                return problem(path, r, ret_problem);
        return config_add(c, path, buf, ret_problem);
}

/* The change that is tried: what shall stand in place of a drop-in of the last folder, and in place
 * of what was set for a user until the next start. A text without an assignment is none. */
struct trial {
        uid_t uid;
        char name[NAME_MAX + 1]; /* of the drop-in; "": all stay as they are */
        char *drop_in;
        char *runtime;
};

static void trial_done(struct trial *t) {
        free(t->drop_in);
        free(t->runtime);
}

static bool assigns(const char *text) {
        return strchr(text, '=') != NULL;
}

/* Drop-ins by name; of the last folder the one that is on trial counts as the trial has it. */
static int list_drop_ins(const struct settings *s, const struct trial *t, struct drop_ins *d,
                         struct config_problem *ret_problem) {
        for (unsigned i = 0; i < s->n_dirs; i++) {
                bool last = t && i == s->n_dirs - 1;
                int r = add_dir(d, s->dirs[i], i, last ? t->name : "");

                if (r == 0 && last && t->name[0] && assigns(t->drop_in))
                        r = add(d, t->name, i);
                if (r < 0)
                        return problem(s->dirs[i], r, ret_problem);
        }
        if (d->n > 0)
                qsort(d->items, d->n, sizeof(*d->items), by_name);
        return 0;
}

static int read_drop_ins(const struct settings *s, const struct trial *t, struct config *c,
                         char *buf, struct config_problem *ret_problem) {
        _cleanup_(drop_ins_done) struct drop_ins d = {};
        char path[CONFIG_PATH_MAX];
        int r = list_drop_ins(s, t, &d, ret_problem);

        for (size_t i = 0; r == 0 && i < d.n; i++) {
                const struct drop_in *in = &d.items[i];

                r = join(path, s->dirs[in->dir], in->name);
                if (r < 0)
                        return problem(s->dirs[in->dir], r, ret_problem);
                if (t && in->dir == s->n_dirs - 1 && strcmp(in->name, t->name) == 0)
                        r = config_add(c, path, t->drop_in, ret_problem);
                else
                        r = read_file(c, path, false, buf, ret_problem);
        }
        return r;
}

static int read_runtime(const struct settings *s, const struct trial *t, struct config *c,
                        struct config_problem *ret_problem) {
        int r = 0;

        for (const struct settings_runtime *i = s->runtime; i && r == 0; i = i->next)
                if (!t || i->uid != t->uid)
                        r = config_add(c, SETTINGS_RUNTIME, i->text, ret_problem);
        return r == 0 && t ? config_add(c, SETTINGS_RUNTIME, t->runtime, ret_problem) : r;
}

/* Sections about slices that nobody could be found in would be limits that do not hold. */
static int check_slices(const struct settings *s, const struct config *c,
                        struct config_problem *ret) {
        struct config_origin first;
        int r = config_wants_slices(c, &first) ? slices_visible(s->proc) : 0;

        if (r == 0)
                return 0;
        join(ret->path, first.path, "");
        ret->line = first.line;
        if (r == -EACCES)
                ret->reason = "a section about a slice, but other processes are hidden: install "
                              "bitnetd.service.d/50-slices.conf (see bitnetd.conf)";
        else
                ret->reason = "a section about a slice, but process 1 is no systemd that manages "
                              "control groups v2";
        return r == -ENOMEM ? r : -EINVAL;
}

/* Workers that serve others than they may from now on would have to end with all they hold. */
static int check_isolation(const struct settings *s, const struct config *c,
                           struct config_problem *ret) {
        const struct config_broker *new = config_broker(c);

        if (!s->config || new->isolation == config_broker(s->config)->isolation)
                return 0;
        join(ret->path, new->isolation_path ? new->isolation_path : s->main, "");
        ret->line = new->isolation_line;
        ret->reason = ret->text;
        snprintf(ret->text, sizeof(ret->text),
                 "IsolationDomain= is %s until a restart: %s is not possible before",
                 isolation_name(config_broker(s->config)->isolation),
                 isolation_name(new->isolation));
        return -EINVAL;
}

static int read_with(const struct settings *s, const struct trial *t, struct config **ret,
                     struct config_problem *ret_problem) {
        _cleanup_free_ char *buf = malloc(FILE_MAX_BYTES);
        struct config *c;
        int r = buf ? config_new(&c) : -ENOMEM;

        if (r < 0)
                return problem(s->main, r, ret_problem);
        if (s->main[0])
                r = read_file(c, s->main, s->required, buf, ret_problem);
        if (r == 0)
                r = read_drop_ins(s, t, c, buf, ret_problem);
        if (r == 0)
                r = read_runtime(s, t, c, ret_problem);
        if (r == 0)
                r = check_slices(s, c, ret_problem);
        if (r == 0)
                r = check_isolation(s, c, ret_problem);
        if (r < 0) {
                config_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

int settings_read(const struct settings *s, struct config **ret,
                  struct config_problem *ret_problem) {
        return read_with(s, NULL, ret, ret_problem);
}

static int add_places(struct settings *s, const char *base) {
        int r = join(s->main, base, "/bitnetd.conf");

        return r < 0 ? r : join(s->dirs[s->n_dirs++], base, "/bitnetd.conf.d/");
}

/* Without a home there is no configuration. */
static int user_places(struct settings *s) {
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        char base[CONFIG_PATH_MAX];
        int r;

        if (config && config[0] == '/')
                r = join(base, config, "/bitnetd");
        else if (home && home[0] == '/')
                r = join(base, home, "/.config/bitnetd");
        else
                return 0;
        return r < 0 ? r : add_places(s, base);
}

static int system_places(struct settings *s, const char *state_dir) {
        static const char *const dirs[] = { "/usr/lib/bitnetd", "/run/bitnetd", "/etc/bitnetd" };
        int r = join(s->dirs[3], state_dir, "/bitnetd.conf.d/");

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(dirs); i++) {
                s->n_dirs = (unsigned)i;
                r = add_places(s, dirs[i]); /* the last one has the main file */
        }
        s->n_dirs = SETTINGS_DIRS;
        return r;
}

int settings_init(struct settings *s, const struct options *o, const struct places *p) {
        int r;

        *s = (struct settings){ .required = o->config, .proc = "/proc" };
        if (!o->config)
                return o->user ? user_places(s) : system_places(s, p->state_dir);
        r = join(s->main, o->config, "");
        return r < 0 ? r : join(s->dirs[s->n_dirs++], o->config, ".d/");
}

void settings_done(struct settings *s) {
        while (s->runtime) {
                struct settings_runtime *i = s->runtime;

                s->runtime = i->next;
                free(i->text);
                free(i);
        }
        s->config = config_free(s->config);
        identities_forget(&s->identities);
}

/* Puts the assignments into *text, or takes them out. Returns how many it took out, or -ENOMEM. */
static int edit(char **text, uid_t uid, const struct settings_change *changes, size_t n,
                bool only_out) {
        int out = 0;

        for (size_t i = 0; i < n; i++) {
                const char *value = only_out ? "" : changes[i].value;
                char *next;

                if (drop_in_set(*text, uid, changes[i].key, value, &next) < 0)
                        return -ENOMEM;
                out += !value[0] && strcmp(next, *text) != 0;
                free(*text);
                *text = next;
        }
        return out;
}

static struct settings_runtime **find_runtime(struct settings *s, uid_t uid) {
        struct settings_runtime **p = &s->runtime;

        while (*p && (*p)->uid != uid)
                p = &(*p)->next;
        return p;
}

/* What a drop-in and what was set until the next start would be. A persistent change counts at
 * once, so that nothing set until the next start may stand above it. */
static int trial_init(struct trial *t, struct settings *s, uid_t uid,
                      const struct settings_change *changes, size_t n, bool persistent) {
        struct settings_runtime *old = *find_runtime(s, uid);
        char path[CONFIG_PATH_MAX];
        int r, out = 0;

        *t = (struct trial){ .uid = uid, .drop_in = calloc(1, FILE_MAX_BYTES),
                             .runtime = strdup(old ? old->text : "") };
        if (!t->drop_in || !t->runtime)
                return -ENOMEM;
        if (persistent) {
                snprintf(t->name, sizeof(t->name), "90-quota-%u.conf", uid);
                r = join(path, s->dirs[s->n_dirs - 1], t->name);
                if (r == 0)
                        r = text_file_read(path, t->drop_in, FILE_MAX_BYTES);
                out = r == 0 || r == -ENOENT ? edit(&t->drop_in, uid, changes, n, false) : r;
        }
        if (out < 0)
                return out;
        r = edit(&t->runtime, uid, changes, n, persistent);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if (changes[i].value[0])
                        return 0;
        return out + r > 0 ? 0 : -ENODATA; /* nothing was taken back */
}

/* Replaced as a whole: a reader never sees half of it, and a crash leaves the old one. Without an
 * assignment in it there is no file. */
static int write_text(const char *path, const char *text) {
        char new[CONFIG_PATH_MAX];
        _cleanup_close_ int fd = -1;
        size_t n = strlen(text);

        if (!assigns(text))
                return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
        if (join(new, path, "~") < 0)
                return -ENAMETOOLONG;
        fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        if (write(fd, text, n) != (ssize_t)n || fsync(fd) < 0 || rename(new, path) < 0)
                return -EIO;
        return 0;
}

static int keep_runtime(struct settings *s, struct trial *t) {
        struct settings_runtime **p = find_runtime(s, t->uid), *i = *p;

        if (!assigns(t->runtime)) {
                if (i) {
                        *p = i->next;
                        free(i->text);
                        free(i);
                }
                return 0;
        }
        if (!i)
                i = *p = calloc(1, sizeof(*i));
        if (!i)
                return -ENOMEM;
        i->uid = t->uid;
        free(i->text);
        i->text = TAKE_PTR(t->runtime);
        return 0;
}

/* The trial was read and is sound. The file first: it is what can fail. */
static int keep(struct settings *s, struct trial *t) {
        const char *dir = s->n_dirs > 0 ? s->dirs[s->n_dirs - 1] : "";
        char path[CONFIG_PATH_MAX];
        int r = 0;

        if (t->name[0]) {
                r = join(path, dir, t->name);
                if (r == 0)
                        r = places_make_dirs(dir, 0755);
                if (r == 0)
                        r = write_text(path, t->drop_in);
        }
        return r < 0 ? r : keep_runtime(s, t);
}

int settings_change(struct settings *s, uid_t uid, const struct settings_change *changes, size_t n,
                    bool persistent, struct config **ret, struct config_problem *ret_problem) {
        const char *place = persistent && s->n_dirs > 0 ? s->dirs[s->n_dirs - 1] : SETTINGS_RUNTIME;
        _cleanup_(trial_done) struct trial t = {};
        struct config *c;
        int r = persistent && s->n_dirs == 0 ? -ENOENT
                                             : trial_init(&t, s, uid, changes, n, persistent);

        if (r < 0)
                return problem(place, r, ret_problem);
        r = read_with(s, &t, &c, ret_problem);
        if (r < 0)
                return r;
        r = keep(s, &t);
        if (r < 0) {
                config_free(c);
                return problem(place, r, ret_problem);
        }
        *ret = c;
        return 0;
}

int settings_resolve(const struct config *c, struct identities *identities,
                     const struct account_id *id, struct limits *ret,
                     struct config_origin ret_origins[_QUOTA_MAX]) {
        const struct identity number = { .uid = id->uid }, *known = &number;
        int r = config_wants_names(c) ? identities_get(identities, id->uid, &known) : 0;
        struct identity who = *known;

        who.slice = id->slice;
        config_resolve(c, &who, ret, ret_origins);
        return r;
}

bool settings_want_slices(const struct settings *s) {
        return config_wants_slices(s->config, NULL);
}

void settings_account(const struct settings *s, uid_t uid, const char *slice,
                      struct account_id *ret) {
        *ret = (struct account_id){ .uid = uid };
        config_slice(s->config, slice, ret->slice);
}

int settings_account_of(const struct settings *s, int fd, uid_t uid, struct account_id *ret) {
        char slice[SLICE_NAME_SIZE] = "";
        int r = settings_want_slices(s) ? slices_of_socket(s->proc, fd, slice) : 0;

        if (r == 0)
                settings_account(s, uid, slice, ret);
        return r;
}
