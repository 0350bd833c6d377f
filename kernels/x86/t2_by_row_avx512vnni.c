/* Ternary matrices by row at 2 bits a weight, on 512 bits: codes are masked where they stand. */
#include "kernels/x86/t2_skip_avx512vnni.h"

#define BY_ROW(name) matmul_t2_##name##_avx512vnni
#define ROW_BYTES(cols) t2_row_bytes(cols)
#define PLACE(k) (k)

enum { CODES = 4, PLACES = 4, PLACE_BITS = 2 };

struct tables {
        __m512i mask;
};

struct split {
        __m512i v;
};

INLINE struct tables load_tables(void) {
        return (struct tables){ .mask = code_mask(0) };
}

INLINE struct split split(const struct tables *t, __m512i v) {
        return (struct split){ .v = v };
}

INLINE __m512i code(const struct tables *t, const struct split *s, unsigned k) {
        return _mm512_and_si512(shift_down(s->v, k), t->mask);
}

INLINE __m512i code_in_place(const struct tables *t, const struct split *s, unsigned k) {
        return _mm512_and_si512(s->v, code_mask(k));
}

#include "kernels/x86/by_row_avx512_tmpl.c"
