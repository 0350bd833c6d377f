/* An architecture without kernels of its own: the C reference does all the work. */
#include "kernels/arch.h"

unsigned cpu_detect_arch(void) {
        return 0;
}

void kernel_ops_init_arch(struct kernel_ops *ops, unsigned cpu_flags) {
        (void)ops;
        (void)cpu_flags;
}
