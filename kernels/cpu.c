/* Levels of instruction sets by name. A level includes everything below it; the order of the table
 * is the order of the ladder in kernel_ops_init. */
#include <errno.h>
#include <string.h>

#include "kernels/arch.h"
#include "kernels/cpu.h"

static const struct {
        const char *name;
        unsigned flag;
} levels[] = {
        { "c", 0 },
        { "avx2", CPU_AVX2 },
        { "avxvnni", CPU_AVXVNNI },
        { "avx512vl", CPU_AVX512VL },
        { "avx512vnni", CPU_AVX512VNNI },
        { "avx512vbmi", CPU_AVX512VBMI },
};

enum { N_LEVELS = sizeof(levels) / sizeof(levels[0]) };

unsigned cpu_flags(unsigned mask) {
        return cpu_detect_arch() & mask;
}

const char *cpu_level_name(unsigned flags) {
        for (unsigned i = N_LEVELS - 1; i > 0; i--)
                if (flags & levels[i].flag)
                        return levels[i].name;
        return levels[0].name;
}

int cpu_mask_parse(const char *name, unsigned *ret) {
        unsigned mask = 0;

        if (!name || strcmp(name, "all") == 0) {
                *ret = CPU_ALL;
                return 0;
        }
        for (unsigned i = 0; i < N_LEVELS; i++) {
                mask |= levels[i].flag;
                if (strcmp(name, levels[i].name) == 0) {
                        *ret = mask;
                        return 0;
                }
        }
        return -EINVAL;
}
