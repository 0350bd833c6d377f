/* Peak rate of vpdpbusd: twelve chains, enough to hide the latency on every known core. In
 * assembly, so that the yardstick does not depend on how well a compiler keeps chains in
 * registers. */
#include "tests/bench/limits.h"

#define DOT(n) "vpdpbusd %%zmm13, %%zmm12, %%zmm" #n "\n\t"
#define ZERO(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

void limit_dot_loop_avx512vnni(uint64_t rounds) {
        __asm__ volatile(ZERO(0) ZERO(1) ZERO(2) ZERO(3) ZERO(4) ZERO(5) ZERO(6) ZERO(7) ZERO(8)
                         ZERO(9) ZERO(10) ZERO(11) ZERO(12) ZERO(13)
                         : : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
        for (uint64_t r = 0; r < rounds; r++)
                __asm__ volatile(DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8)
                                 DOT(9) DOT(10) DOT(11)
                                 : : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
}
