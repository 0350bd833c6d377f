/* The vector vocabulary of the templates (*_tmpl.c) on 8 lanes. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/x86/tree.h"
#include "kernels/x86/unroll.h"

#define KERNEL(name) name##_avx2

enum { LANES = 8 };

typedef __m256 vf;   /* floats */
typedef __m256i vi;  /* 32-bit integers */
typedef __m256d vd;  /* half as many doubles */

INLINE vf vf_load(const float *p) {
        return _mm256_loadu_ps(p);
}

INLINE void vf_store(float *p, vf v) {
        _mm256_storeu_ps(p, v);
}

INLINE vi first_lanes(size_t n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n < LANES values only; the other lanes are zero and their memory is not touched. */
INLINE vf vf_load_n(const float *p, size_t n) {
        return _mm256_maskload_ps(p, first_lanes(n));
}

INLINE void vf_store_n(float *p, vf v, size_t n) {
        _mm256_maskstore_ps(p, first_lanes(n), v);
}

INLINE vf vf_set1(float f) {
        return _mm256_set1_ps(f);
}

INLINE vf vf_add(vf a, vf b) {
        return _mm256_add_ps(a, b);
}

INLINE vf vf_sub(vf a, vf b) {
        return _mm256_sub_ps(a, b);
}

INLINE vf vf_mul(vf a, vf b) {
        return _mm256_mul_ps(a, b);
}

/* a * b + c, rounded once */
INLINE vf vf_fma(vf a, vf b, vf c) {
        return _mm256_fmadd_ps(a, b, c);
}

INLINE vf vf_div(vf a, vf b) {
        return _mm256_div_ps(a, b);
}

/* a > b ? a : b, so b if either is a NaN; min alike */
INLINE vf vf_max(vf a, vf b) {
        return _mm256_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b) {
        return _mm256_min_ps(a, b);
}

/* b in the lanes where a > 0, else 0 */
INLINE vf vf_where_positive(vf a, vf b) {
        return _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ), b);
}

INLINE vf vf_neg(vf a) {
        return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f));
}

INLINE vf vf_abs(vf a) {
        return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

/* Even lanes a - b, odd lanes a + b. */
INLINE vf vf_addsub(vf a, vf b) {
        return _mm256_addsub_ps(a, b);
}

/* Neighbours change places. */
INLINE vf vf_swap_pairs(vf a) {
        return _mm256_permute_ps(a, 0xb1);
}

/* p[0] p[0] p[1] p[1] ... from LANES / 2 values. */
INLINE vf vf_load_twice(const float *p) {
        __m128 v = _mm_loadu_ps(p);

        return _mm256_set_m128(_mm_unpackhi_ps(v, v), _mm_unpacklo_ps(v, v));
}

/* Round to nearest, ties to even. */
INLINE vi vf_round(vf a) {
        return _mm256_cvtps_epi32(a);
}

/* 2^n for -127 < n < 128 */
INLINE vf vi_exp2(vi n) {
        return _mm256_castsi256_ps(
                _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

INLINE vi vi_half(vi n) {
        return _mm256_srai_epi32(n, 1);
}

INLINE vi vi_add(vi a, vi b) {
        return _mm256_add_epi32(a, b);
}

INLINE vi vi_sub(vi a, vi b) {
        return _mm256_sub_epi32(a, b);
}

INLINE vi vi_zero(void) {
        return _mm256_setzero_si256();
}

INLINE void vi_store(int32_t *p, vi v) {
        _mm256_storeu_si256((__m256i *)p, v);
}

/* Store LANES values of -128..127 as bytes. */
INLINE void vi_store_bytes(int8_t *p, vi v) {
        __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

        _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(w, w));
}

/* Store LANES values of -32768..32767 as 16-bit integers. */
INLINE void vi_store_words(int16_t *p, vi v) {
        __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

        _mm_storeu_si128((__m128i *)p, w);
}

INLINE vi vi_load(const int32_t *p) {
        return _mm256_loadu_si256((const __m256i *)p);
}

INLINE vf vi_to_float(vi v) {
        return _mm256_cvtepi32_ps(v);
}

/* A lane is a pair of 16-bit integers: 2 * LANES bytes, or the same two words everywhere. */
INLINE vi vi_load_pairs(const int8_t *p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}

INLINE vi vi_set1_pair(const int16_t *p) {
        int32_t pair;

        memcpy(&pair, p, sizeof(pair));
        return _mm256_set1_epi32(pair);
}

/* sum + a.first * b.first + a.second * b.second */
INLINE vi vi_dot_pairs(vi sum, vi a, vi b) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

INLINE vf vf_load_f16(const uint16_t *p) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE vf vf_load_f16_n(const uint16_t *p, size_t n) {
        uint16_t first[LANES] = { 0 };

        memcpy(first, p, n * sizeof(*p));
        return vf_load_f16(first);
}

INLINE vf vf_load_bf16(const uint16_t *p) {
        __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

        return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}

INLINE void vf_store_f16(uint16_t *p, vf v) {
        _mm_storeu_si128((__m128i *)p,
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vd vd_zero(void) {
        return _mm256_setzero_pd();
}

/* a[0], a[1] += squares of the lower and upper lanes of v. */
INLINE void vd_add_squares(vd a[2], vf v) {
        vd low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        vd high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));

        a[0] = _mm256_add_pd(a[0], _mm256_mul_pd(low, low));
        a[1] = _mm256_add_pd(a[1], _mm256_mul_pd(high, high));
}

/* The sum of sixteen doubles, in the order of rms_norm's tree. */
INLINE double vd_sum_16(vd v[2][2]) {
        return tree_sum_doubles(_mm256_add_pd(v[0][0], v[1][0]),
                                _mm256_add_pd(v[0][1], v[1][1]));
}

INLINE int32_t vi_sum(vi v) {
        return tree_sum_integers(v);
}

/* The largest lane; none is a NaN. */
INLINE float vf_largest(vf v) {
        return tree_max(v);
}
