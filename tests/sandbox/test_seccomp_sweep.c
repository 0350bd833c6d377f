/* Every system call number, once, in a process of its own under the real filter, with all arguments
 * -1: what the table does not allow must kill. This proves that the allow list is the list, for the
 * kernel it runs on, x32 numbers included. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>

#include "tests/sandbox/child.h"
#include "tests/sandbox/program.h"

/* Some way past the newest call of today's kernels. */
enum { LAST_CALL = 512, X32_BIT = 0x40000000, LAST_X32 = 560 };

struct attempt {
        const struct program *program;
        long call;
};

static void attempt(struct report *report, void *userdata) {
        const struct attempt *a = userdata;

        child_drop_privileges();
        if (program_install(a->program) < 0)
                _exit(99);
        long r = syscall(a->call, -1L, -1L, -1L, -1L, -1L, -1L);
        report->error = errno;
        report->result = r;
        report->reached = true;
}

/* x86-64's two calls that kernels with uprobes answer before any filter; they act only on a return
 * address that the kernel itself planted, and kill everybody else. */
static bool passes_unfiltered(long call) {
#ifdef __x86_64__
        return call == 335 || call == 336;
#else
        return false;
#endif
}

/* Calls that do not come back: their proof is that the filter was not what ended the process. */
static bool ends_process(long call) {
        return call == SYS_exit || call == SYS_exit_group || call == SYS_rt_sigreturn;
}

static bool as_expected(long call, uint32_t verdict, int status, const struct report *r) {
        if (verdict == SECCOMP_RET_KILL_PROCESS)
                return child_was_filtered(status) && !r->reached;
        if (verdict == SECCOMP_RET_ALLOW && ends_process(call))
                return !r->reached && !child_was_filtered(status) &&
                       !(WIFEXITED(status) && WEXITSTATUS(status) == 99);
        if (!r->reached || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return false;
        if (verdict == SECCOMP_RET_ALLOW)
                return true;
        return r->result == -1 && (uint32_t)r->error == (verdict & SECCOMP_RET_DATA);
}

static unsigned sweep(enum sandbox_mode mode, const struct program *program, long first, long last,
                      unsigned count[3]) {
        uint32_t arch = seccomp_arch_native();
        unsigned failed = 0;
        char text[64];

        for (long call = first; call <= last; call++) {
                struct seccomp_data data = { .nr = (int)call, .arch = audit_arch(arch) };
                struct report report;

                memset(data.args, 0xff, sizeof(data.args));
                if (passes_unfiltered(call))
                        continue;
                uint32_t verdict = table_verdict(mode, arch, 1, &data);
                int status = child_run(attempt, &(struct attempt){ program, call }, &report);
                count[verdict == SECCOMP_RET_ALLOW          ? 0
                      : verdict == SECCOMP_RET_KILL_PROCESS ? 2
                                                            : 1]++;
                if (as_expected(call, verdict, status, &report))
                        continue;
                failed++;
                fprintf(stderr, "mode %d, call %#lx: the table says %#x, but the process %s, "
                        "result %ld, errno %ld\n", mode, (unsigned long)call, verdict,
                        child_status(status, text, sizeof(text)), report.result, report.error);
        }
        return failed;
}

int main(void) {
        unsigned failed = 0;

        for (int mode = SANDBOX_SERVE; mode <= SANDBOX_PACK; mode++) {
                struct program p = program_build((enum sandbox_mode)mode, SCMP_ARCH_NATIVE, 1,
                                                 false);
                unsigned count[3] = { 0 };

                failed += sweep((enum sandbox_mode)mode, &p, 0, LAST_CALL, count);
#ifdef __x86_64__
                failed += sweep((enum sandbox_mode)mode, &p, X32_BIT, X32_BIT + LAST_X32, count);
#endif
                program_free(&p);
                printf("mode %d: %u calls came back, %u failed softly, %u killed\n", mode, count[0],
                       count[1], count[2]);
                /* Were the filter or the count empty, everything above would prove nothing. */
                if (count[0] < 10 || count[1] < 10 || count[2] < 300)
                        failed++;
        }
        printf("not filtered by the kernel, so not tried: 335 uretprobe, 336 uprobe (x86-64)\n");
        if (failed)
                fprintf(stderr, "%u calls were not treated as the table says\n", failed);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
