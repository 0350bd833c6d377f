/* Base-3 ternary matrices on 256 bits, included after t2_256_tmpl.c, whose gemm it shares. The
 * codes of 32 bytes come from tables of 16: the upper nibble and one comparison give byte / 28, the
 * rest is looked up in two halves. vpshufb gives 0 where bit 7 of the index is set.
 *
 * Codes stay below 4 (the one in the middle of `low` below 3, so that 16 steps of 4 times this code
 * fit 16 bits, see matmul_avx2.c).
 */
#include "kernels/x86/t5_tables.h"

struct t5_tables {
        __m256i step, first, below, low, low_next, d3, d4;
};

/* The five codes of 32 bytes; code 1 comes four fold unless asked for exactly. */
struct t5_codes {
        __m256i d[T5_TILES];
};

#define T5_LOW_NEXT(x) ((x) < 12 ? T5_LOW((x) + 16) : 0)

INLINE __m256i t5_table(const uint8_t table[16]) {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
}

INLINE struct t5_tables t5_load_tables(void) {
        static const uint8_t step[16] = { T5_16(T5_STEP, 0) }, first[16] = { T5_16(T5_FIRST, 0) },
                             below[16] = { T5_16(T5_BELOW, 0) }, low[16] = { T5_16(T5_LOW, 0) },
                             low_next[16] = { T5_16(T5_LOW_NEXT, 0) }, d3[16] = { T5_16(T5_D3, 0) },
                             d4[16] = { T5_16(T5_D4, 0) };

        return (struct t5_tables){ .step = t5_table(step),
                                   .first = t5_table(first),
                                   .below = t5_table(below),
                                   .low = t5_table(low),
                                   .low_next = t5_table(low_next),
                                   .d3 = t5_table(d3),
                                   .d4 = t5_table(d4) };
}

INLINE struct t5_codes t5_decode(const struct t5_tables *t, __m256i v, bool exact) {
        const __m256i mask = _mm256_set1_epi8(3);
        const __m256i n = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
        const __m256i past = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_shuffle_epi8(t->step, n)),
                                               v);
        const __m256i w = _mm256_sub_epi8(_mm256_shuffle_epi8(t->first, n), past);
        const __m256i x = _mm256_sub_epi8(v, _mm256_shuffle_epi8(t->below, w));
        const __m256i below_16 = _mm256_add_epi8(x, _mm256_set1_epi8(0x70));
        const __m256i from_16 = _mm256_sub_epi8(x, _mm256_set1_epi8(16));
        const __m256i low = _mm256_or_si256(_mm256_shuffle_epi8(t->low, below_16),
                                            _mm256_shuffle_epi8(t->low_next, from_16));
        const __m256i d1 = exact ? _mm256_and_si256(_mm256_srli_epi16(low, 2), mask)
                                 : _mm256_and_si256(low, _mm256_set1_epi8(12));

        return (struct t5_codes){ .d = {
                _mm256_and_si256(low, mask), d1, _mm256_and_si256(_mm256_srli_epi16(low, 4), mask),
                _mm256_shuffle_epi8(t->d3, w), _mm256_shuffle_epi8(t->d4, w) } };
}

INLINE const uint8_t *slab_codes(const struct weight_matrix *w, uint32_t tile) {
        size_t slab_bytes = (size_t)groups_of(w->cols) * T5_GROUP_BYTES;

        return (const uint8_t *)w->codes + tile / T5_TILES * slab_bytes;
}

/* sum[k] += sum of code k * q over 64 columns, for one half of the lanes. */
INLINE void t5_add_group(__m256i sum[T5_TILES], const struct t5_tables *tables, const uint8_t *p,
                         const int8_t *q) {
        __m256i a[T5_TILES];

        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                a[k] = _mm256_setzero_si256();
        for (unsigned s = 0; s < STEPS; s++) {
                const struct t5_codes c = t5_decode(tables, load_codes(p + BLOCK_BYTES * s), false);

                UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                        a[k] = dot_step(a[k], c.d[k], broadcast_q(q + 4 * s));
        }
        UNROLL for (unsigned k = 0; k < T5_TILES; k++) {
                __m256i dot = dot_finish(a[k]);

                sum[k] = _mm256_add_epi32(sum[k], k == 1 ? _mm256_srai_epi32(dot, 2) : dot);
        }
}

