/* A model that a client installs comes as a descriptor. Its first step copies it, while it is
 * hashed, to installed/NAME.gguf in the state directory; the copy is the source from then on. Only
 * one model is prepared at a time, so there is one file being written. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/clock.h"
#include "daemon/broker/packed_file.h"
#include "daemon/broker/store_internal.h"
#include "engine/base/macro.h"

#define INSTALLED "installed"
#define PART      "part" /* no model has this name's form */

/* "NAME.gguf" in the folder of installed models. */
struct file_name { char s[WIRE_NAME_MAX + 8]; };
static struct file_name installed_name(const struct model *m) {
        struct file_name n;

        snprintf(n.s, sizeof(n.s), "%s.gguf", m->public.name);
        return n;
}

static int store_open_installed(struct store *s) {
        if (s->installed >= 0)
                return 0;
        if (mkdirat(s->dir, INSTALLED, 0700) < 0 && errno != EEXIST)
                return -errno;
        s->installed = openat(s->dir, INSTALLED,
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return s->installed < 0 ? -errno : 0;
}

int store_add_installed(struct store *s) {
        int r = store_open_installed(s), fd;

        if (r < 0)
                return r;
        unlinkat(s->installed, PART, 0); /* of an installation that did not come to its end */
        fd = openat(s->dir, INSTALLED, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : store_add_open_dir(s, fdopendir(fd), true);
}

int model_open_copy(struct store *s, struct model *m) {
        m->copy = openat(s->installed, PART,
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        return m->copy < 0 ? -errno : 0;
}

static void close_copy(struct model *m) {
        if (m->copy >= 0)
                close(m->copy);
        m->copy = -1;
}

void model_drop_copy(struct store *s, struct model *m) {
        close_copy(m);
        unlinkat(s->installed, PART, 0);
}

int model_take_copy(struct store *s, struct model *m) {
        struct file_name name = installed_name(m);
        int fd, r = renameat(s->installed, PART, s->installed, name.s) < 0 ||
                                    fsync(s->installed) < 0
                            ? -errno
                            : 0;

        close_copy(m);
        close(m->source);
        m->source = -1;
        fd = r < 0 ? r
                   : openat(s->installed, name.s, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (fd < 0)
                return r < 0 ? r : -errno;
        m->source = fd;
        m->arriving = false;
        return fstat(fd, &m->stat) < 0 ? -errno : 0;
}

/* That of a source which was installed under two names is for both. */
static void remove_packed(struct store *s, const struct model *m) {
        for (uint32_t i = 0; i < s->count; i++)
                if (s->models[i] != m && memcmp(s->models[i]->digest, m->digest, HASH_SIZE) == 0)
                        return;
        packed_file_remove(s->dir, m->digest);
}

void model_remove_files(struct store *s, const struct model *m) {
        if (m->arriving)
                return;
        unlinkat(s->installed, installed_name(m).s, 0);
        packed_file_abandon(s->dir, m->digest);
        remove_packed(s, m);
}

/* What the kernel knows of the file already, as for any descriptor of a client (control.c). */
static int look_at_arrival(struct model *m, int fd) {
        struct statx st;

        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_SIZE, &st) < 0)
                return -errno;
        if (!S_ISREG(st.stx_mode) || st.stx_size == 0 || st.stx_size > INT64_MAX)
                return -EINVAL;
        m->stat.st_size = (off_t)st.stx_size;
        return 0;
}

int store_install(struct store *s, const char *name, int fd) {
        struct model m = { .public = { .state = ERROR_MODEL_LOADING, .packed = -1 },
                           .installed = true, .arriving = true, .copy = -1,
                           .operation = OPERATION_INSTALL };
        int r = wire_name_valid(name) ? store_open_installed(s) : -EINVAL;

        if (r < 0)
                return r;
        if (model_find(s, name))
                return -EEXIST;
        snprintf(m.public.name, sizeof(m.public.name), "%s", name);
        m.public.created = now_realtime() / 1000000;
        r = look_at_arrival(&m, fd);
        if (r < 0)
                return r;
        m.source = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (m.source < 0)
                return -errno;
        r = model_append(s, &m);
        if (r < 0) {
                close(m.source);
                return r;
        }
        s->settings.changed(s->settings.userdata);
        store_start(s);
        return 0;
}

int store_remove(struct store *s, const char *name) {
        struct model *m = model_find(s, name);

        if (!m)
                return -ENOENT;
        if (!m->installed)
                return -EPERM;
        if (m == s->current || m->operation != OPERATION_NONE)
                return -EBUSY;
        if (unlinkat(s->installed, installed_name(m).s, 0) < 0 && errno != ENOENT)
                return -errno;
        remove_packed(s, m);
        model_drop(s, m);
        s->settings.changed(s->settings.userdata);
        return 0;
}
