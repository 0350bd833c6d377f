/* Base-3 ternary matrices with AVX-512 VBMI: vpermb looks 64 bytes up in a table of 64 and ignores
 * the upper two bits of the index, so no mask is needed before it. `high` is congruent to the upper
 * part of the byte modulo 64 and so serves twice: as a linear function of two codes, and taken off
 * the byte it leaves the lower part in those six bits. */
#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/t5_tables.h"
#include "kernels/x86/x86.h"

#define KERNEL(name) name##_avx512vbmi

struct tables {
        __m512i high, low;
};

struct halves {
        __m512i high, low;
};

/* Index: bits 2 to 7 of the byte; 28 is 7 * 4. */
#define HIGH_AT(s) T5_HIGH((s) / 7)
/* Index: byte % 28, in six bits of which the values from 28 on do not occur. */
#define LOW_AT(x) ((x) < 28 ? T5_LOW(x) : 0)

INLINE struct tables load_tables(void) {
        static const uint8_t high[64] = T5_64(HIGH_AT), low[64] = T5_64(LOW_AT);

        return (struct tables){ .high = _mm512_loadu_si512(high), .low = _mm512_loadu_si512(low) };
}

INLINE struct halves split(const struct tables *t, __m512i v) {
        const __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(v, 2), t->high);

        return (struct halves){
                .high = high,
                .low = _mm512_permutexvar_epi8(_mm512_sub_epi8(v, high), t->low),
        };
}

#include "kernels/x86/t5_avx512_tmpl.c"
#include "kernels/x86/t5_by_col_avx512_tmpl.c"
