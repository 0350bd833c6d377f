/* Base-3 ternary matrices on 512 bits, written once for both ways to look bytes up. The including
 * file defines KERNEL(name), struct tables and
 *   load_tables()
 *   split(tables, v)   of 64 bytes v: .high = 28 * d3 + 20 * d4, .low = d0 | d1 << 2 | d2 << 4
 *
 * The five codes of a byte are never separated. They all meet the same activations, so five sums
 * over five linear functions of the codes are as good, and three of these cost nothing: the byte,
 * `high` and `low`. Two masks of `low` make five. Once per row the equations are solved, in
 * integers and without remainder.
 *
 * Four tokens side by side fill the registers (20 sums), and then decoding a block costs less than
 * multiplying it; more tokens walk over the slab again, which is in the L2 cache by then. Unpacking
 * the codes once for many tokens was slower: 201 against 210 GMAC/s for 64 tokens, 144 against 201
 * for 8.
 *
 * Memory must never wait for arithmetic: a slab is some microseconds of one stream, and the
 * subtraction of the activation sum, division and scaling at its end, if done at once, cost a tenth
 * of the bandwidth, since the processor loads nothing meanwhile. So slabs leave integers in y,
 * which become floats when all slabs are done, and codes are fetched far ahead, across the end of a
 * slab, into the L2 cache, which can wait for more lines than the L1: one thread reads 23 GB/s so;
 * fetched into the L1 (NTA) or not at all 20.
 */
#include "kernels/x86/dot_avx512vnni.h"

enum {
        /* Groups whose sums of whole bytes still fit 32 bits: 1024 * 16 * 4 * 255 * 127 < 2^31 */
        SPAN_GROUPS = 1024,
        TOKENS = 4, /* side by side */
        AHEAD_BYTES = 16384, /* past the end of the matrix is harmless */
};

/* Sums of one lane over one span: of the byte, of .high, and of 6, 4 and 2 bits of .low. */
enum { SUM_BYTE, SUM_HIGH, SUM_6, SUM_4, SUM_2, SUMS };

INLINE const uint8_t *slab_codes(const struct weight_matrix *w, uint32_t tile) {
        size_t slab_bytes = (size_t)groups_of(w->cols) * T5_GROUP_BYTES;

        return (const uint8_t *)w->codes + tile / T5_TILES * slab_bytes;
}

/* One vector of codes and m tokens. */
INLINE void add_vector(__m512i a[][SUMS], const struct tables *tables, __m512i v, const int8_t *q,
                       size_t stride, unsigned m) {
        const struct halves s = split(tables, v);
        const __m512i low_4 = _mm512_and_si512(s.low, _mm512_set1_epi8(15)),
                      low_2 = _mm512_and_si512(s.low, _mm512_set1_epi8(3));

        UNROLL for (unsigned i = 0; i < m; i++) {
                const __m512i x = broadcast_q(q + i * stride);

                a[i][SUM_BYTE] = _mm512_dpbusd_epi32(a[i][SUM_BYTE], v, x);
                a[i][SUM_HIGH] = _mm512_dpbusd_epi32(a[i][SUM_HIGH], s.high, x);
                a[i][SUM_6] = _mm512_dpbusd_epi32(a[i][SUM_6], s.low, x);
                a[i][SUM_4] = _mm512_dpbusd_epi32(a[i][SUM_4], low_4, x);
                a[i][SUM_2] = _mm512_dpbusd_epi32(a[i][SUM_2], low_2, x);
                UNROLL for (unsigned j = 0; j < SUMS; j++)
                        OPAQUE_VECTOR(a[i][j]);
        }
}

/* One block and m tokens. */
INLINE void add_block(__m512i a[][SUMS], const struct tables *tables, const uint8_t *p,
                      const int8_t *q, size_t stride, unsigned m) {
        __m512i v = _mm512_loadu_si512(p);

        OPAQUE_VECTOR(v);
        if (m < TOKENS)
                _mm_prefetch(p + AHEAD_BYTES, _MM_HINT_T1);
        else /* the slab will be read again from the L2 cache */
                _mm_prefetch(p + AHEAD_BYTES, _MM_HINT_T0);
        add_vector(a, tables, v, q, stride, m);
}

/* total[k] += sum of d(k) * q. With D(k) these sums: byte = 28 D3 + 84 D4 + D0 + 3 D1 + 9 D2, and
 * high = 28 D3 + 20 D4. Division by 7 without remainder is multiplication by its inverse. */
