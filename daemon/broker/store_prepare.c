/* One model is prepared at a time, the default first: hash the source, then verify the packed file
 * or pack, hash and commit a new one. One of hash thread, packer and retry exists meanwhile, and
 * the end of a preparation goes through settle(), or abandon() when somebody cancelled it. The
 * source must look the same (size, times) after the work as before, else it is refused: what is
 * packed is what was hashed. */
#include <errno.h>
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
#include "engine/base/model_error.h"

enum { PACK_ATTEMPTS = 3, RETRY_USEC = 1000000 };

/* Packed files of another version or another reading of the source get other names. */
static uint64_t salt_of(const struct store *s) {
        return WIRE_PACK_VERSION | (uint64_t)s->settings.i2s << 32 |
               (uint64_t)s->settings.packing << 40;
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
                model_remove_files(s, m);
                model_drop(s, m);
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
        struct model *m = model_find(s, name);

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
        const struct model *m = model_find(s, name);
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
                log_event(LOG_MODEL_READY, model_index(s, m), m->public.size, 0);
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
        log_event(LOG_PACK_FAILED, model_index(s, m), (uint64_t)-error, ++m->attempts);
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
        log_event(LOG_PACK_STARTED, model_index(s, m), request.source_size, 0);
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
        log_event(LOG_MODEL_CHANGED, model_index(s, s->current), 0, 0);
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
                log_event(LOG_MODEL_CHANGED, model_index(s, m), 0, 0);
                refuse(s, MODEL_E_IO, 0, 0, 0);
                return;
        }
        m->public.state = ERROR_NONE;
        settle(s);
}

static void on_copied(void *userdata, int error, const uint8_t digest[HASH_SIZE]) {
        struct store *s = userdata;

        if (s->current->cancelled || error < 0)
                model_drop_copy(s, s->current);
        else
                error = model_take_copy(s, s->current);
        on_source_hash(s, error, digest);
}

static int begin_copy(struct store *s) {
        struct model *m = s->current;
        int r = model_open_copy(s, m);

        if (r < 0)
                return r;
        r = hash_start_copy(&s->hash, s->event, m->source, salt_of(s), m->copy,
                            (uint64_t)m->stat.st_size, on_copied, s);
        if (r < 0)
                model_drop_copy(s, m);
        return r;
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
        const struct model *first = model_preferred(s);

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

int store_verify(struct store *s, const char *name) {
        struct model *m = model_find(s, name);

        if (!m)
                return -ENOENT;
        if (m->cancelled)
                return -EBUSY; /* what is going on will not come to its end */
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
