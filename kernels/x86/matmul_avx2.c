/* Integer matrix products with AVX2: vpmaddubsw multiplies unsigned by signed bytes and adds pairs
 * in 16 bits, which is exact only while the sums stay small. Ternary: one group of 64 columns adds
 * up to at most 24384 (8 steps of codes up to 12), so the widening to 32 bits happens per group.
 * 8 bits: |weight| <= 128 times an activation that carries the weight's sign is at most 2 * 128 *
 * 127 = 32512 per pair, so every step is widened. */
#include "kernels/x86/vec256.h"
#include "kernels/x86/x86.h"

#define KERNEL(name) name##_avx2

INLINE __m256i dot_step(__m256i acc, __m256i codes, __m256i q) {
        return _mm256_add_epi16(acc, _mm256_maddubs_epi16(codes, q));
}

INLINE __m256i dot_finish(__m256i acc) {
        return _mm256_madd_epi16(acc, _mm256_set1_epi16(1));
}

enum { S8_BIAS = 0 };

struct s8_codes {
        __m256i value, magnitude;
};

INLINE struct s8_codes s8_load(const uint8_t *p) {
        __m256i v = _mm256_xor_si256(load_codes(p), _mm256_set1_epi8((char)0x80));

        return (struct s8_codes){ .value = v, .magnitude = _mm256_abs_epi8(v) };
}

INLINE __m256i s8_step(__m256i acc, struct s8_codes codes, __m256i q) {
        __m256i pairs = _mm256_maddubs_epi16(codes.magnitude, _mm256_sign_epi8(q, codes.value));

        return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "kernels/x86/s8_256_tmpl.c"
#include "kernels/x86/t2_256_tmpl.c"
#include "kernels/x86/t5_256_tmpl.c"
#include "kernels/x86/group_256_tmpl.c"
#include "kernels/x86/by_row_256_tmpl.c"
#include "kernels/x86/t2_by_col_256_tmpl.c"
#include "kernels/x86/t5_by_col_256_tmpl.c"
