/* One process per attempt: a filter can never be taken off again, and the expected outcome of most
 * attempts is death. Results travel in a shared page owned by child_run. */
#include "tests/sandbox/child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/worker/sandbox.h"

enum { NOBODY = 65534, HIGH_FD = 50, CHILD_SECONDS = 10 };

static void die(const char *what) {
        perror(what);
        exit(EXIT_FAILURE);
}

int child_run(void (*fn)(struct report *report, void *userdata), void *userdata,
              struct report *ret) {
        struct report *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int status;

        if (shared == MAP_FAILED)
                die("mmap");
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0)
                die("fork");
        if (pid == 0) {
                setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
                alarm(CHILD_SECONDS);
                fn(shared, userdata);
                _exit(0);
        }
        if (waitpid(pid, &status, WUNTRACED) != pid)
                die("waitpid");
        if (WIFSTOPPED(status)) { /* alarm does not end a stopped process */
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
        }
        if (ret)
                memcpy(ret, shared, sizeof(*ret));
        munmap(shared, sizeof(*shared));
        return status;
}

void child_drop_privileges(void) {
        if (geteuid() != 0)
                return;
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
            setresuid(NOBODY, NOBODY, NOBODY) < 0)
                die("setresuid");
}

int child_make_link(void) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                die("socketpair");
        int peer = fcntl(pair[1], F_DUPFD_CLOEXEC, HIGH_FD);
        if (peer < 0)
                die("fcntl");
        if (pair[1] != SANDBOX_LINK_FD)
                close(pair[1]);
        if (pair[0] != SANDBOX_LINK_FD) {
                if (dup2(pair[0], SANDBOX_LINK_FD) < 0)
                        die("dup2");
                close(pair[0]);
        }
        return peer;
}

const char *child_status(int status, char *buf, size_t size) {
        if (WIFSIGNALED(status))
                snprintf(buf, size, "killed by signal %d", WTERMSIG(status));
        else
                snprintf(buf, size, "exited %d", WEXITSTATUS(status));
        return buf;
}

bool child_was_filtered(int status) {
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