INLINE void solve(__m512i total[T5_TILES], const __m512i a[SUMS]) {
        const __m512i inverse_of_7 = _mm512_set1_epi32((int)0xb6db6db7);
        __m512i d0 = a[SUM_2], d1 = _mm512_srai_epi32(_mm512_sub_epi32(a[SUM_4], a[SUM_2]), 2),
                d2 = _mm512_srai_epi32(_mm512_sub_epi32(a[SUM_6], a[SUM_4]), 4), d3, d4, lower;

        lower = _mm512_add_epi32(d0, _mm512_mullo_epi32(d1, _mm512_set1_epi32(3)));
        lower = _mm512_add_epi32(lower, _mm512_mullo_epi32(d2, _mm512_set1_epi32(9)));
        d4 = _mm512_sub_epi32(_mm512_sub_epi32(a[SUM_BYTE], a[SUM_HIGH]), lower);
        d4 = _mm512_srai_epi32(d4, 6);
        d3 = _mm512_srai_epi32(a[SUM_HIGH], 2);
        d3 = _mm512_sub_epi32(d3, _mm512_mullo_epi32(d4, _mm512_set1_epi32(5)));
        d3 = _mm512_mullo_epi32(d3, inverse_of_7);
        total[0] = _mm512_add_epi32(total[0], d0);
        total[1] = _mm512_add_epi32(total[1], d1);
        total[2] = _mm512_add_epi32(total[2], d2);
        total[3] = _mm512_add_epi32(total[3], d3);
        total[4] = _mm512_add_epi32(total[4], d4);
}

/* total[i] += sums of token i over `blocks` blocks, m tokens. */
INLINE void add_span(__m512i total[][T5_TILES], const struct tables *tables, const uint8_t *p,
                     const int8_t *q, size_t stride, uint32_t blocks, unsigned m) {
        __m512i a[TOKENS][SUMS];

        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned j = 0; j < SUMS; j++)
                        a[i][j] = _mm512_setzero_si512();
        }
        for (uint32_t b = 0; b < blocks; b += 4, p += 4 * BLOCK_BYTES, q += 16) {
                UNROLL for (unsigned i = 0; i < 4; i++)
                        add_block(a, tables, p + BLOCK_BYTES * i, q + 4 * i, stride, m);
        }
        UNROLL for (unsigned i = 0; i < m; i++)
                solve(total[i], a[i]);
}

/* Sums of codes times activations of one slab as integers in y: tiles from `tile` on, at most up to
 * `end`, tokens t .. t + m - 1. */
INLINE void slab_tokens(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t tile, uint32_t end, uint32_t t,
                        unsigned m) {
        const struct tables tables = load_tables();
        const uint32_t groups = groups_of(w->cols);
        const uint8_t *p = slab_codes(w, tile);
        const int8_t *q = x->q + (size_t)t * x->stride;
        __m512i total[TOKENS][T5_TILES];

        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                        total[i][k] = _mm512_setzero_si512();
        }
        for (uint32_t begin = 0; begin < groups; begin += SPAN_GROUPS) {
                uint32_t span = groups - begin < SPAN_GROUPS ? groups - begin : SPAN_GROUPS;

                add_span(total, &tables, p + (size_t)begin * T5_GROUP_BYTES,
                         q + (size_t)begin * GROUP_COLS, x->stride, span * STEPS, m);
        }
        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                        if (tile + k < end)
                                _mm512_storeu_si512(y + (t + i) * y_stride +
                                                    (size_t)(tile + k) * TILE_ROWS, total[i][k]);
        }
}

static void slab(float *y, size_t y_stride, const struct weight_matrix *w,
                 const struct activations *x, uint32_t tile, uint32_t end) {
        uint32_t t = 0;

        for (; t + 4 <= x->n; t += 4)
                slab_tokens(y, y_stride, w, x, tile, end, t, 4);
        if (x->n & 2) {
                slab_tokens(y, y_stride, w, x, tile, end, t, 2);
                t += 2;
        }
        if (x->n & 1)
                slab_tokens(y, y_stride, w, x, tile, end, t, 1);
}

/* The integers in y become results. */
static void finish(float *y, const struct weight_matrix *w, const struct activations *x, uint32_t t,
                   uint32_t tile_begin, uint32_t tile_end) {
        const __m512i correction = _mm512_set1_epi32(total_sum(x, t));

        for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
                float *p = y + (size_t)tile * TILE_ROWS;

                store_row(p, _mm512_sub_epi32(_mm512_loadu_si512(p), correction), x->inverse[t],
                          w->scales + (size_t)tile * TILE_ROWS);
        }
}

void KERNEL(matmul_t5_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        for (uint32_t tile = tile_begin; tile < tile_end; tile += T5_TILES)
                slab(y, y_stride, w, x, tile, tile_end);
        for (uint32_t t = 0; t < x->n; t++)
                finish(y + t * y_stride, w, x, t, tile_begin, tile_end);
}
