/* Test help: the filter as a program, to be installed or run step by step, and what the table says
 * about a call without asking libseccomp. */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/worker/sandbox.h"

struct program {
        struct sock_filter *code;
        unsigned n;
};

/* The filter for one SCMP_ARCH_*; ends the test program when it cannot be built. */
struct program program_build(enum sandbox_mode mode, uint32_t arch, pid_t self, bool tree);
void program_free(struct program *p);

/* Install it on this thread (no_new_privs is set first). Returns 0 or a negative errno. */
int program_install(const struct program *p);

/* Run it on one call: a SECCOMP_RET_* value. *ret_steps counts instructions (may be NULL). */
uint32_t program_run(const struct program *p, const struct seccomp_data *data, unsigned *ret_steps);

/* The verdict of the rows of seccomp_table.c, in the same terms. */
uint32_t table_verdict(enum sandbox_mode mode, uint32_t arch, pid_t self,
                       const struct seccomp_data *data);

/* AUDIT_ARCH_* of an SCMP_ARCH_*: they are the same numbers; named for the reader. */
static inline uint32_t audit_arch(uint32_t arch) {
        return arch;
}
