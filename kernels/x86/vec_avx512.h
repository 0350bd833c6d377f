/* The vector vocabulary of the templates (*_tmpl.c) on 16 lanes. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/x86/tree.h"
#include "kernels/x86/unroll.h"

#define KERNEL(name) name##_avx512vnni

enum { LANES = 16 };

typedef __m512 vf;   /* floats */
typedef __m512i vi;  /* 32-bit integers */
typedef __m512d vd;  /* half as many doubles */

INLINE vf vf_load(const float *p) {
        return _mm512_loadu_ps(p);
}

INLINE void vf_store(float *p, vf v) {
        _mm512_storeu_ps(p, v);
}

INLINE __mmask16 first_lanes(size_t n) {
        return (__mmask16)((1U << n) - 1);
}

/* The first n < LANES values only; the other lanes are zero and their memory is not touched. */
INLINE vf vf_load_n(const float *p, size_t n) {
        return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

INLINE void vf_store_n(float *p, vf v, size_t n) {
        _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

INLINE vf vf_set1(float f) {
        return _mm512_set1_ps(f);
}

INLINE vf vf_add(vf a, vf b) {
        return _mm512_add_ps(a, b);
}

INLINE vf vf_sub(vf a, vf b) {
        return _mm512_sub_ps(a, b);
}

INLINE vf vf_mul(vf a, vf b) {
        return _mm512_mul_ps(a, b);
}

/* a * b + c, rounded once */
INLINE vf vf_fma(vf a, vf b, vf c) {
        return _mm512_fmadd_ps(a, b, c);
}

INLINE vf vf_div(vf a, vf b) {
        return _mm512_div_ps(a, b);
}

/* a > b ? a : b, so b if either is a NaN; min alike */
INLINE vf vf_max(vf a, vf b) {
        return _mm512_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b) {
        return _mm512_min_ps(a, b);
}

/* b in the lanes where a > 0, else 0 */
INLINE vf vf_where_positive(vf a, vf b) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), b);
}

INLINE vf vf_neg(vf a) {
        return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

INLINE vf vf_abs(vf a) {
        return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a);
}

/* Even lanes a - b, odd lanes a + b. */
INLINE vf vf_addsub(vf a, vf b) {
        return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0x5555, a, b);
}

/* Neighbours change places. */
INLINE vf vf_swap_pairs(vf a) {
        return _mm512_permute_ps(a, 0xb1);
}

/* p[0] p[0] p[1] p[1] ... from LANES / 2 values. */
INLINE vf vf_load_twice(const float *p) {
        const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

        return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

/* Round to nearest, ties to even. */
INLINE vi vf_round(vf a) {
        return _mm512_cvtps_epi32(a);
}

/* 2^n for -127 < n < 128 */
INLINE vf vi_exp2(vi n) {
        return _mm512_castsi512_ps(
                _mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

INLINE vi vi_half(vi n) {
        return _mm512_srai_epi32(n, 1);
}

INLINE vi vi_add(vi a, vi b) {
        return _mm512_add_epi32(a, b);
}

INLINE vi vi_sub(vi a, vi b) {
        return _mm512_sub_epi32(a, b);
}

INLINE vi vi_zero(void) {
        return _mm512_setzero_si512();
}

INLINE void vi_store(int32_t *p, vi v) {
        _mm512_storeu_si512(p, v);
}

/* Store LANES values of -128..127 as bytes. */
INLINE void vi_store_bytes(int8_t *p, vi v) {
        _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(v));
}

/* Store LANES values of -32768..32767 as 16-bit integers. */
INLINE void vi_store_words(int16_t *p, vi v) {
        _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(v));
}

INLINE vi vi_load(const int32_t *p) {
        return _mm512_loadu_si512(p);
}

INLINE vf vi_to_float(vi v) {
        return _mm512_cvtepi32_ps(v);
}

/* A lane is a pair of 16-bit integers: 2 * LANES bytes, or the same two words everywhere. */
INLINE vi vi_load_pairs(const int8_t *p) {
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

INLINE vi vi_set1_pair(const int16_t *p) {
        int32_t pair;

        memcpy(&pair, p, sizeof(pair));
        return _mm512_set1_epi32(pair);
}

/* sum + a.first * b.first + a.second * b.second */
INLINE vi vi_dot_pairs(vi sum, vi a, vi b) {
        return _mm512_dpwssd_epi32(sum, a, b);
}

INLINE vf vf_load_f16(const uint16_t *p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE vf vf_load_f16_n(const uint16_t *p, size_t n) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

INLINE vf vf_load_bf16(const uint16_t *p) {
        __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

        return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

INLINE void vf_store_f16(uint16_t *p, vf v) {
        _mm256_storeu_si256((__m256i *)p,
                            _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vd vd_zero(void) {
        return _mm512_setzero_pd();
}

/* a[0], a[1] += squares of the lower and upper lanes of v. */
INLINE void vd_add_squares(vd a[2], vf v) {
        vd low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        vd high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));

        a[0] = _mm512_add_pd(a[0], _mm512_mul_pd(low, low));
        a[1] = _mm512_add_pd(a[1], _mm512_mul_pd(high, high));
}

/* The sum of sixteen doubles, in the order of rms_norm's tree. */
INLINE double vd_sum_16(vd v[1][2]) {
        vd sum = _mm512_add_pd(v[0][0], v[0][1]);

        return tree_sum_doubles(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd(sum, 1));
}

INLINE int32_t vi_sum(vi v) {
        return tree_sum_integers(_mm256_add_epi32(_mm512_castsi512_si256(v),
                                                  _mm512_extracti64x4_epi64(v, 1)));
}

/* The largest lane; none is a NaN. */
INLINE float vf_largest(vf v) {
        return tree_max(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
