/* fma(a, b, c) = a * b + c, rounded once, on machines with and without the instruction.
 *
 * Without it the C library computes it in hundreds of cycles. The product of two floats is exact in
 * double and the sum is rounded to 53 bits; rounding that again to 24 differs from rounding once
 * only if the sum fell on the middle between two floats, or if the result is subnormal (there the
 * middles lie elsewhere). Those few go to the library.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float fma_fixed(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
        return __builtin_fmaf(a, b, c);
#else
        double s = (double)a * (double)b + (double)c;
        uint64_t bits;

        memcpy(&bits, &s, sizeof(bits));
        if ((bits & 0x1fffffff) == 0x10000000 || !(fabs(s) >= 0x1p-125))
                return fmaf(a, b, c);
        return (float)s;
#endif
}
