/* Treat denormal floats as zero in this thread.
 *
 * An activation that fades towards zero must not make a step a hundred times slower. The C
 * reference and the SIMD kernels run under the same setting, so the bits agree all the same. */
#pragma once

#include <stdint.h>

typedef uint64_t denormals_state;

#if defined(__x86_64__)

#include <xmmintrin.h>

enum { MXCSR_FTZ_DAZ = 0x8040 }; /* flush results (bit 15), read operands as zero (bit 6) */

static inline denormals_state denormals_off(void) {
        denormals_state saved = _mm_getcsr();

        _mm_setcsr((unsigned)saved | MXCSR_FTZ_DAZ);
        return saved;
}

static inline void denormals_restore(denormals_state saved) {
        _mm_setcsr((unsigned)saved);
}

#elif defined(__aarch64__)

static inline denormals_state denormals_off(void) {
        denormals_state saved;

        __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
        __asm__ volatile("msr fpcr, %0" ::"r"(saved | (UINT64_C(1) << 24))); /* FZ */
        return saved;
}

static inline void denormals_restore(denormals_state saved) {
        __asm__ volatile("msr fpcr, %0" ::"r"(saved));
}

#else

static inline denormals_state denormals_off(void) {
        return 0;
}

static inline void denormals_restore(denormals_state saved) {
        (void)saved;
}

#endif
