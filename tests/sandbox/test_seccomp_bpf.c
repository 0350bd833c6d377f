/* The filter of every architecture and mode, run in an interpreter over a grid of calls: around
 * each row of the table every single bit of every argument is flipped. The verdict must be that of
 * the table, read directly, and the same for both ways in which libseccomp can order its checks. So
 * one machine also checks the other architecture's filter. */
#include <linux/audit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <seccomp.h>

#include "daemon/worker/seccomp_table.h"
#include "engine/base/macro.h"
#include "tests/sandbox/program.h"

enum { SELF = 4711, LAST_CALL = 600, X32_BIT = 0x40000000, REPORT_MAX = 20 };

struct filters {
        enum sandbox_mode mode;
        uint32_t arch;
        struct program plain, tree;
        unsigned calls, failed, allowed;
        unsigned longest;
};

static void check(struct filters *f, const struct seccomp_data *data) {
        unsigned steps;
        uint32_t expect = table_verdict(f->mode, f->arch, SELF, data);
        uint32_t plain = program_run(&f->plain, data, &steps);
        uint32_t tree = program_run(&f->tree, data, NULL);

        f->calls++;
        f->allowed += expect == SECCOMP_RET_ALLOW;
        f->longest = MAX(f->longest, steps);
        if (plain == expect && tree == expect)
                return;
        if (f->failed++ < REPORT_MAX)
                fprintf(stderr, "arch %#x mode %d call %d(%#llx, %#llx, %#llx, %#llx, %#llx, "
                        "%#llx): table %#x, program %#x, as a tree %#x\n", f->arch, f->mode,
                        data->nr, data->args[0], data->args[1], data->args[2], data->args[3],
                        data->args[4], data->args[5], expect, plain, tree);
}

/* The call that a row describes, and everything one bit away from it. */
static void check_row(struct filters *f, const struct seccomp_row *row) {
        int call = seccomp_syscall_resolve_name_arch(f->arch, row->call);
        struct seccomp_data data = { .nr = call, .arch = audit_arch(f->arch) };

        for (unsigned i = 0; i < SECCOMP_ROW_ARGS; i++) {
                const struct seccomp_arg *arg = &row->args[i];
                if (arg->op == SECCOMP_MASKED)
                        data.args[arg->index] = arg->value;
                else if (arg->op == SECCOMP_SELF)
                        data.args[arg->index] = SELF;
                else if (arg->op == SECCOMP_ANY_BIT)
                        data.args[arg->index] = arg->mask & -arg->mask;
        }
        check(f, &data);
        for (unsigned i = 0; i < 6; i++)
                for (unsigned bit = 0; bit < 64; bit++) {
                        struct seccomp_data d = data;
                        d.args[i] ^= UINT64_C(1) << bit;
                        check(f, &d);
                        for (unsigned other = bit + 1; other < 64; other++) {
                                struct seccomp_data e = d;
                                e.args[i] ^= UINT64_C(1) << other;
                                check(f, &e);
                        }
                }
}

static void check_numbers(struct filters *f) {
        for (int call = -1; call <= LAST_CALL; call++)
                for (int pattern = 0; pattern < 4; pattern++) {
                        struct seccomp_data data = { .nr = call, .arch = audit_arch(f->arch) };
                        memset(data.args, pattern & 1 ? 0xff : 0, sizeof(data.args));
                        if (pattern & 2)
                                data.nr |= X32_BIT;
                        check(f, &data);
                }
}

/* Everything in the words of another machine dies, whatever its number. */
static void check_foreign(struct filters *f) {
        static const uint32_t others[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64,
                                           AUDIT_ARCH_ARM, 0, UINT32_MAX };

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                for (int call = 0; call <= LAST_CALL && others[i] != audit_arch(f->arch); call++)
                        check(f, &(struct seccomp_data){ .nr = call, .arch = others[i] });
}

