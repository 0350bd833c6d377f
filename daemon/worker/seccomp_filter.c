/* Turns the rows of seccomp_table.c into libseccomp rules. Whatever no rule covers, a foreign
 * architecture and x32 numbers kill the process, not the thread: a worker of which one thread died
 * would hold its locks for ever. The context belongs to the caller. */
#include "daemon/worker/seccomp_filter.h"

#include <errno.h>

#include "daemon/worker/seccomp_table.h"
#include "engine/base/macro.h"

static void release_p(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

static struct scmp_arg_cmp compare(const struct seccomp_arg *arg, pid_t self) {
        if (arg->op == SECCOMP_SELF)
                return SCMP_CMP64(arg->index, SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint64_t)self);
        return SCMP_CMP64(arg->index, SCMP_CMP_MASKED_EQ, arg->mask, arg->value);
}

/* One rule; libseccomp knows no "any of these bits", so such a condition becomes one rule a bit. */
static int add_rules(scmp_filter_ctx ctx, uint32_t action, int call, const struct seccomp_row *row,
                     pid_t self) {
        struct scmp_arg_cmp cmp[SECCOMP_ROW_ARGS];
        uint64_t bits = 0;
        unsigned n = 0, any = 0;

        for (; n < SECCOMP_ROW_ARGS && row->args[n].op != SECCOMP_END; n++) {
                cmp[n] = compare(&row->args[n], self);
                if (row->args[n].op == SECCOMP_ANY_BIT) {
                        bits = row->args[n].mask;
                        any = n;
                }
        }
        if (bits == 0)
                return seccomp_rule_add_array(ctx, action, call, n, cmp);
        for (; bits; bits &= bits - 1) {
                uint64_t bit = bits & -bits;
                cmp[any] = SCMP_CMP64(row->args[any].index, SCMP_CMP_MASKED_EQ, bit, bit);
                int r = seccomp_rule_add_array(ctx, action, call, n, cmp);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_row(scmp_filter_ctx ctx, uint32_t arch, const struct seccomp_row *row, pid_t self) {
        int call = seccomp_syscall_resolve_name(row->call);
        int there = seccomp_syscall_resolve_name_arch(arch, row->call);

        /* A probe that this architecture (or libseccomp) does not know need not fail softly. */
        if (there < 0 || call == __NR_SCMP_ERROR)
                return row->error ? 0 : -ENOSYS;
        return add_rules(ctx, row->error ? SCMP_ACT_ERRNO((uint16_t)row->error) : SCMP_ACT_ALLOW,
                         call, row, self);
}

static int set_attributes(scmp_filter_ctx ctx, bool tree) {
        int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        if (r < 0)
                return r;
        /* All threads at once: those made before would stay free otherwise. */
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
        if (r < 0)
                return r;
        return seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, tree ? 2 : 1);
}

static int set_arch(scmp_filter_ctx ctx, uint32_t arch) {
        if (arch == SCMP_ARCH_NATIVE || arch == seccomp_arch_native())
                return 0;
        int r = seccomp_arch_add(ctx, arch);
        return r < 0 ? r : seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
}

static int set_priority(scmp_filter_ctx ctx, size_t index) {
        int call = seccomp_syscall_resolve_name(seccomp_rows[index].call);

        /* Only numbers this machine has can be ordered; the others come where they come. */
        if (call < 0 || seccomp_rows[index].error || index > UINT8_MAX)
                return 0;
        return seccomp_syscall_priority(ctx, call, (uint8_t)(UINT8_MAX - index));
}

int seccomp_filter_build(scmp_filter_ctx *ret, enum sandbox_mode mode, uint32_t arch, pid_t self,
                         bool tree) {
        _cleanup_(release_p) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
        if (!ctx)
                return -ENOMEM;

        int r = set_attributes(ctx, tree);
        if (r < 0)
                return r;
        r = set_arch(ctx, arch);
        for (size_t i = 0; r >= 0 && i < seccomp_n_rows; i++) {
                if (!(seccomp_rows[i].modes & 1u << mode))
                        continue;
                r = add_row(ctx, arch, &seccomp_rows[i], self);
                if (r >= 0 && !tree)
                        r = set_priority(ctx, i);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(ctx);
        return 0;
}
