/* A number of a process says nothing once the process has ended, so a descriptor of it (a pidfd) is
 * held while /proc is read, and looked at afterwards: if the process lives then, its number was not
 * given to another one meanwhile, and what was read is about it. Since Linux 6.5 the kernel gives
 * that descriptor with the connection. Before, and where a bus daemon tells a number only, it is
 * made from the number: the peer may have ended before that, and another process have its number.
 * Such a process must at least run under the same uid, so at most the slice of another process of
 * the same user is taken for the peer's. Whatever cannot be read this way is not known, and who
 * asks must refuse: a guess could be the better quota, and so could one more account. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/slices.h"
#include "daemon/broker/text_file.h"
#include "engine/base/macro.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* A path of a control group has at most PATH_MAX bytes, and there is one for each hierarchy. */
enum { TEXT_BYTES = 64 * 1024, FILE_PATH_BYTES = 256 };

static int read_of(const char *proc, pid_t pid, const char *name, char buf[TEXT_BYTES]) {
        char path[FILE_PATH_BYTES];

        if (snprintf(path, sizeof(path), "%s/%d/%s", proc, (int)pid, name) >= (int)sizeof(path))
                return -ENAMETOOLONG;
        return text_file_read(path, buf, TEXT_BYTES);
}

/* Its effective uid is the peer's. */
static int check_uid(const char *proc, pid_t pid, uid_t uid, char buf[TEXT_BYTES]) {
        int r = read_of(proc, pid, "status", buf);
        const char *line = r == 0 ? strstr(buf, "\nUid:") : NULL;
        unsigned real, effective;

        if (r < 0)
                return r;
        if (!line || sscanf(line, "\nUid: %u %u", &real, &effective) != 2)
                return -EBADMSG;
        return effective == uid ? 0 : -EPERM;
}

static int check_alive(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        int r = poll(&p, 1, 0);

        if (r < 0)
                return -errno;
        return r == 0 ? 0 : -ESRCH;
}

/* The number of the process of a pidfd, in our namespace; 0 or less when it has none there. */
static pid_t number_of(int pidfd, char buf[TEXT_BYTES]) {
        char path[FILE_PATH_BYTES];
        const char *line;
        int pid = -1;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
        if (text_file_read(path, buf, TEXT_BYTES) == 0) {
                line = strstr(buf, "\nPid:");
                if (line && sscanf(line, "\nPid: %d", &pid) != 1)
                        pid = -1;
        }
        return pid;
}

/* uid: must be its own; (uid_t)-1: it is known to be the right process. */
static int read_slice(const char *proc, int pidfd, pid_t pid, uid_t uid,
                      char ret[SLICE_NAME_SIZE]) {
        _cleanup_free_ char *buf = malloc(TEXT_BYTES);
        int r = buf ? 0 : -ENOMEM;

        if (r == 0 && uid != (uid_t)-1)
                r = check_uid(proc, pid, uid, buf);
        else if (r == 0)
                pid = number_of(pidfd, buf);
        if (r == 0)
                r = pid > 0 ? read_of(proc, pid, "cgroup", buf) : -ESRCH;
        if (r == 0)
                r = check_alive(pidfd);
        return r < 0 ? r : slice_from_cgroup(buf, ret);
}

int slices_of_process(const char *proc, int pidfd, pid_t pid, uid_t uid,
                      char ret[SLICE_NAME_SIZE]) {
        _cleanup_close_ int own = -1;

        if (pidfd >= 0)
                return read_slice(proc, pidfd, 0, (uid_t)-1, ret);
        own = pid > 0 ? pidfd_open(pid, 0) : -1;
        return own < 0 ? -ESRCH : read_slice(proc, own, pid, uid, ret);
}

int slices_of_socket(const char *proc, int fd, char ret[SLICE_NAME_SIZE]) {
        _cleanup_close_ int pidfd = -1;
        struct ucred peer;
        socklen_t n = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return -errno;
        n = sizeof(pidfd);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) < 0) {
                pidfd = -1;
                if (errno != ENOPROTOOPT)
                        return -errno;
        }
        return slices_of_process(proc, pidfd, peer.pid, peer.uid, ret);
}

int slices_visible(const char *proc) {
        _cleanup_free_ char *buf = malloc(TEXT_BYTES);

        if (!buf)
                return -ENOMEM;
        if (read_of(proc, 1, "cgroup", buf) < 0)
                return -EACCES;
        return slice_managed(buf) ? 0 : -ENOSYS;
}
