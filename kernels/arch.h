/* The two questions an architecture folder answers. The build links exactly one answer: x86/ on
 * x86-64, ref/arch_none.c elsewhere. */
#pragma once

#include "kernels/kernels.h"

/* Flags of enum cpu_flag this machine and its operating system support. */
unsigned cpu_detect_arch(void);

/* Overwrite the pointers that the instruction sets in cpu_flags have a faster kernel for. */
void kernel_ops_init_arch(struct kernel_ops *ops, unsigned cpu_flags);
