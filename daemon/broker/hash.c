/* One thread per hash, and an eventfd that wakes the loop at the end. The thread touches only its
 * struct; the loop looks at the result after joining, so nothing is shared but the stop flag and
 * the bytes that were read. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/hash.h"
#include "engine/base/macro.h"

enum { CHUNK = 1 << 20 };

struct hash {
        pthread_t thread;
        sd_event_source *source;
        int fd, wake;
        int copy;                /* -1: none */
        uint64_t size;           /* of the copy */
        uint64_t salt;
        bool written;
        atomic_bool stop;
        atomic_uint_fast64_t done_bytes;
        int error;
        uint8_t digest[HASH_SIZE];
        hash_done_fn *done;
        void *userdata;
};

/* A file that was just written: bring it to the disk here, so that whoever commits it does not wait
 * in the loop (a failure shows again there), and let the page cache forget it. The packer writes in
 * small pieces, which leaves small pages; read back in large ones, decoding is up to a fifth
 * faster. */
static void settle(int fd) {
        (void)!fsync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

static int write_all(int fd, const uint8_t *p, size_t n) {
        while (n > 0) {
                ssize_t r = write(fd, p, n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                p += r;
                n -= (size_t)r;
        }
        return 0;
}

/* What was read up to `at` is in the copy, too. */
static int copy_chunk(const struct hash *h, const uint8_t *chunk, size_t n, uint64_t at) {
        if (h->copy < 0)
                return 0;
        return at + n > h->size ? -EFBIG : write_all(h->copy, chunk, n);
}

static int finish_copy(const struct hash *h, uint64_t at) {
        if (h->copy < 0)
                return 0;
        if (at != h->size)
                return -EIO;
        return fsync(h->copy) < 0 ? -errno : 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* A copy of something that changes is a copy of nothing. */
static int check_unchanged(const struct hash *h, const struct stat *before) {
        struct stat st;

        if (h->copy < 0)
                return 0;
        if (fstat(h->fd, &st) < 0)
                return -errno;
        return same_time(&st.st_mtim, &before->st_mtim) && same_time(&st.st_ctim, &before->st_ctim)
                       ? 0
                       : -ESTALE;
}

static int hash_file(struct hash *h) {
        _cleanup_free_ uint8_t *chunk = malloc(CHUNK);
        crypto_generichash_state state;
        struct stat before;
        off_t at = 0;
        ssize_t n;
        int r;

        if (!chunk)
                return -ENOMEM;
        if (fstat(h->fd, &before) < 0)
                return -errno;
        if (h->written)
                settle(h->fd);
        crypto_generichash_init(&state, NULL, 0, HASH_SIZE);
        crypto_generichash_update(&state, (const uint8_t *)&h->salt, sizeof(h->salt));
        while ((n = pread(h->fd, chunk, CHUNK, at)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (atomic_load(&h->stop))
                        return -ECANCELED;
                crypto_generichash_update(&state, chunk, (unsigned long long)n);
                r = copy_chunk(h, chunk, (size_t)n, (uint64_t)at);
                if (r < 0)
                        return r;
                at += n;
                atomic_store(&h->done_bytes, (uint64_t)at);
        }
        crypto_generichash_final(&state, h->digest, HASH_SIZE);
        r = check_unchanged(h, &before);
        return r < 0 ? r : finish_copy(h, (uint64_t)at);
}

static void *run(void *userdata) {
        struct hash *h = userdata;

        h->error = hash_file(h);
        while (eventfd_write(h->wake, 1) < 0 && errno == EINTR)
                continue;
        return NULL;
}

static void hash_free(struct hash *h) {
        sd_event_source_disable_unref(h->source);
        if (h->wake >= 0)
                close(h->wake);
        free(h);
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct hash *h = userdata;

        pthread_join(h->thread, NULL);
        h->done(h->userdata, h->error, h->digest);
        hash_free(h);
        return 0;
}

/* Takes h, which the caller has filled in. */
static int start(struct hash **ret, sd_event *event, struct hash *h) {
        int r;

        h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = h->wake < 0 ? -errno
                        : sd_event_add_io(event, &h->source, h->wake, EPOLLIN, on_wake, h);
        if (r >= 0)
                r = -pthread_create(&h->thread, NULL, run, h);
        if (r < 0) {
                hash_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

static struct hash *hash_new(int fd, uint64_t salt, hash_done_fn *done, void *userdata) {
        struct hash *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->fd = fd;
        h->copy = -1;
        h->salt = salt;
        h->done = done;
        h->userdata = userdata;
        return h;
}

int hash_start_copy(struct hash **ret, sd_event *event, int fd, uint64_t salt, int copy,
                    uint64_t size, hash_done_fn *done, void *userdata) {
        struct hash *h = hash_new(fd, salt, done, userdata);

        if (!h)
                return -ENOMEM;
        h->copy = copy;
        h->size = size;
        return start(ret, event, h);
}

int hash_start(struct hash **ret, sd_event *event, int fd, uint64_t salt, bool written,
               hash_done_fn *done, void *userdata) {
        struct hash *h = hash_new(fd, salt, done, userdata);

        if (!h)
                return -ENOMEM;
        h->written = written;
        return start(ret, event, h);
}

uint64_t hash_done(const struct hash *h) {
        return atomic_load(&h->done_bytes);
}

void hash_stop(struct hash *h) {
        atomic_store(&h->stop, true);
}

struct hash *hash_cancel(struct hash *h) {
        if (!h)
                return NULL;
        atomic_store(&h->stop, true);
        pthread_join(h->thread, NULL);
        hash_free(h);
        return NULL;
}
