/* Sums over eight lanes in the order of rms_norm's tree (lane i + 4, then i + 2, then i + 1), and
 * the largest of eight lanes. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "kernels/x86/unroll.h"

INLINE double tree_sum_doubles(__m256d low, __m256d high) {
        __m256d v = _mm256_add_pd(low, high);
        __m128d a = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));

        return _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)));
}

INLINE int32_t tree_sum_integers(__m256i v) {
        __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

        a = _mm_add_epi32(a, _mm_unpackhi_epi64(a, a));
        return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 1)));
}

INLINE float tree_max(__m256 v) {
        __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

        a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
