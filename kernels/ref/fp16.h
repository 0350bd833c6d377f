/* Conversions between binary16, bfloat16 and binary32, on integers only, so that the result does
 * not depend on what the machine can do. Same bits as vcvtph2ps and vcvtps2ph, NaNs included. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t bits) {
        float f;

        memcpy(&f, &bits, sizeof(f));
        return f;
}

static inline uint32_t f32_to_bits(float f) {
        uint32_t bits;

        memcpy(&bits, &f, sizeof(bits));
        return bits;
}

static inline float bf16_to_f32(uint16_t h) {
        return f32_from_bits((uint32_t)h << 16);
}

/* Exact: every binary16 is a binary32. */
static inline float f16_to_f32(uint16_t h) {
        uint32_t sign = (uint32_t)(h & 0x8000) << 16;
        uint32_t exponent = (h >> 10) & 0x1f;
        uint32_t fraction = h & 0x3ff;

        if (exponent == 0x1f) /* infinity, or a NaN made quiet */
                return f32_from_bits(sign | 0x7f800000 | fraction << 13 |
                                     (fraction ? 0x00400000U : 0U));
        if (exponent != 0)
                return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
        /* zero or subnormal: fraction * 2^-24, a normal number in binary32 */
        return f32_from_bits(sign | f32_to_bits((float)fraction * 0x1p-24f));
}

/* Round to nearest, ties to even. */
static inline uint16_t f32_to_f16(float f) {
        uint32_t bits = f32_to_bits(f);
        uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
        uint32_t a = bits & 0x7fffffff;

        if (a > 0x7f800000)
                return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
        if (a >= 0x477ff000) /* 65520 and more round to infinity */
                return (uint16_t)(sign | 0x7c00);
        if (a < 0x38800000) {
                /* below 2^-14: adding 0.5 leaves the multiple of 2^-24 in the low bits */
                float t = f32_from_bits(a) + 0.5f;

                return (uint16_t)(sign | (f32_to_bits(t) - 0x3f000000));
        }
        a += 0xfff + ((a >> 13) & 1);
        return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}

/* One rounding from double precision: the step to binary32 rounds to odd, which keeps what the
 * second rounding has to know of the digits that were cut off. */
static inline uint16_t f64_to_f16(double d) {
        float f = (float)d;
        uint32_t bits = f32_to_bits(f);

        if ((double)f != d && d == d) {
                double magnitude = d < 0 ? -d : d;
                double rounded = (double)f32_from_bits(bits & 0x7fffffff);

                bits = (bits - (rounded > magnitude)) | 1;
        }
        return f32_to_f16(f32_from_bits(bits));
}
