/* Base-3 ternary matrices by column on 512 bits; follows t5_avx512_tmpl.c. Four columns of a panel,
 * interleaved byte by byte, are four vectors of five tiles each, which are added up as blocks are
 * there: five linear functions of the bytes, solved when all columns are in.
 *
 * One token: 20 sums, tables and masks are what 32 registers hold. Several tokens: a span of
 * columns is interleaved during the first pass over it and kept in the L1 cache; each pass is one
 * vector with up to four tokens, again 20 sums.
 */
#include "kernels/x86/by_col_avx512vnni.h"

/* total[5 * j + k] += the columns of the list. Sums of LIST_MAX whole bytes are an eighth of what
 * 32 bits hold (SPAN_GROUPS). */
static void add_panel(__m512i *total, const uint8_t *panel, const struct columns *l) {
        const struct tables tables = load_tables();
        const uint32_t ahead = l->stream ? STREAM_AHEAD : LISTED_AHEAD;
        __m512i a[4][SUMS];

        UNROLL for (unsigned j = 0; j < 4; j++) {
                UNROLL for (unsigned s = 0; s < SUMS; s++)
                        a[j][s] = _mm512_setzero_si512();
        }
        for (uint32_t i = 0; i < l->n; i += 4) {
                const uint8_t *four[4];
                __m512i v[4];

                UNROLL for (unsigned c = 0; c < 4; c++) {
                        four[c] = panel + (size_t)l->column[i + c] * BLOCK_BYTES;
                        _mm_prefetch(panel + (size_t)l->column[i + c + ahead] * BLOCK_BYTES,
                                     _MM_HINT_T1);
                }
                interleave(v, four);
                UNROLL for (unsigned j = 0; j < 4; j++)
                        add_vector(&a[j], &tables, v[j], l->q + i, 0, 1);
        }
        UNROLL for (unsigned j = 0; j < 4; j++)
                solve(total + T5_TILES * j, a[j]);
}

/* Several tokens: columns that are kept interleaved. */
enum { KEPT_COLS = 256 };

/* A panel and the tokens of a chunk, n of them. */
struct chunk {
        const uint8_t *codes;
        const int8_t *q;
        size_t q_stride;
        uint32_t n;
        __m512i (*kept)[4];                /* [KEPT_COLS / 4], the present span interleaved */
        __m512i (*sums)[TOKENS_MAX][SUMS]; /* [4] */
};

/* Vectors j of a span and m tokens from t on. The first pass interleaves. */
INLINE void add_vectors(const struct chunk *c, const struct tables *tables, unsigned j,
                        uint32_t begin, uint32_t end, uint32_t t, unsigned m, bool first) {
        const int8_t *q = c->q + t * c->q_stride + begin;
        __m512i *v = &c->kept[0][j];
        const uint8_t *p = c->codes + (size_t)begin * BLOCK_BYTES;
        const size_t ahead = t == 0 ? (KEPT_COLS + j) * BLOCK_BYTES : 0;
        __m512i a[TOKENS][SUMS];

        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned s = 0; s < SUMS; s++)
                        a[i][s] = c->sums[j][t + i][s];
        }
        for (uint32_t col = begin; col < end; col += 4, v += 4, q += 4, p += 4 * BLOCK_BYTES) {
                __m512i u;

                _mm_prefetch(p + ahead, _MM_HINT_T1);
                if (first) {
                        __m512i four[4];

                        interleave_next(four, p);
                        UNROLL for (unsigned i = 0; i < 4; i++)
                                v[i] = four[i];
                        u = four[0];
                } else {
                        u = *v;
                }
                OPAQUE_VECTOR(u);
                add_vector(a, tables, u, q, c->q_stride, m);
        }
        UNROLL for (unsigned i = 0; i < m; i++) {
                UNROLL for (unsigned s = 0; s < SUMS; s++)
                        c->sums[j][t + i][s] = a[i][s];
        }
}

INLINE void add_tokens(const struct chunk *c, const struct tables *tables, unsigned j,
                       uint32_t begin, uint32_t end, uint32_t t, unsigned m) {
        if (t == 0 && j == 0)
                add_vectors(c, tables, 0, begin, end, 0, m, true);
        else
                add_vectors(c, tables, j, begin, end, t, m, false);
}

static void add_kept(const struct chunk *c, uint32_t begin, uint32_t end) {
        const struct tables tables = load_tables();

        for (unsigned j = 0; j < 4; j++) {
                uint32_t t = 0;

                for (; t + TOKENS <= c->n; t += TOKENS)
                        add_tokens(c, &tables, j, begin, end, t, TOKENS);
                if (c->n & 2) {
                        add_tokens(c, &tables, j, begin, end, t, 2);
                        t += 2;
                }
                if (c->n & 1)
                        add_tokens(c, &tables, j, begin, end, t, 1);
        }
}

/* The columns [begin, end), at most SPAN_GROUPS of groups, from zero. */
static void add_span_cols(const struct chunk *c, uint32_t begin, uint32_t end) {
        for (unsigned j = 0; j < 4; j++)
                memset(c->sums[j], 0, c->n * sizeof(c->sums[j][0]));
        for (; begin < end; begin += KEPT_COLS)
                add_kept(c, begin, end - begin > KEPT_COLS ? begin + KEPT_COLS : end);
}

/* The same solved, added to the integers in y unless they are the first ones. */
static void add_integers(float *y, size_t y_stride, const struct chunk *c, uint32_t tile,
                         uint32_t tile_end, bool first) {
        for (uint32_t t = 0; t < c->n; t++, y += y_stride) {
                __m512i total[T5_PANEL_TILES];

                for (unsigned i = 0; i < T5_PANEL_TILES; i++)
                        total[i] = _mm512_setzero_si512();
                for (uint32_t i = tile; i < tile_end && !first; i++)
                        total[i % T5_PANEL_TILES] =
                                _mm512_loadu_si512(y + (size_t)i * TILE_ROWS);
                for (unsigned j = 0; j < 4; j++)
                        solve(total + T5_TILES * j, c->sums[j][t]);
                for (uint32_t i = tile; i < tile_end; i++)
                        _mm512_storeu_si512(y + (size_t)i * TILE_ROWS, total[i % T5_PANEL_TILES]);
        }
}

/* Leaves integers in y. */
static void by_col_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                        const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                        uint32_t tile_end) {
        const uint32_t cols = groups_of(w->cols) * GROUP_COLS, span = SPAN_GROUPS * GROUP_COLS;
        const uint8_t *codes = w->codes;
        __m512i sums[4][TOKENS_MAX][SUMS], kept[KEPT_COLS / 4][4];
        const struct chunk c = { .codes = codes + tile / T5_PANEL_TILES * t5_panel_bytes(w->cols),
                                 .q = x->q + (size_t)t0 * x->stride, .q_stride = x->stride,
                                 .n = n, .kept = kept, .sums = sums };

        for (uint32_t begin = 0; begin < cols; begin += span) {
                add_span_cols(&c, begin, cols - begin > span ? begin + span : cols);
                add_integers(y, y_stride, &c, tile, tile_end, begin == 0);
        }
}

void KERNEL(matmul_t5_by_col)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1) {
                by_col_gemv(y, w, x, tile_begin, tile_end, T5_PANEL_TILES, add_panel);
                return;
        }
        each_panel(y, y_stride, w, x, tile_begin, tile_end, T5_PANEL_TILES, by_col_gemm);
        for (uint32_t t = 0; t < x->n; t++)
                finish(y + t * y_stride, w, x, t, tile_begin, tile_end);
}
