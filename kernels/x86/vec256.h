/* What the 256-bit matrix products share whatever their dot-product instruction: a tile of 16 rows
 * is a pair of registers, rows 0-7 and 8-15, one lane a row. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/layout.h"
#include "kernels/x86/unroll.h"

enum {
        HALVES = 2,      /* registers a tile */
        STEPS = 16,      /* dot-product steps per tile half and 64 columns, 4 columns each */
        TOKENS_MAX = 64, /* tokens whose accumulators fit beside the rest in the L1 cache */
};

/* Four consecutive activations in every lane. */
INLINE __m256i broadcast_q(const int8_t *q) {
        int32_t v;

        memcpy(&v, q, sizeof(v));
        return _mm256_set1_epi32(v);
}

INLINE __m256i load_q(const int8_t *q) {
        return _mm256_loadu_si256((const __m256i *)q);
}

INLINE __m256i load_codes(const uint8_t *p) {
        return _mm256_loadu_si256((const __m256i *)p);
}

/* a + (float)sum * xs */
INLINE __m256 add_scaled(__m256 a, __m256i sum, float xs) {
        return _mm256_add_ps(a, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(xs)));
}
