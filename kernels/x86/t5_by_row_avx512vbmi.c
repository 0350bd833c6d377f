/* Base-3 ternary matrices by row with AVX-512 VBMI: vpermb looks 64 bytes up in a table of 64 and
 * ignores the upper two bits of the index, so no mask is needed before it. One token is a stream:
 * there a mask is cheaper than one more table, since other units do it. */
#include "kernels/x86/t2_skip_avx512vnni.h"
#include "kernels/x86/t5_tables.h"

#define BY_ROW(name) matmul_t5_##name##_avx512vbmi
#define ROW_BYTES(cols) t5_row_bytes(cols)
#define PLACE(k) ((k) < 3 ? (k) : 0)

enum { CODES = T5_TILES, PLACES = 3 };

/* Index: bits 2 to 7 of the byte (28 is 7 * 4) for `below`, d[3] and d[4], byte % 28 for the
 * others; `low` has the codes 0 to 2 as t2 has them. */
struct tables {
        __m512i below, low, d[T5_TILES];
};

struct split {
        __m512i upper, lower;
};

#define BELOW_AT(s) T5_BELOW((s) / 7)
#define D3_AT(s) T5_D3((s) / 7)
#define D4_AT(s) T5_D4((s) / 7)
#define D0_AT(x) ((x) % 3)
#define D1_AT(x) ((x) / 3 % 3)
#define D2_AT(x) ((x) / 9 & 3)
#define LOW_AT(x) (D0_AT(x) | D1_AT(x) << 2 | D2_AT(x) << 4)

INLINE struct tables load_tables(void) {
        static const uint8_t below[64] = T5_64(BELOW_AT), low[64] = T5_64(LOW_AT),
                             d[T5_TILES][64] = { T5_64(D0_AT), T5_64(D1_AT), T5_64(D2_AT),
                                                 T5_64(D3_AT), T5_64(D4_AT) };
        struct tables t = { .below = _mm512_loadu_si512(below), .low = _mm512_loadu_si512(low) };

        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                t.d[k] = _mm512_loadu_si512(d[k]);
        return t;
}

INLINE struct split split(const struct tables *t, __m512i v) {
        const __m512i upper = _mm512_srli_epi16(v, 2);

        return (struct split){
                .upper = upper,
                .lower = _mm512_sub_epi8(v, _mm512_permutexvar_epi8(upper, t->below)),
        };
}

INLINE __m512i code(const struct tables *t, const struct split *s, unsigned k) {
        return _mm512_permutexvar_epi8(k < 3 ? s->lower : s->upper, t->d[k]);
}

INLINE __m512i code_in_place(const struct tables *t, const struct split *s, unsigned k) {
        if (k > 2)
                return code(t, s, k);
        return _mm512_and_si512(_mm512_permutexvar_epi8(s->lower, t->low), code_mask(k));
}

#include "kernels/x86/by_row_avx512_tmpl.c"
