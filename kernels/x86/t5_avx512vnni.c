/* Base-3 ternary matrices with AVX-512 but without byte permutations: tables of 16 for vpshufb,
 * and a mask register where 16 entries are not enough. */
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/t5_tables.h"
#include "kernels/x86/x86.h"

#define KERNEL(name) name##_avx512vnni

/* step, high, high_next: index is the upper nibble; high_next holds for bytes from `step` on. */
struct tables {
        __m512i step, high, high_next, low, low_next;
};

struct halves {
        __m512i high, low;
};

#define HIGH_AT(n) T5_HIGH(T5_FIRST(n))
#define HIGH_NEXT(n) T5_HIGH(T5_FIRST(n) + 1)
#define LOW_NEXT(x) T5_LOW((x) < 12 ? (x) + 16 : 27)

INLINE __m512i load_table(const uint8_t table[16]) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
}

INLINE struct tables load_tables(void) {
        static const uint8_t step[16] = { T5_16(T5_STEP, 0) }, high[16] = { T5_16(HIGH_AT, 0) },
                             high_next[16] = { T5_16(HIGH_NEXT, 0) },
                             low[16] = { T5_16(T5_LOW, 0) }, low_next[16] = { T5_16(LOW_NEXT, 0) };

        return (struct tables){ .step = load_table(step),
                                .high = load_table(high),
                                .high_next = load_table(high_next),
                                .low = load_table(low),
                                .low_next = load_table(low_next) };
}

INLINE struct halves split(const struct tables *t, __m512i v) {
        const __m512i fifteen = _mm512_set1_epi8(15);
        const __m512i n = _mm512_and_si512(_mm512_srli_epi16(v, 4), fifteen);
        const __mmask64 past = _mm512_cmpge_epu8_mask(v, _mm512_shuffle_epi8(t->step, n));
        const __m512i high = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(t->high, n), past,
                                                      t->high_next, n);
        const __m512i rest = _mm512_sub_epi8(v, high); /* byte % 28, and d4 in bits 6 and 7 */
        const __m512i x = _mm512_and_si512(rest, fifteen);
        const __mmask64 from_16 = _mm512_test_epi8_mask(rest, _mm512_set1_epi8(16));

        return (struct halves){
                .high = high,
                .low = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(t->low, x), from_16,
                                                t->low_next, x),
        };
}

#include "kernels/x86/t5_avx512_tmpl.c"
#include "kernels/x86/t5_by_col_avx512_tmpl.c"
