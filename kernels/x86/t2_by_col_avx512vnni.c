/* Ternary matrices by column on 512 bits (t2_skip_avx512vnni.h). Four columns of a panel are
 * interleaved byte by byte, so that a lane is a row, and each of the 16 tiles of the panel has an
 * accumulator. */
#include "kernels/x86/by_col_avx512vnni.h"

INLINE void add_columns(__m512i a[4][4], const uint8_t *const p[4], const int8_t *q) {
        __m512i v[4], step = broadcast_q(q);

        interleave(v, p);
        UNROLL for (unsigned j = 0; j < 4; j++) {
                UNROLL for (unsigned k = 0; k < 4; k++) {
                        a[j][k] = _mm512_dpbusd_epi32(
                                a[j][k], _mm512_and_si512(v[j], code_mask(k)), step);
                        OPAQUE_VECTOR(a[j][k]);
                }
        }
}

/* Not fetched ahead: here the processor does it better (26.8 against 23.5 GB/s). */
INLINE void add_stream(__m512i a[4][4], const uint8_t *p, const struct columns *l) {
        for (uint32_t i = 0; i < l->n; i += 4, p += 4 * BLOCK_BYTES) {
                const uint8_t *const four[4] = { p, p + BLOCK_BYTES, p + 2 * BLOCK_BYTES,
                                                 p + 3 * BLOCK_BYTES };

                add_columns(a, four, l->q + i);
        }
}

INLINE void add_listed(__m512i a[4][4], const uint8_t *panel, const struct columns *l) {
        for (uint32_t i = 0; i < l->n; i += 4) {
                const uint8_t *four[4];

                UNROLL for (unsigned c = 0; c < 4; c++) {
                        four[c] = panel + (size_t)l->column[i + c] * BLOCK_BYTES;
                        _mm_prefetch(panel + (size_t)l->column[i + c + LISTED_AHEAD] * BLOCK_BYTES,
                                     _MM_HINT_T1);
                }
                add_columns(a, four, l->q + i);
        }
}

/* total[4 * j + k] += the columns of the list. LIST_MAX columns that count 64 fold still fit 32
 * bits. Not inlined: gcc would keep some of the sums in memory. */
static __attribute__((noinline)) void add_panel(__m512i *total, const uint8_t *panel,
                                                const struct columns *l) {
        __m512i a[4][4];

        UNROLL for (unsigned j = 0; j < 4; j++) {
                UNROLL for (unsigned k = 0; k < 4; k++)
                        a[j][k] = _mm512_setzero_si512();
        }
        if (l->stream)
                add_stream(a, panel + (size_t)l->begin * BLOCK_BYTES, l);
        else
                add_listed(a, panel, l);
        UNROLL for (unsigned j = 0; j < 4; j++) {
                UNROLL for (unsigned k = 0; k < 4; k++)
                        total[4 * j + k] = _mm512_add_epi32(
                                total[4 * j + k], _mm512_srai_epi32(a[j][k], 2 * k));
        }
}

/* Columns that are multiplied at once with several tokens, from the L1 cache. */
enum { SPAN_COLS = 1024 };

/* A panel and the tokens of a chunk, n of them; sums are [tile][token]. */
struct chunk {
        const uint8_t *codes;
        __m512i *kept; /* [SPAN_COLS / 4], one vector of each four columns */
        const int8_t *q;
        size_t q_stride;
        uint32_t n;
        __m512i *sums;
};

/* Four tiles, m of at most four tokens; tiles 0 and 1 are in a, 2 and 3 in b. */
INLINE void add_four(struct sums *a, struct sums *b, const __m512i u[4], const int8_t *q,
                     size_t stride, unsigned m) {
        dot_pair(&a->t0, &a->t4, u[0], u[1], q);
        dot_pair(&b->t0, &b->t4, u[2], u[3], q);
        if (m > 1) {
                dot_pair(&a->t1, &a->t5, u[0], u[1], q + stride);
                dot_pair(&b->t1, &b->t5, u[2], u[3], q + stride);
        }
        if (m > 2) {
                dot_pair(&a->t2, &a->t6, u[0], u[1], q + 2 * stride);
                dot_pair(&b->t2, &b->t6, u[2], u[3], q + 2 * stride);
                dot_pair(&a->t3, &a->t7, u[0], u[1], q + 3 * stride);
                dot_pair(&b->t3, &b->t7, u[2], u[3], q + 3 * stride);
        }
}

/* The four tiles in vector j of the interleaved columns [begin, end) times m of at most four tokens
 * from t on. The first tokens interleave for all others, and fetch the next span meanwhile. */
