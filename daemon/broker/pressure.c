/* The kernel counts microseconds of waiting; the difference over a window says how bad it is now,
 * without the delay of its own averages. Where the file may be written, a trigger wakes us and
 * nothing runs in calm times; where it may not (it belongs to root, and the unit has no right to
 * write there), the file is read once in a window. sd_event_add_memory_pressure would need systemd
 * 254.
 *
 * A cgroup's own file would say only how this small process fares; the workers are in others. So
 * the root of what we can see is watched, which in a container is the container. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/broker/jobs.h"
#include "daemon/broker/pressure.h"
#include "engine/base/macro.h"

/* 100 ms of waiting in a second are felt by people. Five calm windows end it. */
enum { WINDOW_USEC = 1000000, POLL_USEC = 2000000, PERCENT = 10, CALM_WINDOWS = 5 };

/* As the kernel wants it of those without privilege: a window of two seconds or a multiple. */
static const char trigger[] = "some 200000 2000000";

struct pressure {
        sd_event_source *io, *timer;
        int fd;
        bool triggered;            /* the kernel wakes us */
        uint64_t waited, looked_at;
        enum pressure_step step;
        unsigned calm;
        void (*react)(enum pressure_step step, void *userdata);
        void *userdata;
};

int pressure_parse(const char *text, uint64_t *ret_usec) {
        const char *total = strncmp(text, "some ", 5) == 0 ? strstr(text, " total=") : NULL;
        const char *end = strchr(text, '\n');
        unsigned long long n;
        char *rest;

        if (!total || (end && total > end))
                return -EBADMSG;
        total += strlen(" total=");
        errno = 0;
        n = strtoull(total, &rest, 10);
        if (*total < '0' || *total > '9' || errno || (*rest != '\n' && *rest))
                return -EBADMSG;
        *ret_usec = n;
        return 0;
}

static int look(const struct pressure *p, uint64_t *ret_usec) {
        char text[256];
        ssize_t n = pread(p->fd, text, sizeof(text) - 1, 0);

        if (n < 0)
                return -errno;
        text[n] = '\0';
        return pressure_parse(text, ret_usec);
}

static void set_timer(struct pressure *p, uint64_t usec) {
        sd_event_source_set_time_relative(p->timer, usec);
        sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

/* One window is over. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct pressure *p = userdata;
        uint64_t waited, now = now_monotonic();
        bool bad;

        if (look(p, &waited) < 0)
                return 0; /* the file has gone: nobody watches any more */
        bad = waited > p->waited && (waited - p->waited) * 100 >= (now - p->looked_at) * PERCENT;
        p->waited = waited;
        p->looked_at = now;
        if (bad) {
                p->calm = 0;
                p->step = MIN(p->step + 1, PRESSURE_WEIGHTS);
                p->react(p->step, p->userdata);
        } else if (p->step != PRESSURE_NONE && ++p->calm == CALM_WINDOWS) {
                p->step = PRESSURE_NONE;
                p->react(p->step, p->userdata);
        }
        if (p->step != PRESSURE_NONE)
                set_timer(p, WINDOW_USEC);
        else if (!p->triggered)
                set_timer(p, POLL_USEC);
        else
                sd_event_source_set_enabled(p->io, SD_EVENT_ON);
        return 0;
}

/* Measured over a window of our own from now on. */
static int on_trigger(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct pressure *p = userdata;

        sd_event_source_set_enabled(p->io, SD_EVENT_OFF);
        if (look(p, &p->waited) < 0)
                return 0;
        p->looked_at = now_monotonic();
        p->step = MAX(p->step, PRESSURE_CACHES);
        p->calm = 0;
        p->react(p->step, p->userdata);
        set_timer(p, WINDOW_USEC);
        return 0;
}

/* Only the kernel's own files take a trigger. */
static bool is_kernels(int fd) {
        struct statfs st;

        return fstatfs(fd, &st) == 0 &&
               (st.f_type == PROC_SUPER_MAGIC || st.f_type == CGROUP2_SUPER_MAGIC);
}

static int open_file(struct pressure *p, const char *path) {
        p->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (p->fd >= 0 && is_kernels(p->fd) &&
            write(p->fd, trigger, sizeof(trigger)) == sizeof(trigger))
                p->triggered = true;
        else if (p->fd < 0)
                p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        return p->fd < 0 ? -errno : 0;
}

static int open_any(struct pressure *p, const char *path) {
        static const char *const usual[] = { "/proc/pressure/memory",
                                             "/sys/fs/cgroup/memory.pressure" };
        int r = path ? open_file(p, path) : -ENOENT;

        for (size_t i = 0; !path && r < 0 && i < ARRAY_SIZE(usual); i++)
                r = open_file(p, usual[i]);
        if (r >= 0)
                r = look(p, &p->waited);
        p->looked_at = now_monotonic();
        return r;
}

int pressure_new(struct pressure **ret, sd_event *event, const char *path,
                 void (*react)(enum pressure_step step, void *userdata), void *userdata) {
        struct pressure *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        p->fd = -1;
        p->react = react;
        p->userdata = userdata;
        r = open_any(p, path);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, POLL_USEC, 0,
                                               on_timer, p);
        if (r >= 0 && p->triggered) {
                sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
                r = sd_event_add_io(event, &p->io, p->fd, EPOLLPRI, on_trigger, p);
        }
        if (r < 0) {
                pressure_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct pressure *pressure_free(struct pressure *p) {
        if (!p)
                return NULL;
        sd_event_source_disable_unref(p->io);
        sd_event_source_disable_unref(p->timer);
        if (p->fd >= 0)
                close(p->fd);
        free(p);
        return NULL;
}
