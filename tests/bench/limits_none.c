/* No 512-bit dot product on this architecture. */
#include "tests/bench/limits.h"

void limit_dot_loop_avx512vnni(uint64_t rounds) {
        (void)rounds;
}
