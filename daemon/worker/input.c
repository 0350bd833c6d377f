/* Reading what a client handed over. Only kinds that cannot block for ever or raise signals are
 * taken, reads never wait, and a regular file is read from its beginning, wherever its position
 * was. What is read is bounded in bytes, and each byte in time. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/worker/input.h"
#include "daemon/worker/worker.h"
#include "engine/base/macro.h"

enum { READ_SIZE = 64 * 1024, READS_PER_PASS = 16 };

static const uint64_t STALL_USEC = 30 * USEC_PER_SEC;

static enum fd_kind kind_of(int fd) {
        struct stat st;

        /* the call itself: libc's fstat is another call that the filter refuses */
        if (syscall(SYS_fstat, fd, &st) < 0)
                return KIND_NONE;
        if (S_ISREG(st.st_mode))
                return KIND_FILE;
        if (S_ISFIFO(st.st_mode))
                return KIND_PIPE;
        return S_ISSOCK(st.st_mode) ? KIND_SOCKET : KIND_NONE;
}

/* Sockets take a flag per call; a pipe has only its descriptor's. */
enum fd_kind fd_prepare(int fd) {
        enum fd_kind kind = kind_of(fd);
        int flags;

        if (kind != KIND_PIPE)
                return kind;
        flags = fcntl(fd, F_GETFL);
        return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0 ? kind : KIND_NONE;
}

void input_init(struct input *in, int fd) {
        *in = (struct input){ .fd = fd, .place = POLLER_NONE };
}

static void input_close(struct input *in) {
        if (in->fd >= 0)
                close(in->fd);
        in->fd = -1;
        in->place = POLLER_NONE;
}

void input_done(struct input *in) {
        input_close(in);
        secure_buf_done(&in->bytes);
}

int input_start(struct input *in, uint64_t now, struct request_error *e) {
        in->kind = fd_prepare(in->fd);
        in->deadline = now + STALL_USEC;
        if (in->kind != KIND_NONE)
                return 0;
        return request_fail(e, ERROR_INVALID_INPUT, NULL,
                            "The input is no memory file, pipe, socket or regular file.");
}

void input_poll(struct input *in, struct poller *p) {
        in->place = poller_add(p, in->fd, POLLIN);
        poller_deadline(p, in->deadline);
}

static ssize_t read_some(struct input *in, char *to) {
        ssize_t n;

        switch (in->kind) {
        case KIND_FILE:
                n = pread(in->fd, to, READ_SIZE, in->offset);
                in->offset += MAX(n, 0);
                return n;
        case KIND_SOCKET:
                return recv(in->fd, to, READ_SIZE, MSG_DONTWAIT);
        case KIND_PIPE:
                return read(in->fd, to, READ_SIZE);
        case KIND_NONE:
                break;
        }
        errno = EINVAL;
        return -1;
}

/* 0: there may be more at once; -EAGAIN: later; the rest as input_handle. */
static int read_once(struct input *in, uint64_t limit, uint64_t now, struct request_error *e) {
        char *to = secure_buf_reserve(&in->bytes, READ_SIZE);
        ssize_t n = to ? read_some(in, to) : 0;

        if (!to)
                return -ENOMEM;
        if (n > 0) {
                in->bytes.n += (size_t)n;
                in->deadline = now + STALL_USEC;
                return in->bytes.n <= limit ? 0
                                            : request_fail_range(e, ERROR_INPUT_TOO_LARGE, NULL,
                                                                 NULL, in->bytes.n, limit);
        }
        if (n == 0) {
                input_close(in);
                return INPUT_END;
        }
        if (errno == EAGAIN || errno == EINTR)
                return -EAGAIN;
        return request_fail(e, ERROR_INVALID_INPUT, NULL, "The input cannot be read.");
}

int input_handle(struct input *in, const struct poller *p, uint64_t limit, uint64_t now,
                 struct request_error *e) {
        int r = 0;

        if (poller_events(p, in->place))
                for (unsigned i = 0; i < READS_PER_PASS && r == 0; i++)
                        r = read_once(in, limit, now, e);
        if (r != 0 && r != -EAGAIN)
                return r;
        return now < in->deadline ? 0
                                  : request_fail(e, ERROR_INVALID_INPUT, NULL,
                                                 "No input came for 30 seconds.");
}