INLINE void add_span(const struct chunk *c, unsigned j, uint32_t begin, uint32_t end, uint32_t t,
                     unsigned m, bool first) {
        const uint8_t *p = c->codes + (size_t)begin * BLOCK_BYTES;
        const int8_t *q = c->q + t * c->q_stride + begin;
        const size_t stride = c->q_stride;
        struct sums a = no_sums(), b = a;

        for (uint32_t col = begin; col < end; col += 4, p += 4 * BLOCK_BYTES, q += 4) {
                __m512i *kept = &c->kept[(col - begin) / 4], u[4], v;

                if (first)
                        interleave_next(u, p);
                v = first ? u[j] : *kept;
                OPAQUE_VECTOR(v);
                if (first) {
                        *kept = v;
                        _mm_prefetch(p + (SPAN_COLS + j) * BLOCK_BYTES, _MM_HINT_T1);
                }
                UNROLL for (unsigned k = 0; k < 4; k++)
                        u[k] = _mm512_and_si512(v, code_mask(k));
                add_four(&a, &b, u, q, stride, m);
        }
        const __m512i all[4][4] = { { a.t0, a.t1, a.t2, a.t3 }, { a.t4, a.t5, a.t6, a.t7 },
                                    { b.t0, b.t1, b.t2, b.t3 }, { b.t4, b.t5, b.t6, b.t7 } };

        UNROLL for (unsigned k = 0; k < 4; k++) {
                UNROLL for (unsigned i = 0; i < m; i++) {
                        __m512i *sum = &c->sums[(4 * j + k) * c->n + t + i];

                        *sum = _mm512_add_epi32(*sum, _mm512_srai_epi32(all[k][i], 2 * k));
                }
        }
}

/* m tokens and the columns [begin, end) of four tiles. */
INLINE void add_tokens(const struct chunk *c, unsigned j, uint32_t begin, uint32_t end, uint32_t t,
                       unsigned m) {
        if (t == 0)
                add_span(c, j, begin, end, t, m, true);
        else
                add_span(c, j, begin, end, t, m, false);
}

/* All tokens and the columns [begin, end) of four tiles. */
INLINE void add_tiles(const struct chunk *c, unsigned j, uint32_t begin, uint32_t end) {
        uint32_t t = 0;

        for (; t + 4 <= c->n; t += 4)
                add_tokens(c, j, begin, end, t, 4);
        if (c->n & 2) {
                add_tokens(c, j, begin, end, t, 2);
                t += 2;
        }
        if (c->n & 1)
                add_tokens(c, j, begin, end, t, 1);
}

static void add_all(const struct chunk *c, uint32_t begin, uint32_t end) {
        UNROLL for (unsigned j = 0; j < 4; j++)
                add_tiles(c, j, begin, end);
}

/* The tiles [tile, tile_end) of one panel. */
static void by_col_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                        uint32_t tile_end) {
        uint32_t cols = groups_of(w->cols) * GROUP_COLS, panel = tile / PANEL_TILES;
        __m512i sums[PANEL_TILES * TOKENS_MAX], kept[SPAN_COLS / 4];
        struct chunk c = { .codes = (const uint8_t *)w->codes + panel * t2_panel_bytes(w->cols),
                           .kept = kept,
                           .q = x->q + (size_t)t0 * x->stride, .q_stride = x->stride, .n = n,
                           .sums = sums };

        for (uint32_t t = 0; t < n; t++) {
                __m512i minus = _mm512_set1_epi32(-total_sum(x, t0 + t));

                for (uint32_t i = 0; i < PANEL_TILES; i++)
                        sums[i * n + t] = minus;
        }
        for (uint32_t begin = 0; begin < cols; begin += SPAN_COLS)
                add_all(&c, begin, cols - begin > SPAN_COLS ? begin + SPAN_COLS : cols);
        for (; tile < tile_end; tile++)
                for (uint32_t t = 0; t < n; t++)
                        store_row(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                  sums[tile % PANEL_TILES * n + t], x->inverse[t0 + t],
                                  w->scales + (size_t)tile * TILE_ROWS);
}

void matmul_t2_by_col_avx512vnni(float *y, size_t y_stride, const struct weight_matrix *w,
                                 const struct activations *x, uint32_t tile_begin,
                                 uint32_t tile_end) {
        if (x->n == 1)
                by_col_gemv(y, w, x, tile_begin, tile_end, PANEL_TILES, add_panel);
        else
                each_panel(y, y_stride, w, x, tile_begin, tile_end, PANEL_TILES, by_col_gemm);
}
