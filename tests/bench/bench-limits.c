/* bench-limits: what this machine can do at this moment, the same lines that bench-kernels begins
 * with. Half a second, so that it can stand before every measurement that is compared with it. */
#include <stdio.h>

#include "tests/bench/limits.h"

int main(void) {
        limits_print();
        return 0;
}
