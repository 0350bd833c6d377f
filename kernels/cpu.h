/* What this CPU can do, asked from cpuid (x86) or the auxiliary vector (ARM), never from /proc. */
#pragma once

enum cpu_flag {
        CPU_AVX2 = 1U << 0,       /* with FMA and F16C */
        CPU_AVXVNNI = 1U << 1,    /* VEX-encoded VNNI on 256 bits */
        CPU_AVX512VL = 1U << 2,   /* AVX-512 F, BW, DQ, VL and VNNI, used on 256 bits */
        CPU_AVX512VNNI = 1U << 3, /* the same on 512 bits */
        CPU_AVX512VBMI = 1U << 4, /* with byte permutations */
        CPU_ALL = ~0U,
};

/* Flags of this machine that `mask` leaves on. Needs no system call once the kernel's answer to
 * xgetbv allows the registers. */
unsigned cpu_flags(unsigned mask);

/* "c", "avx2", "avxvnni", "avx512vl", "avx512vnni", "avx512vbmi": the highest level in flags. */
const char *cpu_level_name(unsigned flags);

/* Mask for a level name as above ("avx2" gives C and AVX2 only); "all" or NULL gives CPU_ALL.
 * Returns 0 and sets *ret, or -EINVAL. "c" gives an empty mask. */
int cpu_mask_parse(const char *name, unsigned *ret);
