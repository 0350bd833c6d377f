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

#include "daemon/broker/identity.h"
#include "daemon/broker/settings.h"
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

static int add_dir(struct drop_ins *d, const char *path, unsigned dir) {
        DIR *open = opendir(path);
        const struct dirent *e;
        int r = 0;

        if (!open)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        while (r == 0 && (e = readdir(open)))
                if (is_conf(e->d_name))
                        r = add(d, e->d_name, dir);
        closedir(open);
        return r;
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const struct drop_in *)a)->name, ((const struct drop_in *)b)->name);
}

static int read_text(const char *path, char *buf, size_t size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        size_t n = 0;
        ssize_t r;

        if (fd < 0)
                return -errno;
        while (n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) != 0) {
                if (r < 0)
                        return -errno;
                n += (size_t)r;
        }
        buf[n] = '\0';
        if (n == size - 1)
                return -EFBIG;
        return strlen(buf) == n ? 0 : -EILSEQ;
}

/* One after the other, or -ENAMETOOLONG. */
static int join(char buf[CONFIG_PATH_MAX], const char *a, const char *b) {
        return snprintf(buf, CONFIG_PATH_MAX, "%s%s", a, b) >= CONFIG_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int problem(const char *path, int error, struct config_problem *ret) {
        join(ret->path, path, "");
        ret->line = 0;
        ret->reason = strerrordesc_np(-error);
        return error == -ENOMEM ? error : -EINVAL;
}

static int read_file(struct config *c, const char *path, bool required, char *buf,
                     struct config_problem *ret_problem) {
        int r = read_text(path, buf, FILE_MAX_BYTES);

        if (r == -ENOENT && !required)
                return 0;
        if (r < 0)
                return problem(path, r, ret_problem);
        return config_add(c, path, buf, ret_problem);
}

static int read_drop_ins(const struct settings *s, struct config *c, char *buf,
                         struct config_problem *ret_problem) {
        _cleanup_(drop_ins_done) struct drop_ins d = {};
        char path[CONFIG_PATH_MAX];
        int r = 0;

        for (unsigned i = 0; i < s->n_dirs; i++) {
                r = add_dir(&d, s->dirs[i], i);
                if (r < 0)
                        return problem(s->dirs[i], r, ret_problem);
        }
        if (d.n > 0)
                qsort(d.items, d.n, sizeof(*d.items), by_name);
        for (size_t i = 0; r == 0 && i < d.n; i++) {
                r = join(path, s->dirs[d.items[i].dir], d.items[i].name);
                r = r < 0 ? problem(s->dirs[d.items[i].dir], r, ret_problem)
                          : read_file(c, path, false, buf, ret_problem);
        }
        return r;
}

static int read_runtime(const struct settings *s, struct config *c,
                        struct config_problem *ret_problem) {
        int r = 0;

        for (const struct settings_runtime *i = s->runtime; i && r == 0; i = i->next)
                r = config_add(c, SETTINGS_RUNTIME, i->text, ret_problem);
        return r;
}

int settings_read(const struct settings *s, struct config **ret,
                  struct config_problem *ret_problem) {
        _cleanup_free_ char *buf = malloc(FILE_MAX_BYTES);
        struct config *c;
        int r = buf ? config_new(&c) : -ENOMEM;

        if (r < 0)
                return problem(s->main, r, ret_problem);
        if (s->main[0])
                r = read_file(c, s->main, s->required, buf, ret_problem);
        if (r == 0)
                r = read_drop_ins(s, c, buf, ret_problem);
        if (r == 0)
                r = read_runtime(s, c, ret_problem);
        if (r < 0) {
                config_free(c);
                return r;
        }
        *ret = c;
        return 0;
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

        *s = (struct settings){ .required = o->config };
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
}

static int edit(const char *old, uid_t uid, const struct settings_change *changes, size_t n,
                char **ret) {
        _cleanup_free_ char *text = strdup(old);

        for (size_t i = 0; text && i < n; i++) {
                char *next = NULL;

                if (drop_in_set(text, uid, changes[i].key, changes[i].value, &next) < 0)
                        return -ENOMEM;
                free(text);
                text = next;
        }
        if (!text)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

static int change_runtime(struct settings *s, uid_t uid, const struct settings_change *changes,
                          size_t n) {
        struct settings_runtime **p = &s->runtime, *i;
        char *text;
        int r;

        while (*p && (*p)->uid != uid)
                p = &(*p)->next;
        r = edit(*p ? (*p)->text : "", uid, changes, n, &text);
        if (r < 0)
                return r;
        i = *p ? *p : calloc(1, sizeof(*i));
        if (!i) {
                free(text);
                return -ENOMEM;
        }
        free(i->text);
        i->uid = uid;
        i->text = text;
        *p = i;
        return 0;
}

/* Replaced as a whole: a reader never sees half of it, and a crash leaves the old one. Without an
 * assignment in it there is no file. */
static int write_text(const char *path, const char *text) {
        char new[CONFIG_PATH_MAX];
        _cleanup_close_ int fd = -1;
        size_t n = strlen(text);

        if (!strchr(text, '='))
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

static int change_file(const char *dir, uid_t uid, const struct settings_change *changes,
                       size_t n) {
        _cleanup_free_ char *old = calloc(1, FILE_MAX_BYTES), *text = NULL;
        char name[NAME_MAX], path[CONFIG_PATH_MAX];
        int r;

        if (!old)
                return -ENOMEM;
        snprintf(name, sizeof(name), "90-quota-%u.conf", uid);
        r = join(path, dir, name);
        if (r == 0)
                r = read_text(path, old, FILE_MAX_BYTES);
        if (r == 0 || r == -ENOENT)
                r = edit(old, uid, changes, n, &text);
        if (r == 0)
                r = places_make_dirs(dir, 0755);
        return r < 0 ? r : write_text(path, text);
}

int settings_change(struct settings *s, uid_t uid, const struct settings_change *changes, size_t n,
                    bool persistent, struct config **ret, struct config_problem *ret_problem) {
        const char *dir = s->n_dirs > 0 ? s->dirs[s->n_dirs - 1] : SETTINGS_RUNTIME;
        int r = settings_read(s, ret, ret_problem);

        if (r < 0)
                return r; /* something else is wrong already */
        *ret = config_free(*ret);
        if (!persistent)
                r = change_runtime(s, uid, changes, n);
        else
                r = s->n_dirs > 0 ? change_file(dir, uid, changes, n) : -ENOENT;
        return r < 0 ? problem(dir, r, ret_problem) : settings_read(s, ret, ret_problem);
}

void settings_resolve(const struct config *c, uid_t uid, struct limits *ret,
                      struct config_origin ret_origins[_QUOTA_MAX]) {
        _cleanup_(identity_done) struct identity who = { .uid = uid };

        if (config_wants_names(c))
                identity_load(&who);
        config_resolve(c, &who, ret, ret_origins);
}
