/* The system calls a worker may make once it is locked in, as data: the filter, its tests and the
 * printed list read the same rows. What has no row kills the process. Several rows of one call are
 * alternatives; within a row every condition must hold. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/sandbox.h"

enum { SECCOMP_ROW_ARGS = 3 };

/* How an argument is compared. Arguments the kernel takes as int are compared in their low 32 bits,
 * which is all the kernel looks at; longs are compared whole. */
enum seccomp_op {
        SECCOMP_END = 0,  /* no more conditions */
        SECCOMP_MASKED,   /* (argument & mask) == value */
        SECCOMP_ANY_BIT,  /* (argument & mask) != 0 */
        SECCOMP_SELF,     /* low 32 bits are the process's own id */
};

struct seccomp_arg {
        uint8_t op;       /* enum seccomp_op */
        uint8_t index;    /* 0..5 */
        uint64_t mask, value;
};

struct seccomp_row {
        const char *call; /* libseccomp's name; a probe that an architecture lacks is left out */
        const char *reason;
        int error;        /* 0: allowed; else the call fails with this errno */
        unsigned modes;   /* bits 1 << enum sandbox_mode */
        struct seccomp_arg args[SECCOMP_ROW_ARGS];
};

/* Ordered by how often the calls are made, allowed ones first. */
extern const struct seccomp_row seccomp_rows[];
extern const size_t seccomp_n_rows;
