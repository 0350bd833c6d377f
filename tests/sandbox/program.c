/* A second opinion on the filter: an interpreter for the few instructions that a seccomp program
 * may hold, and a direct reading of the table. Where both agree on a grid of calls, neither
 * libseccomp nor our use of it lost a condition. A program owns its code. */
#include "tests/sandbox/program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/worker/seccomp_filter.h"
#include "daemon/worker/seccomp_table.h"

static void die(const char *what, long value) {
        fprintf(stderr, "%s: %ld\n", what, value);
        exit(EXIT_FAILURE);
}

struct program program_build(enum sandbox_mode mode, uint32_t arch, pid_t self, bool tree) {
        scmp_filter_ctx ctx;
        int r = seccomp_filter_build(&ctx, mode, arch, self, tree);
        if (r < 0)
                die("the filter cannot be built", r);

        int fd = memfd_create("filter", MFD_CLOEXEC);
        if (fd < 0)
                die("memfd_create", errno);
        r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                die("seccomp_export_bpf", r);
        seccomp_release(ctx);

        off_t size = lseek(fd, 0, SEEK_END);
        if (size <= 0 || size % (off_t)sizeof(struct sock_filter))
                die("odd size of the program", size);
        struct program p = { malloc((size_t)size), (unsigned)size / sizeof(struct sock_filter) };
        if (!p.code || pread(fd, p.code, (size_t)size, 0) != size)
                die("program cannot be read", errno);
        close(fd);
        return p;
}

void program_free(struct program *p) {
        free(p->code);
        p->code = NULL;
}

int program_install(const struct program *p) {
        struct sock_fprog prog = { (unsigned short)p->n, p->code };

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
                return -errno;
        return 0;
}

static bool jump_taken(const struct sock_filter *i, uint32_t a) {
        switch (BPF_OP(i->code)) {
        case BPF_JEQ:
                return a == i->k;
        case BPF_JGT:
                return a > i->k;
        case BPF_JGE:
                return a >= i->k;
        case BPF_JSET:
                return a & i->k;
        }
        die("unknown jump", i->code);
        return false;
}

uint32_t program_run(const struct program *p, const struct seccomp_data *data,
                     unsigned *ret_steps) {
        uint32_t a = 0;

        for (unsigned pc = 0, steps = 1;; steps++) {
                if (pc >= p->n)
                        die("program runs past its end", pc);
                const struct sock_filter *i = &p->code[pc++];
                switch (i->code) {
                case BPF_LD | BPF_W | BPF_ABS:
                        if (i->k % 4 || i->k + 4 > sizeof(*data))
                                die("load outside of the data", i->k);
                        memcpy(&a, (const char *)data + i->k, 4);
                        continue;
                case BPF_ALU | BPF_AND | BPF_K:
                        a &= i->k;
                        continue;
                case BPF_JMP | BPF_JA:
                        pc += i->k;
                        continue;
                case BPF_RET | BPF_K:
                        if (ret_steps)
                                *ret_steps = steps;
                        return i->k;
                }
                if (BPF_CLASS(i->code) != BPF_JMP || BPF_SRC(i->code) != BPF_K)
                        die("unknown instruction", i->code);
                pc += jump_taken(i, a) ? i->jt : i->jf;
        }
}

static bool arg_matches(const struct seccomp_arg *arg, const struct seccomp_data *data,
                        pid_t self) {
        uint64_t v = data->args[arg->index];

        switch (arg->op) {
        case SECCOMP_END:
                return true;
        case SECCOMP_MASKED:
                return (v & arg->mask) == arg->value;
        case SECCOMP_ANY_BIT:
                return v & arg->mask;
        case SECCOMP_SELF:
                return (uint32_t)v == (uint32_t)self;
        }
        die("unknown condition", arg->op);
        return false;
}

uint32_t table_verdict(enum sandbox_mode mode, uint32_t arch, pid_t self,
                       const struct seccomp_data *data) {
        for (size_t i = 0; data->arch == audit_arch(arch) && i < seccomp_n_rows; i++) {
                const struct seccomp_row *row = &seccomp_rows[i];
                bool match = row->modes & 1u << mode;

                if (!match || seccomp_syscall_resolve_name_arch(arch, row->call) != data->nr)
                        continue;
                for (unsigned k = 0; k < SECCOMP_ROW_ARGS; k++)
                        match = match && arg_matches(&row->args[k], data, self);
                if (match)
                        return row->error ? SECCOMP_RET_ERRNO | (uint32_t)row->error
                                          : SECCOMP_RET_ALLOW;
        }
        return SECCOMP_RET_KILL_PROCESS;
}
