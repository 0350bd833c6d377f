/* One model is prepared at a time, the default first: hash the source, then verify the packed file
 * or pack, hash and commit a new one. The step of the model in preparation is `step`; its helpers
 * (hash thread, packer) exist only during it, and every end of a step goes through settle(). The
 * source must look the same (size, times) after the work as before, else it is refused: what is
 * packed is what was hashed. Descriptors in models belong to the store.
 *
 * A model that a client installs comes as a descriptor. Its first step copies it, while it is
 * hashed, to installed/NAME.gguf in the state directory; the copy is the source from then on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/hash.h"
#include "daemon/broker/jobs.h"
#include "daemon/broker/log.h"
#include "daemon/broker/packed_file.h"
#include "daemon/broker/packer.h"
#include "daemon/broker/store.h"
#include "engine/base/macro.h"
#include "engine/base/model_error.h"

enum { PACK_ATTEMPTS = 3, RETRY_USEC = 1000000, READ_AGAIN_USEC = 2000000 };
#define FALLBACK_DEFAULT "smollm2-135m-instruct-trit"

/* What somebody waits for and may cancel. */
enum operation { OPERATION_NONE, OPERATION_INSTALL, OPERATION_VERIFY };

struct model {
        struct store_model public;
        int source;
        struct stat stat;
        bool named;              /* given by name: comes first in the choice of the default */
        bool installed;          /* the source is in the folder of installed models */
        bool arriving;           /* the source is a client's, to be copied there first */
        enum operation operation;
        bool cancelled;          /* the operation, which has not noticed yet */
        bool verifying;          /* the packed file, or the new one, is being hashed */
        enum error_code before;  /* state before a verification */
        int copy;                /* what is written meanwhile, else -1 */
        unsigned attempts;
        uint8_t digest[HASH_SIZE]; /* of the source and the pack version */
        uint64_t read_at;        /* when the packed file was last read as a whole */
};

struct store {
        struct store_settings settings;
        sd_event *event;
        int dir;
        int installed;           /* the folder, -1: none yet */
        struct model **models;
        uint32_t count;
        char wanted_default[WIRE_NAME_MAX];
        /* the model in preparation */
        struct model *current;
        struct hash *hash;
        struct packer *packer;
        sd_event_source *retry;
        int output;                    /* being packed into, or being verified */
        uint8_t recorded[HASH_SIZE];
};

static void remove_files(struct store *s, const struct model *m);

/* Packed files of another version or another reading of the source get other names. */
static uint64_t salt_of(const struct store *s) {
        return WIRE_PACK_VERSION | (uint64_t)s->settings.i2s << 32 |
               (uint64_t)s->settings.packing << 40;
}

