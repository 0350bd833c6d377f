/* What the ternary products by row and by column have in common on 512 bits.
 *
 * One token: what is left out is only saved if it is not fetched either, and what is left over is
 * no stream that the processor could follow. So the wanted rows or columns are listed first and
 * fetched ahead by the list, into the L2 cache, which can wait for more lines than the L1. Even so
 * scattered lines come at about half the speed of a stream (measured on one core: 10 to 15 against
 * 29 GB/s), so above a certain share everything is read in order.
 *
 * Several tokens: vectors are turned or interleaved until a lane is a row; then the work is that of
 * t2_row. */
#pragma once

#include "kernels/x86/dot_avx512vnni.h"
#include "kernels/x86/total_sum.h"
#include "kernels/x86/x86.h"

enum {
        LIST_MAX = 8192,            /* entries of a list, a multiple of 64 */
        LIST_ROOM = LIST_MAX + 128, /* and what a vector may write or fetching ahead may read */
};

/* Write the wanted numbers of 16 (16 entries are written), return how many. */
INLINE uint32_t put_wanted(uint32_t *list, uint32_t first, __mmask16 wanted) {
        const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                                15);

        _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(
                                          wanted, _mm512_add_epi32(_mm512_set1_epi32((int)first),
                                                                   lanes)));
        return (uint32_t)__builtin_popcount(wanted);
}

/* The codes under mask k to where mask 0 is. */
INLINE __m512i shift_down(__m512i v, unsigned k) {
        switch (k) {
        case 1:
                return _mm512_srli_epi16(v, 2);
        case 2:
                return _mm512_srli_epi16(v, 4);
        case 3:
                return _mm512_srli_epi16(v, 6);
        default:
                return v;
        }
}
