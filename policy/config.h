/* The configuration file: sections [Limits] and [Broker], all keys optional (bitnetd.conf lists
 * them). Sizes take K, M or G (powers of 1024). Unknown sections or keys and values out of range
 * are errors, with the line: a typing mistake must not silently weaken a limit. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "policy/limits.h"
#include "policy/name.h"

/* In this order; each level includes those before it. */
enum cpu_level { CPU_LEVEL_C, CPU_LEVEL_AVX2, CPU_LEVEL_AVXVNNI, CPU_LEVEL_AVX512VL,
                 CPU_LEVEL_AVX512VNNI, CPU_LEVEL_ALL, _CPU_LEVEL_MAX };

struct config {
        struct limits limits;
        char default_model[MODEL_NAME_SIZE]; /* "" = not set */
        uint32_t threads;       /* 0 = one per CPU */
        enum cpu_level cpu;     /* the most that kernels may use */
};

#define CONFIG_DEFAULT (struct config) { .limits = LIMITS_DEFAULT, .cpu = CPU_LEVEL_ALL }

/* text: the whole file, NUL-terminated. Returns 0; or -EINVAL with *ret_line (1 is the first) and
 * *ret_reason (a fixed text), and *ret is untouched. */
int config_parse(const char *text, struct config *ret, unsigned *ret_line, const char **ret_reason);

/* "c", "avx2", "avxvnni", "avx512vl", "avx512vnni" or "all". 0 or -EINVAL. */
int config_cpu_level(const char *name, enum cpu_level *ret);
