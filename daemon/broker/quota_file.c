/* The file is replaced as a whole, at most once an interval (a minute) and at the end, so that a
 * busy daemon does not wear out a disk and a crash loses at most a minute. It is not synced: rename
 * keeps it whole over a crash of the daemon, and after a loss of power its size shows whether it
 * is. Nothing in it but uids, names of slices, days and sums. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/log.h"
#include "daemon/broker/quota_file.h"
#include "engine/base/macro.h"

enum { PATH_BYTES = 512, ACCURACY_USEC = 1000000 };

struct content {
        char magic[8];
        uint32_t count;
        uint32_t reserved;
        struct account_record records[LIMIT_ACCOUNTS];
};
_Static_assert(offsetof(struct content, records) == 16, "written to a file");

static const char magic[8] = "bnquota2";

struct quota_file {
        char path[PATH_BYTES];
        struct accounts *accounts;
        sd_event_source *timer;
        uint64_t interval_usec;
        bool dirty; /* the timer runs */
        struct content content;
};

static size_t size_of(uint32_t count) {
        return offsetof(struct content, records) + count * sizeof(struct account_record);
}

static int check(const struct content *c, size_t n) {
        return n >= size_of(0) && memcmp(c->magic, magic, sizeof(magic)) == 0 &&
                               c->reserved == 0 && c->count <= LIMIT_ACCOUNTS &&
                               n == size_of(c->count)
                       ? 0
                       : -EBADMSG;
}

static int load(struct quota_file *f) {
        _cleanup_close_ int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n;
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        n = read(fd, &f->content, sizeof(f->content));
        r = n < 0 ? -errno : check(&f->content, (size_t)n);
        return r < 0 ? r : accounts_restore(f->accounts, f->content.records, f->content.count);
}

static int save(struct quota_file *f) {
        char path[PATH_BYTES + 1];
        const void *content = &f->content;
        _cleanup_close_ int fd = -1;
        size_t size;

        memcpy(f->content.magic, magic, sizeof(magic));
        f->content.count = accounts_save(f->accounts, f->content.records, LIMIT_ACCOUNTS);
        size = size_of(f->content.count);
        snprintf(path, sizeof(path), "%s~", f->path);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        errno = EIO; /* for a write that was cut short */
        if (write(fd, content, size) != (ssize_t)size || rename(path, f->path) < 0)
                return -errno;
        return 0;
}

static bool save_and_tell(struct quota_file *f) {
        int r = save(f);

        if (r < 0)
                log_event(LOG_QUOTA_FILE, (uint64_t)-r, 0, 0);
        return r == 0;
}

void quota_file_touch(struct quota_file *f) {
        if (f->dirty)
                return;
        f->dirty = true;
        sd_event_source_set_time_relative(f->timer, f->interval_usec);
        sd_event_source_set_enabled(f->timer, SD_EVENT_ONESHOT);
}

/* What could not be written is tried again a minute later. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct quota_file *f = userdata;

        f->dirty = false;
        if (!save_and_tell(f))
                quota_file_touch(f);
        return 0;
}

int quota_file_new(struct quota_file **ret, sd_event *event, const char *state_dir,
                   uint64_t interval_usec, struct accounts *accounts) {
        struct quota_file *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return -ENOMEM;
        f->accounts = accounts;
        f->interval_usec = interval_usec;
        r = snprintf(f->path, sizeof(f->path), "%s/quota", state_dir) >= PATH_BYTES
                    ? -ENAMETOOLONG
                    : sd_event_add_time_relative(event, &f->timer, CLOCK_MONOTONIC, interval_usec,
                                                 ACCURACY_USEC, on_timer, f);
        if (r >= 0)
                r = sd_event_source_set_enabled(f->timer, SD_EVENT_OFF);
        if (r < 0) {
                sd_event_source_disable_unref(f->timer);
                free(f);
                return r;
        }
        r = load(f);
        if (r < 0)
                log_event(LOG_QUOTA_FILE, (uint64_t)-r, 0, 0);
        *ret = f;
        return 0;
}

struct quota_file *quota_file_free(struct quota_file *f) {
        if (!f)
                return NULL;
        if (f->dirty)
                save_and_tell(f);
        sd_event_source_disable_unref(f->timer);
        free(f);
        return NULL;
}
