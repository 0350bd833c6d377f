/* Base-3 ternary matrices by row with AVX-512 but without byte permutations: tables of 16 for
 * vpshufb. The upper nibble and one comparison give byte / 28, the rest is looked up in two
 * halves. */
#include "kernels/x86/t2_skip_avx512vnni.h"
#include "kernels/x86/t5_tables.h"

#define BY_ROW(name) matmul_t5_##name##_avx512vnni
#define ROW_BYTES(cols) t5_row_bytes(cols)
#define PLACE(k) ((k) < 3 ? (k) : 0)

enum { CODES = T5_TILES, PLACES = 3, PLACE_BITS = 2 };

/* step, first: index is the upper nibble; below, d3, d4: byte / 28; low, low_next: the lower nibble
 * of byte % 28. */
struct tables {
        __m512i step, first, below, low, low_next, d3, d4;
};

/* w: byte / 28; low has the codes 0 to 2 as t2 has them. */
struct split {
        __m512i w, low;
};

#define LOW_NEXT(x) T5_LOW((x) < 12 ? (x) + 16 : 27)

INLINE __m512i load_table(const uint8_t table[16]) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
}

INLINE struct tables load_tables(void) {
        static const uint8_t step[16] = { T5_16(T5_STEP, 0) }, first[16] = { T5_16(T5_FIRST, 0) },
                             below[16] = { T5_16(T5_BELOW, 0) }, low[16] = { T5_16(T5_LOW, 0) },
                             low_next[16] = { T5_16(LOW_NEXT, 0) }, d3[16] = { T5_16(T5_D3, 0) },
                             d4[16] = { T5_16(T5_D4, 0) };

        return (struct tables){ .step = load_table(step),
                                .first = load_table(first),
                                .below = load_table(below),
                                .low = load_table(low),
                                .low_next = load_table(low_next),
                                .d3 = load_table(d3),
                                .d4 = load_table(d4) };
}

INLINE struct split split(const struct tables *t, __m512i v) {
        const __m512i fifteen = _mm512_set1_epi8(15);
        const __m512i n = _mm512_and_si512(_mm512_srli_epi16(v, 4), fifteen);
        const __mmask64 past = _mm512_cmpge_epu8_mask(v, _mm512_shuffle_epi8(t->step, n));
        const __m512i first = _mm512_shuffle_epi8(t->first, n);
        const __m512i w = _mm512_mask_sub_epi8(first, past, first, _mm512_set1_epi8(-1));
        const __m512i rest = _mm512_sub_epi8(v, _mm512_shuffle_epi8(t->below, w));
        const __mmask64 from_16 = _mm512_test_epi8_mask(rest, _mm512_set1_epi8(16));
        const __m512i x = _mm512_and_si512(rest, fifteen);

        return (struct split){
                .w = w,
                .low = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(t->low, x), from_16,
                                                t->low_next, x),
        };
}

INLINE __m512i code_in_place(const struct tables *t, const struct split *s, unsigned k) {
        if (k > 2)
                return _mm512_shuffle_epi8(k == 3 ? t->d3 : t->d4, s->w);
        return _mm512_and_si512(s->low, code_mask(k));
}

INLINE __m512i code(const struct tables *t, const struct split *s, unsigned k) {
        return shift_down(code_in_place(t, s, k), PLACE(k));
}

#include "kernels/x86/by_row_avx512_tmpl.c"
