/* Integer matrix products with AVX-VNNI: vpdpbusd in its VEX encoding.
 * Unsigned codes or weights times signed activations, exact in 32 bits. */
#include "kernels/x86/vec256.h"
#include "kernels/x86/x86.h"

#define KERNEL(name) name##_avxvnni

INLINE __m256i dot_step(__m256i acc, __m256i codes, __m256i q) {
        return _mm256_dpbusd_avx_epi32(acc, codes, q);
}

INLINE __m256i dot_finish(__m256i acc) {
        return acc;
}

enum { S8_BIAS = 128 };

struct s8_codes {
        __m256i value;
};

INLINE struct s8_codes s8_load(const uint8_t *p) {
        return (struct s8_codes){ .value = load_codes(p) };
}

INLINE __m256i s8_step(__m256i acc, struct s8_codes codes, __m256i q) {
        return _mm256_dpbusd_avx_epi32(acc, codes.value, q);
}

#include "kernels/x86/s8_256_tmpl.c"
#include "kernels/x86/t2_256_tmpl.c"
#include "kernels/x86/t5_256_tmpl.c"
#include "kernels/x86/group_256_tmpl.c"
#include "kernels/x86/by_row_256_tmpl.c"
#include "kernels/x86/t2_by_col_256_tmpl.c"
#include "kernels/x86/t5_by_col_256_tmpl.c"