static unsigned check_filter(enum sandbox_mode mode, uint32_t arch, const char *name) {
        struct filters f = { mode, arch, program_build(mode, arch, SELF, false),
                             program_build(mode, arch, SELF, true) };

        for (size_t i = 0; i < seccomp_n_rows; i++)
                if (seccomp_syscall_resolve_name_arch(arch, seccomp_rows[i].call) >= 0)
                        check_row(&f, &seccomp_rows[i]);
        check_numbers(&f);
        check_foreign(&f);
        printf("%s, mode %d: %u instructions, at most %u run; %u calls tried, %u allowed, "
               "%u wrong\n", name, mode, f.plain.n, f.longest, f.calls, f.allowed, f.failed);
        if (f.allowed == 0 || f.allowed == f.calls)
                f.failed++;
        program_free(&f.plain);
        program_free(&f.tree);
        return f.failed;
}

/* A list of its own, with numbers from the kernel's tables: a call that slips into the table, or
 * whose number libseccomp gets wrong, is noticed here. -1: the architecture has no such call. */
static const struct {
        const char *call;
        int x86_64, aarch64;
        bool pack_only;
} allowed[] = {
        { "read", 0, 63 }, { "write", 1, 64 }, { "close", 3, 57 }, { "fstat", 5, 80 },
        { "lseek", 8, 62 }, { "mmap", 9, 222 }, { "mprotect", 10, 226 }, { "munmap", 11, 215 },
        { "brk", 12, 214 }, { "rt_sigprocmask", 14, 135 }, { "rt_sigreturn", 15, 139 },
        { "pread64", 17, 67 }, { "pwrite64", 18, 68, true }, { "writev", 20, 66 },
        { "sched_yield", 24, 124 }, { "mremap", 25, 216 }, { "madvise", 28, 233 },
        { "getpid", 39, 172 }, { "sendto", 44, 206 }, { "recvfrom", 45, 207 },
        { "sendmsg", 46, 211 }, { "recvmsg", 47, 212 }, { "shutdown", 48, 210 }, { "exit", 60, 93 },
        { "fcntl", 72, 25 }, { "mlock", 149, 228 }, { "munlock", 150, 229 }, { "gettid", 186, 178 },
        { "futex", 202, 98 }, { "restart_syscall", 219, 128 }, { "clock_gettime", 228, 113 },
        { "clock_nanosleep", 230, 115 }, { "exit_group", 231, 94 }, { "tgkill", 234, 131 },
        { "ppoll", 271, 73 }, { "getrandom", 318, 278 }, { "mlock2", 325, 284 },
};

static unsigned check_list(void) {
        unsigned failed = 0;
        bool seen[ARRAY_SIZE(allowed)] = { false };

        for (size_t i = 0; i < seccomp_n_rows; i++) {
                const struct seccomp_row *row = &seccomp_rows[i];
                size_t k = 0;

                if (row->error)
                        continue;
                while (k < ARRAY_SIZE(allowed) && strcmp(allowed[k].call, row->call) != 0)
                        k++;
                bool known = k < ARRAY_SIZE(allowed);
                if (known)
                        seen[k] = true;
                int x = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, row->call);
                int a = seccomp_syscall_resolve_name_arch(SCMP_ARCH_AARCH64, row->call);
                if (known && x == allowed[k].x86_64 && a == allowed[k].aarch64 &&
                    allowed[k].pack_only == !(row->modes & 1u << SANDBOX_SERVE))
                        continue;
                fprintf(stderr, "%s (%d, %d) is allowed, but not on this test's list\n", row->call,
                        x, a);
                failed++;
        }
        for (size_t k = 0; k < ARRAY_SIZE(allowed); k++)
                if (!seen[k]) {
                        fprintf(stderr, "%s is on this test's list, but not allowed\n",
                                allowed[k].call);
                        failed++;
                }
        return failed;
}

int main(void) {
        unsigned failed = check_list();

        for (int mode = SANDBOX_SERVE; mode <= SANDBOX_PACK; mode++) {
                failed += check_filter((enum sandbox_mode)mode, SCMP_ARCH_X86_64, "x86-64");
                failed += check_filter((enum sandbox_mode)mode, SCMP_ARCH_AARCH64, "aarch64");
        }
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
