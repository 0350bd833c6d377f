/* Base-3 ternary matrices by row with AVX-512 VBMI: vpermb looks 64 bytes up in a table of 64 and
 * ignores the upper two bits of the index, so no mask is needed before it. What is taken off a byte
 * before its lower codes are looked up is such that code 4 is left above them. */
#include "kernels/x86/t2_skip_avx512vnni.h"
#include "kernels/x86/t5_tables.h"

#define BY_ROW(name) matmul_t5_##name##_avx512vbmi
#define ROW_BYTES(cols) t5_row_bytes(cols)
#define PLACE(k) ((k) == 4)

enum { CODES = T5_TILES, PLACES = 2, PLACE_BITS = 6 };

/* Index: bits 2 to 7 of the byte (28 is 7 * 4) for `high`, d[3] and d[4], byte % 28 for the
 * others. */
struct tables {
        __m512i high, d[T5_TILES];
};

/* upper: the byte shifted; lower: byte % 28 and, 64 fold, code 4. */
struct split {
        __m512i upper, lower;
};

#define HIGH_AT(s) T5_HIGH((s) / 7)
#define D3_AT(s) T5_D3((s) / 7)
#define D4_AT(s) T5_D4((s) / 7)
#define D0_AT(x) ((x) % 3)
#define D1_AT(x) ((x) / 3 % 3)
#define D2_AT(x) ((x) / 9 & 3)

INLINE struct tables load_tables(void) {
        static const uint8_t high[64] = T5_64(HIGH_AT),
                             d[T5_TILES][64] = { T5_64(D0_AT), T5_64(D1_AT), T5_64(D2_AT),
                                                 T5_64(D3_AT), T5_64(D4_AT) };
        struct tables t = { .high = _mm512_loadu_si512(high) };

        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                t.d[k] = _mm512_loadu_si512(d[k]);
        return t;
}

INLINE struct split split(const struct tables *t, __m512i v) {
        const __m512i upper = _mm512_srli_epi16(v, 2);

        return (struct split){
                .upper = upper,
                .lower = _mm512_sub_epi8(v, _mm512_permutexvar_epi8(upper, t->high)),
        };
}

INLINE __m512i code(const struct tables *t, const struct split *s, unsigned k) {
        return _mm512_permutexvar_epi8(k < 3 ? s->lower : s->upper, t->d[k]);
}

INLINE __m512i code_in_place(const struct tables *t, const struct split *s, unsigned k) {
        return k == 4 ? _mm512_and_si512(s->lower, code_mask(3)) : code(t, s, k);
}

#include "kernels/x86/by_row_avx512_tmpl.c"
