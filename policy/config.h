/* The configuration file: sections [Limits] and [Broker], all keys optional (bitnetd.conf lists
 * them). Sizes take K, M or G (powers of 1024). Unknown sections or keys and values out of range
 * are errors, with the line: a typing mistake must not silently weaken a limit. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "policy/limits.h"

struct config {
        struct limits limits;
        char default_model[64]; /* "" = not set */
        uint32_t threads;       /* 0 = one per CPU */
        uint32_t cpu_mask;      /* for the worker's cpu_flags() */
};

#define CONFIG_DEFAULT (struct config) { .limits = LIMITS_DEFAULT, .cpu_mask = UINT32_MAX }

/* text: the whole file, NUL-terminated. Returns 0; or -EINVAL with *ret_line (1 is the first) and
 * *ret_reason (a fixed text), and *ret is untouched. */
int config_parse(const char *text, struct config *ret, unsigned *ret_line, const char **ret_reason);

/* Mask for a level name ("c", "avx2", "avxvnni", "avx512vl", "avx512vnni", "all"), the same names
 * and bits as kernels/cpu.h. 0 or -EINVAL. */
int config_cpu_mask(const char *name, uint32_t *ret);
