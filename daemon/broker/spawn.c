/* A worker in user mode gets descriptors 0 to 2 on /dev/null (2 stays with --debug), the link as 3
 * and nothing else: no other descriptor, no environment, no privilege. Between fork and exec only
 * system calls are made, because the broker has threads. The program is executed by descriptor, so
 * the new uid need not be able to reach its path and an update on disk cannot mix versions. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/broker/spawn.h"
#include "engine/base/macro.h"

enum { LINK_FD = 3, EXIT_SETUP = 126, EXIT_EXEC = 127 };

static int open_binary(void) {
        const char *given = secure_getenv("BITNETD_WORKER");
        char path[PATH_MAX];
        ssize_t n;
        char *slash;
        int fd;

        if (given)
                snprintf(path, sizeof(path), "%s", given);
        else {
                n = readlink("/proc/self/exe", path,
                             sizeof(path) - sizeof("/../worker/bitnetd-worker"));
                if (n <= 0)
                        return -errno;
                path[n] = '\0';
                slash = strrchr(path, '/');
                strcpy(slash, "/bitnetd-worker");
                if (access(path, X_OK) < 0)
                        strcpy(slash, "/../worker/bitnetd-worker"); /* in the build folder */
                if (access(path, X_OK) < 0)
                        snprintf(path, sizeof(path), "%s", BITNETD_LIBEXECDIR "/bitnetd-worker");
        }
        fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int spawn_init(struct spawn *s, bool system, bool keep_stderr) {
        struct spawn new = { .system = system, .keep_stderr = keep_stderr, .binary = -1 };

        if (!system) {
                new.binary = open_binary();
                if (new.binary < 0)
                        return new.binary;
        }
        *s = new;
        return 0;
}

void spawn_done(struct spawn *s) {
        if (s->binary >= 0)
                close(s->binary);
        s->binary = -1;
}

static int connect_worker(int *ret_sock) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = WORKER_SOCKET };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return -errno;
        *ret_sock = TAKE_FD(fd);
        return 0;
}

/* Moves the link to 3 and /dev/null to the standard descriptors; everything else is closed, the
 * program's own descriptor on exec. */
static int child_descriptors(int link, int null, int *binary, bool keep_stderr) {
        int high_link = fcntl(link, F_DUPFD, 10), high_binary = fcntl(*binary, F_DUPFD, 10);

        if (high_link < 0 || high_binary < 0)
                return -1;
        if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || (!keep_stderr && dup2(null, 2) < 0))
                return -1;
        if (dup2(high_link, LINK_FD) < 0 || dup3(high_binary, LINK_FD + 1, O_CLOEXEC) < 0)
                return -1;
        *binary = LINK_FD + 1;
        return (int)syscall(SYS_close_range, LINK_FD + 2, ~0U, 0);
}

static int child_privileges(uint32_t slot) {
        uid_t id = (uid_t)(SPAWN_UID_FIRST + slot);

        if (geteuid() == 0 &&
            (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, id, id, id) < 0 ||
             syscall(SYS_setresuid, id, id, id) < 0))
                return -1;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -1;
        return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

static void child_signals(void) {
        struct sigaction sa = { .sa_handler = SIG_DFL };
        sigset_t none;

        sigaction(SIGPIPE, &sa, NULL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static void __attribute__((noreturn))
child(const struct spawn *s, uint32_t slot, int link, int null) {
        char name[] = "bitnetd-worker";
        char *argv[] = { name, NULL }, *envp[] = { NULL };
        int binary = s->binary;

        child_signals();
        if (child_descriptors(link, null, &binary, s->keep_stderr) < 0 ||
            child_privileges(slot) < 0)
                _exit(EXIT_SETUP);
        syscall(SYS_execveat, binary, "", argv, envp, AT_EMPTY_PATH);
        _exit(EXIT_EXEC);
}

/* For all that is told at once when many users come: as much as the kernel gives without asking. */
static void give_room(int sock) {
        int size = 1 << 20;

        setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int spawn_worker(const struct spawn *s, uint32_t slot, int *ret_sock, pid_t *ret_pid) {
        _cleanup_close_ int ours = -1, theirs = -1, null = -1;
        int pair[2], r;
        pid_t pid;

        if (s->system) {
                *ret_pid = 0;
                r = connect_worker(ret_sock);
                if (r >= 0)
                        give_room(*ret_sock);
                return r;
        }
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child(s, slot, theirs, null);
        give_room(ours);
        *ret_sock = TAKE_FD(ours);
        *ret_pid = pid;
        return 0;
}