/* The tiles of one slab from `tile` on, at most up to `end`. */
static void t5_slab_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                         uint32_t tile, uint32_t end, int32_t correction) {
        const struct t5_tables tables = t5_load_tables();
        const uint32_t groups = groups_of(w->cols);
        const uint8_t *p = slab_codes(w, tile);
        __m256i sums[HALVES][T5_TILES];

        for (unsigned h = 0; h < HALVES; h++)
                for (unsigned k = 0; k < T5_TILES; k++)
                        sums[h][k] = _mm256_set1_epi32(-correction);
        for (uint32_t g = 0; g < groups; g++, p += T5_GROUP_BYTES)
                for (unsigned h = 0; h < HALVES; h++)
                        t5_add_group(sums[h], &tables, p + 32 * h,
                                     x->q + (size_t)g * GROUP_COLS);
        for (unsigned k = 0; k < T5_TILES && tile + k < end; k++) {
                const __m256i sum[HALVES] = { sums[0][k], sums[1][k] };

                store_row(y + (size_t)(tile + k) * TILE_ROWS, sum, x->inverse[0],
                          w->scales + (size_t)(tile + k) * TILE_ROWS);
        }
}

INLINE void t5_unpack(struct unpacked ret[T5_TILES], const struct t5_tables *tables,
                      const uint8_t *p) {
        for (unsigned s = 0; s < STEPS; s++)
                for (unsigned h = 0; h < HALVES; h++) {
                        const struct t5_codes c = t5_decode(
                                tables, load_codes(p + BLOCK_BYTES * s + 32 * h), true);

                        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                                ret[k].u[s][h] = c.d[k];
                }
}

/* 64 columns of five tiles and n tokens. A function of its own, since gcc otherwise computes the
 * addresses of all activations outside and then reloads them: half as fast. */
static __attribute__((noinline)) void t5_add_tiles(__m256i (*sums)[TOKENS_MAX][HALVES],
                                                   const struct unpacked codes[T5_TILES],
                                                   const int8_t *q, size_t stride, uint32_t n) {
        const __m256i one[HALVES] = { _mm256_set1_epi32(1), _mm256_set1_epi32(1) };

        for (unsigned k = 0; k < T5_TILES; k++)
                add_all_tokens(sums[k], &codes[k], q, stride, one, n);
}

static void t5_slab_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                         const struct activations *x, uint32_t t0, uint32_t n,
                         const int32_t *correction, uint32_t tile, uint32_t end) {
        const struct t5_tables tables = t5_load_tables();
        const uint32_t groups = groups_of(w->cols);
        const uint8_t *p = slab_codes(w, tile);
        const int8_t *q = x->q + (size_t)t0 * x->stride;
        __m256i sums[T5_TILES][TOKENS_MAX][HALVES];
        struct unpacked codes[T5_TILES];

        for (unsigned k = 0; k < T5_TILES; k++)
                for (uint32_t t = 0; t < n; t++)
                        sums[k][t][0] = sums[k][t][1] = _mm256_set1_epi32(-correction[t]);
        for (uint32_t g = 0; g < groups; g++, p += T5_GROUP_BYTES, q += GROUP_COLS) {
                t5_unpack(codes, &tables, p);
                t5_add_tiles(sums, codes, q, x->stride, n);
        }
        for (unsigned k = 0; k < T5_TILES && tile + k < end; k++)
                for (uint32_t t = 0; t < n; t++)
                        store_row(y + t * y_stride + (size_t)(tile + k) * TILE_ROWS, sums[k][t],
                                  x->inverse[t0 + t], w->scales + (size_t)(tile + k) * TILE_ROWS);
}

void KERNEL(matmul_t5_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        int32_t correction[TOKENS_MAX];

        if (x->n == 1) {
                correction[0] = total_sum(x, 0);
                for (uint32_t tile = tile_begin; tile < tile_end; tile += T5_TILES)
                        t5_slab_gemv(y, w, x, tile, tile_end, correction[0]);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t t = 0; t < n; t++)
                        correction[t] = total_sum(x, t0 + t);
                for (uint32_t tile = tile_begin; tile < tile_end; tile += T5_TILES)
                        t5_slab_gemm(y + t0 * y_stride, y_stride, w, x, t0, n, correction, tile,
                                     tile_end);
        }
}
