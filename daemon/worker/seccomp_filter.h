/* The filter that libseccomp makes of the table. */
#pragma once

#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/worker/sandbox.h"

/* Build, but do not load, the filter for one architecture (SCMP_ARCH_NATIVE, SCMP_ARCH_AARCH64).
 * self: the process id that abort may signal. tree: let libseccomp order the calls as a binary tree
 * instead of the table's order (the tests compare both). The caller releases *ret with
 * seccomp_release. Returns 0; -ENOSYS when the architecture lacks a call that is allowed, or
 * another negative errno. */
int seccomp_filter_build(scmp_filter_ctx *ret, enum sandbox_mode mode, uint32_t arch, pid_t self,
                         bool tree);
