/* exp(x) in binary32 with a fixed order of operations, within 2 units in the last place.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 is split so that n * EXP_LN2_HI is exact; exp(r) is
 * 1 + (r + r^2 p(r)) with p a polynomial of degree 5 (the constants of the Cephes library's
 * expf); 2^n is applied in two halves so that results below 2^-126 are rounded only once and
 * overflow gives infinity. NaN stays NaN. The vector versions repeat exactly these steps.
 */
#pragma once

#include <stdint.h>

#include "kernels/ref/fp16.h"

#define EXP_MAX 89.0f   /* above: infinity */
#define EXP_MIN -104.0f /* below: zero */
#define EXP_LOG2E 1.44269504088896341f
#define EXP_ROUND 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */
#define EXP_LN2_HI 0.693359375f
#define EXP_LN2_LO -2.12194440e-4f
#define EXP_P0 1.9875691500e-4f
#define EXP_P1 1.3981999507e-3f
#define EXP_P2 8.3334519073e-3f
#define EXP_P3 4.1665795894e-2f
#define EXP_P4 1.6666665459e-1f
#define EXP_P5 5.0000001201e-1f

static inline float expf_fixed(float x) {
        float n, r, p, half_a, half_b;
        int32_t i, i_a;

        x = EXP_MAX < x ? EXP_MAX : x;
        x = EXP_MIN > x ? EXP_MIN : x;
        n = (x * EXP_LOG2E + EXP_ROUND) - EXP_ROUND;
        r = (x - n * EXP_LN2_HI) - n * EXP_LN2_LO;

        p = EXP_P0;
        p = p * r + EXP_P1;
        p = p * r + EXP_P2;
        p = p * r + EXP_P3;
        p = p * r + EXP_P4;
        p = p * r + EXP_P5;
        p = (p * (r * r) + r) + 1.0f;

        if (n != n)
                return p;
        i = (int32_t)n;
        i_a = i >> 1;
        half_a = f32_from_bits((uint32_t)(i_a + 127) << 23);
        half_b = f32_from_bits((uint32_t)(i - i_a + 127) << 23);
        return (p * half_a) * half_b;
}