int store_new(struct store **ret, sd_event *event, const struct store_settings *settings) {
        struct store *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->settings = *settings;
        s->event = sd_event_ref(event);
        s->output = -1;
        s->installed = -1;
        s->dir = open(settings->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (s->dir < 0) {
                int r = -errno;

                store_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static void model_free(struct model *m) {
        if (m->source >= 0)
                close(m->source);
        if (m->public.packed >= 0)
                close(m->public.packed);
        if (m->copy >= 0)
                close(m->copy);
        free(m);
}

struct store *store_free(struct store *s) {
        if (!s)
                return NULL;
        s->hash = hash_cancel(s->hash);
        s->packer = packer_cancel(s->packer);
        sd_event_source_disable_unref(s->retry);
        if (s->current && s->current->cancelled && s->current->operation == OPERATION_INSTALL)
                remove_files(s, s->current);
        if (s->output >= 0)
                close(s->output);
        for (uint32_t i = 0; i < s->count; i++)
                model_free(s->models[i]);
        free(s->models);
        if (s->installed >= 0)
                close(s->installed);
        if (s->dir >= 0)
                close(s->dir);
        sd_event_unref(s->event);
        free(s);
        return NULL;
}

/* "Dir/SmolLM2.gguf" to "smollm2". */
static int model_name(const char *path, char ret[WIRE_NAME_MAX]) {
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        char name[WIRE_NAME_MAX] = "";
        size_t n = strlen(base);

        if (n <= 5 || strcasecmp(base + n - 5, ".gguf") != 0 || n - 5 >= sizeof(name))
                return -EINVAL;
        for (size_t i = 0; i < n - 5; i++)
                name[i] = base[i] >= 'A' && base[i] <= 'Z' ? (char)(base[i] - 'A' + 'a') : base[i];
        if (!wire_name_valid(name))
                return -EINVAL;
        memcpy(ret, name, sizeof(name));
        return 0;
}

static struct model *find(const struct store *s, const char *name) {
        for (uint32_t i = 0; i < s->count; i++)
                if (strcmp(s->models[i]->public.name, name) == 0)
                        return s->models[i];
        return NULL;
}

static uint32_t index_of(const struct store *s, const struct model *m) {
        uint32_t i = 0;

        while (s->models[i] != m)
                i++;
        return i;
}

/* Takes the descriptors of the model on success. */
static int append(struct store *s, const struct model *m) {
        struct model **grown;

        if (s->count >= WIRE_MAX_MODELS)
                return -ENOSPC;
        grown = reallocarray(s->models, s->count + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        s->models = grown;
        s->models[s->count] = malloc(sizeof(*m));
        if (!s->models[s->count])
                return -ENOMEM;
        *s->models[s->count++] = *m;
        return 0;
}

/* Takes the descriptor on success. */
static int add(struct store *s, const char *path, int fd, bool named, bool installed) {
        struct model m = { .public = { .state = ERROR_MODEL_LOADING, .packed = -1 }, .source = fd,
                           .named = named, .installed = installed, .copy = -1 };
        int r = model_name(path, m.public.name);

        if (r < 0)
                return r;
        if (find(s, m.public.name))
                return -EEXIST;
        if (fstat(fd, &m.stat) < 0)
                return -errno;
        if (!S_ISREG(m.stat.st_mode) || m.stat.st_size <= 0)
                return -EINVAL;
        m.public.created = (uint64_t)MAX(m.stat.st_mtim.tv_sec, 0);
        return append(s, &m);
}

int store_add_file(struct store *s, const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        int r;

        if (fd < 0)
                return -errno;
        r = add(s, path, fd, true, false);
        if (r == 0)
                fd = -1;
        return r;
}

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

/* Takes the folder. */
static int add_dir(struct store *s, DIR *folder, bool installed) {
        _cleanup_(closedirp) DIR *d = folder;
        struct dirent *e;

        if (!d)
                return -errno;
        while ((e = readdir(d))) {
                char name[WIRE_NAME_MAX];
                _cleanup_close_ int fd = -1;

                if (model_name(e->d_name, name) < 0)
                        continue;
                fd = openat(dirfd(d), e->d_name,
                            O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
                if (fd >= 0 && add(s, e->d_name, fd, false, installed) == 0)
                        fd = -1;
        }
        return 0;
}

int store_add_dir(struct store *s, const char *path) {
        return add_dir(s, opendir(path), false);
}

#define INSTALLED "installed"
#define PART      "part" /* no model has this name's form */

/* "NAME.gguf" in the folder of installed models. */
struct file_name { char s[WIRE_NAME_MAX + 8]; };
static struct file_name installed_name(const struct model *m) {
        struct file_name n;

        snprintf(n.s, sizeof(n.s), "%s.gguf", m->public.name);
        return n;
}

static int open_installed(struct store *s) {
        if (s->installed >= 0)
                return 0;
        if (mkdirat(s->dir, INSTALLED, 0700) < 0 && errno != EEXIST)
                return -errno;
        s->installed = openat(s->dir, INSTALLED,
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return s->installed < 0 ? -errno : 0;
}

int store_add_installed(struct store *s) {
        int r = open_installed(s), fd;

        if (r < 0)
                return r;
        unlinkat(s->installed, PART, 0); /* of an installation that did not come to its end */
        fd = openat(s->dir, INSTALLED, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : add_dir(s, fdopendir(fd), true);
}

static const struct model *default_model(const struct store *s) {
        const struct model *first = NULL;

        if (s->wanted_default[0] && find(s, s->wanted_default))
                return find(s, s->wanted_default);
        for (uint32_t i = 0; i < s->count; i++)
                if (s->models[i]->named)
                        return s->models[i];
        if (find(s, FALLBACK_DEFAULT))
                return find(s, FALLBACK_DEFAULT);
        for (uint32_t i = 0; i < s->count; i++)
                if (!first || strcmp(s->models[i]->public.name, first->public.name) < 0)
                        first = s->models[i];
        return first;
}

void store_set_default(struct store *s, const char *name) {
        snprintf(s->wanted_default, sizeof(s->wanted_default), "%s", name);
}

uint32_t store_count(const struct store *s) {
        return s->count;
}

const struct store_model *store_get(const struct store *s, uint32_t index) {
        return &s->models[index]->public;
}

const struct store_model *store_default(const struct store *s) {
        const struct model *m = default_model(s);

        return m ? &m->public : NULL;
}

const struct store_model *store_find(const struct store *s, const char *name) {
        const struct model *m = name[0] ? find(s, name) : default_model(s);

        return m ? &m->public : NULL;
}

const struct store_model *store_choose(const struct store *s, const char *own_default,
                                       const char *name) {
        const struct store_model *own =
                name[0] || !own_default[0] ? NULL : store_find(s, own_default);

        return own ? own : store_find(s, name);
}

/* Out of the catalogue. */
static void drop(struct store *s, struct model *m) {
        uint32_t i = index_of(s, m);

        memmove(&s->models[i], &s->models[i + 1], (s->count - i - 1) * sizeof(*s->models));
        s->count--;
        model_free(m);
}

/* The packed file of a source that was installed under two names is for both. */
static void remove_packed(struct store *s, const struct model *m) {
        for (uint32_t i = 0; i < s->count; i++)
                if (s->models[i] != m && memcmp(s->models[i]->digest, m->digest, HASH_SIZE) == 0)
                        return;
        packed_file_remove(s->dir, m->digest);
}

/* A model that was being installed leaves nothing. */
static void remove_files(struct store *s, const struct model *m) {
        if (m->arriving)
                return;
        unlinkat(s->installed, installed_name(m).s, 0);
        packed_file_abandon(s->dir, m->digest);
        remove_packed(s, m);
}

/* The end of a cancelled operation. */
static void abandon(struct store *s, struct model *m) {
        bool install = m->operation == OPERATION_INSTALL;

        if (m == s->current) {
                if (s->output >= 0)
                        close(s->output);
                s->output = -1;
                s->current = NULL;
        }
        m->cancelled = false;
        m->operation = OPERATION_NONE;
        if (!install) {
                packed_file_abandon(s->dir, m->digest);
                m->public.state = m->before;
        }
        s->settings.settled(&m->public, ERROR_CANCELLED, s->settings.userdata);
        if (install) {
                remove_files(s, m);
                drop(s, m);
        }
        s->settings.changed(s->settings.userdata);
        store_start(s);
}

/* The thread has ended. True: so has the operation. */
static bool hash_over(struct store *s) {
        s->hash = NULL;
        if (!s->current->cancelled)
                return false;
        abandon(s, s->current);
        return true;
}

int store_cancel(struct store *s, const char *name) {
        struct model *m = find(s, name);

        if (!m)
                return -ENOENT;
        if (m->operation == OPERATION_NONE)
                return -EPERM;
        m->cancelled = true;
        if (m == s->current && s->hash) {
                hash_stop(s->hash);
                return 0;
        }
        if (m == s->current) {
                s->packer = packer_cancel(s->packer);
                s->retry = sd_event_source_disable_unref(s->retry);
        }
        abandon(s, m);
        return 0;
}

/* An installation copies, packs and hashes; a verification hashes. */
struct store_progress store_progress(const struct store *s, const char *name) {
        const struct model *m = find(s, name);
        struct store_progress p = {};
        unsigned stages = 3, stage = 0;
        struct stat st = {};

        if (!m || m->public.state != ERROR_MODEL_LOADING)
                return p;
        p.stage = STORE_WAITING;
        if (m != s->current)
                return p;
        p.size = (uint64_t)m->stat.st_size;
        if (s->hash) {
                p.stage = m->arriving ? STORE_COPYING : STORE_HASHING;
                p.done = hash_done(s->hash);
        } else {
                p.stage = STORE_PACKING;
                p.done = s->output >= 0 && fstat(s->output, &st) == 0 ? (uint64_t)st.st_size : 0;
                stage = 1;
        }
        if (m->verifying && s->hash) {
                int fd = s->output >= 0 ? s->output : m->public.packed;

                p.size = fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : p.size;
                stage = 2;
                if (m->public.packed >= 0) {
                        stages = 1;
                        stage = 0;
                }
        }
        p.done = MIN(p.done, p.size);
        p.part = ((double)stage + (p.size ? (double)p.done / (double)p.size : 0)) / stages;
        return p;
}

/* The current model is done with, well or badly; on to the next. */
static void settle(struct store *s) {
        struct model *m = s->current;

        if (s->output >= 0)
                close(s->output);
        s->output = -1;
        s->current = NULL;
        m->operation = OPERATION_NONE;
        m->read_at = now_monotonic();
        if (m->public.state == ERROR_NONE)
                log_event(LOG_MODEL_READY, index_of(s, m), m->public.size, 0);
        else
                log_model_bad(m->public.name, m->public.model_error, m->public.position,
                              m->public.value, m->public.limit);
        s->settings.changed(s->settings.userdata);
        s->settings.settled(&m->public, m->public.state, s->settings.userdata);
        store_start(s);
}

static void refuse(struct store *s, uint32_t code, uint64_t position, uint64_t value,
                   uint64_t limit) {
        struct store_model *p = &s->current->public;

        p->state = ERROR_MODEL_BAD;
        p->model_error = code;
        p->position = position;
        p->value = value;
        p->limit = limit;
        settle(s);
}

static bool source_unchanged(const struct model *m) {
        struct stat st;

        return fstat(m->source, &st) == 0 && st.st_size == m->stat.st_size &&
               st.st_mtim.tv_sec == m->stat.st_mtim.tv_sec &&
               st.st_mtim.tv_nsec == m->stat.st_mtim.tv_nsec;
}

/* s->output is a packed file of the right digest: from here on workers may have it, read-only. */
static void accept_packed(struct store *s, int fd, const uint8_t digest[HASH_SIZE]) {
        struct model *m = s->current;
        struct stat st;

        if (fstat(fd, &st) < 0 || !source_unchanged(m)) {
                close(fd);
                refuse(s, MODEL_E_IO, 0, 0, 0);
                return;
        }
        m->public.packed = fd;
        memcpy(m->public.digest, digest, HASH_SIZE);
        m->public.size = (uint64_t)st.st_size;
        m->public.state = ERROR_NONE;
        close(m->source);
        m->source = -1;
        settle(s);
}

static void on_new_hash(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;
        uint8_t recorded[HASH_SIZE];
        int fd = -1, r = error;

        if (hash_over(s))
                return;
        if (r == 0)
                r = packed_file_commit(s->dir, s->current->digest, s->output, digest);
        if (r == 0)
                r = packed_file_open(s->dir, s->current->digest, &fd, recorded);
        if (r < 0)
                refuse(s, MODEL_E_IO, 0, 0, 0);
        else
                accept_packed(s, fd, digest);
}

static void pack(struct store *s);

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        struct store *s = userdata;

        s->retry = sd_event_source_disable_unref(s->retry);
        pack(s);
        return 0;
}

/* A worker that could not be started or died says nothing about the file: try again. */
static void pack_failed(struct store *s, int error) {
        struct model *m = s->current;

        packed_file_abandon(s->dir, m->digest);
        log_event(LOG_PACK_FAILED, index_of(s, m), (uint64_t)-error, ++m->attempts);
        if (m->attempts >= PACK_ATTEMPTS ||
            sd_event_add_time_relative(s->event, &s->retry, CLOCK_MONOTONIC, RETRY_USEC, 0,
                                       on_retry, s) < 0)
                refuse(s, MODEL_E_IO, 0, 0, 0);
}

static void on_packed(void *userdata, int error, const struct wire_packed *packed) {
        struct store *s = userdata;

        s->packer = NULL;
        if (error < 0) {
                pack_failed(s, error);
                return;
        }
        if (packed->model_error != MODEL_OK) {
                packed_file_abandon(s->dir, s->current->digest);
                refuse(s, packed->model_error, packed->position, packed->value, packed->limit);
                return;
        }
        s->current->verifying = true;
        error = hash_start(&s->hash, s->event, s->output, salt_of(s), true, on_new_hash,
                           s);
        if (error < 0)
                refuse(s, MODEL_E_IO, 0, 0, 0);
}

static void pack(struct store *s) {
        struct model *m = s->current;
        struct packer_request request = {
                .name = m->public.name, .source = m->source,
                .source_size = (uint64_t)m->stat.st_size, .cpu_mask = s->settings.cpu_mask,
                .i2s = s->settings.i2s, .packing = s->settings.packing,
                .done = on_packed, .userdata = s };
        int r;

        m->verifying = false;
        if (s->output >= 0)
                close(s->output);
        s->output = -1;
        log_event(LOG_PACK_STARTED, index_of(s, m), request.source_size, 0);
        r = packed_file_create(s->dir, m->digest, &s->output);
        if (r < 0) {
                refuse(s, MODEL_E_IO, 0, 0, 0);
                return;
        }
        request.output = s->output;
        r = packer_start(&s->packer, s->event, s->settings.spawn, &request);
        if (r < 0)
                pack_failed(s, r);
}

static void on_verified(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;

        if (hash_over(s))
                return;
        if (error == 0 && memcmp(digest, s->recorded, HASH_SIZE) == 0) {
                accept_packed(s, TAKE_FD(s->output), digest);
                return;
        }
        log_event(LOG_MODEL_CHANGED, index_of(s, s->current), 0, 0);
        pack(s);
}

static void on_source_hash(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;

        if (hash_over(s))
                return;
        if (error < 0) {
                refuse(s, error == -ESTALE ? MODEL_E_CHANGED : MODEL_E_IO, 0, 0, 0);
                return;
        }
        memcpy(s->current->digest, digest, HASH_SIZE);
        if (packed_file_open(s->dir, digest, &s->output, s->recorded) < 0) {
                pack(s);
                return;
        }
        s->current->verifying = true;
        error = hash_start(&s->hash, s->event, s->output, salt_of(s), false, on_verified,
                           s);
        if (error < 0)
                refuse(s, MODEL_E_IO, 0, 0, 0);
}

/* Somebody wrote into the packed file, or the disk is failing: there is no source to pack anew. */
static void on_read_again(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;
        struct model *m = s->current;

        if (hash_over(s))
                return;
        if (error < 0 || memcmp(digest, m->public.digest, HASH_SIZE) != 0) {
                log_event(LOG_MODEL_CHANGED, index_of(s, m), 0, 0);
                refuse(s, MODEL_E_IO, 0, 0, 0);
                return;
        }
        m->public.state = ERROR_NONE;
        settle(s);
}

/* The copy takes its name and is the source from now on. */
static int take_copy(struct store *s) {
        struct model *m = s->current;
        struct file_name name = installed_name(m);
        int fd, r = renameat(s->installed, PART, s->installed, name.s) < 0 ||
                                    fsync(s->installed) < 0
                            ? -errno
                            : 0;

        close(m->copy);
        m->copy = -1;
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

static void on_copied(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;

        if (s->current->cancelled || error < 0)
                unlinkat(s->installed, PART, 0);
        else
                error = take_copy(s);
        on_source_hash(s, error, digest);
}

/* Only one model is prepared at a time, so there is one file being written. */
static int begin_copy(struct store *s) {
        struct model *m = s->current;

        m->copy = openat(s->installed, PART,
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (m->copy < 0)
                return -errno;
        return hash_start_copy(&s->hash, s->event, m->source, salt_of(s), m->copy,
                               (uint64_t)m->stat.st_size, on_copied, s);
}

static int begin(struct store *s) {
        struct model *m = s->current;
        bool packed = m->public.packed >= 0;

        m->verifying = packed;
        if (m->arriving)
                return begin_copy(s);
        return hash_start(&s->hash, s->event, packed ? m->public.packed : m->source, salt_of(s),
                          false, packed ? on_read_again : on_source_hash, s);
}

void store_start(struct store *s) {
        const struct model *first = default_model(s);

        if (s->current)
                return;
        for (uint32_t i = 0; i < s->count; i++) {
                struct model *m = s->models[i];

                if (m->public.state == ERROR_MODEL_LOADING && (!s->current || m == first))
                        s->current = m;
        }
        if (s->current && begin(s) < 0)
                refuse(s, MODEL_E_IO, 0, 0, 0);
}

bool store_busy(const struct store *s) {
        return s->current;
}

/* The kernel keeps what is mapped, so a file in use that was taken for an unused one loses
 * nothing. */
void store_forget_unused(struct store *s,
                         bool (*in_use)(const struct store_model *model, void *userdata),
                         void *userdata) {
        for (uint32_t i = 0; i < s->count; i++) {
                const struct model *m = s->models[i];

                if (m->public.packed >= 0 && m != s->current && !in_use(&m->public, userdata))
                        (void)posix_fadvise(m->public.packed, 0, 0, POSIX_FADV_DONTNEED);
        }
}

void store_wanted(struct store *s, const struct store_model *model) {
        struct model *m = find(s, model->name);

        /* A file that does not fit into memory would be read for ever. */
        if (m->public.state != ERROR_NONE || now_monotonic() - m->read_at < READ_AGAIN_USEC ||
            packed_file_cached(m->public.packed, m->public.size))
                return;
        log_event(LOG_MODEL_COLD, index_of(s, m), m->public.size, 0);
        m->public.state = ERROR_MODEL_LOADING;
        store_start(s);
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
        int r = wire_name_valid(name) ? open_installed(s) : -EINVAL;

        if (r < 0)
                return r;
        if (find(s, name))
                return -EEXIST;
        snprintf(m.public.name, sizeof(m.public.name), "%s", name);
        m.public.created = now_realtime() / 1000000;
        r = look_at_arrival(&m, fd);
        if (r < 0)
                return r;
        m.source = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (m.source < 0)
                return -errno;
        r = append(s, &m);
        if (r < 0) {
                close(m.source);
                return r;
        }
        s->settings.changed(s->settings.userdata);
        store_start(s);
        return 0;
}

int store_remove(struct store *s, const char *name) {
        struct model *m = find(s, name);

        if (!m)
                return -ENOENT;
        if (!m->installed)
                return -EPERM;
        if (m == s->current || m->operation != OPERATION_NONE)
                return -EBUSY;
        if (unlinkat(s->installed, installed_name(m).s, 0) < 0 && errno != ENOENT)
                return -errno;
        remove_packed(s, m);
        drop(s, m);
        s->settings.changed(s->settings.userdata);
        return 0;
}

int store_verify(struct store *s, const char *name) {
        struct model *m = find(s, name);

        if (!m)
                return -ENOENT;
        if (m->public.state != ERROR_MODEL_LOADING) {
                m->before = m->public.state;
                m->operation = OPERATION_VERIFY;
                m->public.state = ERROR_MODEL_LOADING;
                m->attempts = 0;
                s->settings.changed(s->settings.userdata);
                store_start(s);
        }
        return 0;
}
