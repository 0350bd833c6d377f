/* Little-endian loads from unaligned bytes, and the 16-bit float formats. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "model files are little-endian and mapped as they are");

static inline uint16_t load_u16(const uint8_t *p) {
        uint16_t v;

        memcpy(&v, p, sizeof(v));
        return v;
}

static inline uint32_t load_u32(const uint8_t *p) {
        uint32_t v;

        memcpy(&v, p, sizeof(v));
        return v;
}

static inline uint64_t load_u64(const uint8_t *p) {
        uint64_t v;

        memcpy(&v, p, sizeof(v));
        return v;
}

static inline float load_f32(const uint8_t *p) {
        float v;

        memcpy(&v, p, sizeof(v));
        return v;
}

static inline float float_of_bits(uint32_t bits) {
        float v;

        memcpy(&v, &bits, sizeof(v));
        return v;
}

static inline uint32_t bits_of_float(float v) {
        uint32_t bits;

        memcpy(&bits, &v, sizeof(bits));
        return bits;
}

/* Exact for every value. A subnormal half is mantissa * 2^-24, which binary32 holds as a normal
 * number; the multiplication is exact. */
static inline float f16_to_f32(uint16_t h) {
        uint32_t sign = (uint32_t)(h & 0x8000) << 16;
        uint32_t exponent = (h >> 10) & 31U, mantissa = h & 0x3ffU;

        if (exponent == 31)
                return float_of_bits(sign | 0x7f800000U | mantissa << 13);
        if (exponent == 0)
                return float_of_bits(sign | bits_of_float((float)mantissa * 0x1p-24f));
        return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline float bf16_to_f32(uint16_t h) {
        return float_of_bits((uint32_t)h << 16);
}

static inline bool f16_is_finite(uint16_t h) {
        return (h & 0x7c00) != 0x7c00;
}

static inline bool bf16_is_finite(uint16_t h) {
        return (h & 0x7f80) != 0x7f80;
}

static inline bool f32_is_finite(uint32_t bits) {
        return (bits & 0x7f800000U) != 0x7f800000U;
}
