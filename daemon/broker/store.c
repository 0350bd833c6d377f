/* The catalogue of models: where their files come from, which is the default, who is in it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/clock.h"
#include "daemon/broker/hash.h"
#include "daemon/broker/log.h"
#include "daemon/broker/packed_file.h"
#include "daemon/broker/packer.h"
#include "daemon/broker/store_internal.h"
#include "engine/base/macro.h"

enum { READ_AGAIN_USEC = 2000000 };
#define FALLBACK_DEFAULT "smollm2-135m-instruct-trit"

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
                model_remove_files(s, s->current);
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

struct model *model_find(const struct store *s, const char *name) {
        for (uint32_t i = 0; i < s->count; i++)
                if (strcmp(s->models[i]->public.name, name) == 0)
                        return s->models[i];
        return NULL;
}

uint32_t model_index(const struct store *s, const struct model *m) {
        uint32_t i = 0;

        while (s->models[i] != m)
                i++;
        return i;
}

int model_append(struct store *s, const struct model *m) {
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
        if (model_find(s, m.public.name))
                return -EEXIST;
        if (fstat(fd, &m.stat) < 0)
                return -errno;
        if (!S_ISREG(m.stat.st_mode) || m.stat.st_size <= 0)
                return -EINVAL;
        m.public.created = (uint64_t)MAX(m.stat.st_mtim.tv_sec, 0);
        return model_append(s, &m);
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

int store_add_open_dir(struct store *s, DIR *folder, bool installed) {
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
        return store_add_open_dir(s, opendir(path), false);
}

const struct model *model_preferred(const struct store *s) {
        const struct model *first = NULL;

        if (s->wanted_default[0] && model_find(s, s->wanted_default))
                return model_find(s, s->wanted_default);
        for (uint32_t i = 0; i < s->count; i++)
                if (s->models[i]->named)
                        return s->models[i];
        if (model_find(s, FALLBACK_DEFAULT))
                return model_find(s, FALLBACK_DEFAULT);
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

const struct store_model *store_find(const struct store *s, const char *name) {
        const struct model *m = name[0] ? model_find(s, name) : model_preferred(s);

        return m ? &m->public : NULL;
}

const struct store_model *store_choose(const struct store *s, const char *own_default,
                                       const char *name) {
        const struct store_model *own =
                name[0] || !own_default[0] ? NULL : store_find(s, own_default);

        return own ? own : store_find(s, name);
}

void model_drop(struct store *s, struct model *m) {
        uint32_t i = model_index(s, m);

        memmove(&s->models[i], &s->models[i + 1], (s->count - i - 1) * sizeof(*s->models));
        s->count--;
        model_free(m);
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
        struct model *m = model_find(s, model->name);

        /* A file that does not fit into memory would be read for ever. */
        if (m->public.state != ERROR_NONE || now_monotonic() - m->read_at < READ_AGAIN_USEC ||
            packed_file_cached(m->public.packed, m->public.size))
                return;
        log_event(LOG_MODEL_COLD, model_index(s, m), m->public.size, 0);
        m->public.state = ERROR_MODEL_LOADING;
        store_start(s);
}
