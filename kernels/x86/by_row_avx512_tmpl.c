/* Ternary matrices by row on 512 bits (t2_skip_avx512vnni.h), once for both numbers of codes in a
 * byte. A byte i of a block has CODES codes, of columns i, 64 + i, ...: activations are loaded as
 * they lie, and the lanes of a row are added up at the end. The including file defines
 * BY_ROW(name), CODES, ROW_BYTES(cols), struct tables, struct split and
 *   load_tables()
 *   split(tables, v)                 what the codes of 64 bytes are taken from
 *   code(tables, split, k)           the codes k,
 *   code_in_place(tables, split, k)  the same, counting 2^(PLACE_BITS * PLACE(k)) fold; there are
 *                                    PLACES of these
 *
 * One token is a stream that needs some 13 instructions for 64 bytes, so the core must not wait in
 * between: rows are taken apart two by two (the second fills the latencies of the first), and the
 * results of four rows in a row are one vector.
 */
#include "kernels/x86/t2_skip_avx512vnni.h"

enum {
        MANY_ROWS = 7,    /* of a tile: with more, everything is read in order */
        ROWS_AT_ONCE = 4, /* one load of activations serves them all */
        ROWS_AHEAD = 32,
};

/* Rows of the tiles whose gate (NULL: any) is positive, with copies of the last one behind. */
static uint32_t list_rows(uint32_t list[LIST_ROOM], const float *gate, uint32_t tile,
                          uint32_t tile_end) {
        uint32_t n = 0;

        for (; tile < tile_end; tile++) {
                __mmask16 wanted = 0xffff;

                if (gate)
                        wanted = _mm512_cmp_ps_mask(_mm512_loadu_ps(gate + (size_t)tile * 16),
                                                    _mm512_setzero_ps(), _CMP_GT_OQ);
                n += put_wanted(list + n, tile * TILE_ROWS, wanted);
        }
        for (uint32_t i = 0; n > 0 && i < ROWS_AT_ONCE + ROWS_AHEAD; i++)
                list[n + i] = list[n - 1];
        return n;
}

/* Lane i of the result is the sum of all lanes of v[i]. */
INLINE __m128i sum_lanes(const __m512i v[ROWS_AT_ONCE]) {
        __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]),
                                     _mm512_unpackhi_epi32(v[0], v[1]));
        __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]),
                                     _mm512_unpackhi_epi32(v[2], v[3]));
        __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));

        return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

/* The compilers move accumulators about if they are not told what happens to them. */
INLINE void add_product(__m512i *a, __m512i codes, __m512i x) {
        *a = _mm512_dpbusd_epi32(*a, codes, x);
        OPAQUE_VECTOR(*a);
}

/* Four rows to be multiplied and four that will be later. */
struct rows {
        const uint8_t *now[ROWS_AT_ONCE], *later[ROWS_AT_ONCE];
};

/* a[row][place] += codes of one block times activations; only the first n of its groups exist. A
 * block adds less than 2^17 to a sum. */
INLINE void add_block(__m512i a[ROWS_AT_ONCE][PLACES], const struct tables *tables,
                      const struct rows *rows, size_t at, const int8_t *q, uint32_t n) {
        __m512i x[CODES];

        UNROLL for (unsigned k = 0; k < CODES; k++) {
                x[k] = k < n ? _mm512_loadu_si512(q + GROUP_COLS * k) : _mm512_setzero_si512();
                OPAQUE_VECTOR(x[k]);
        }
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r += 2) {
                __m512i v0 = _mm512_loadu_si512(rows->now[r] + at),
                        v1 = _mm512_loadu_si512(rows->now[r + 1] + at);
                struct split s0, s1;

                OPAQUE_VECTOR(v0);
                OPAQUE_VECTOR(v1);
                s0 = split(tables, v0);
                s1 = split(tables, v1);
                _mm_prefetch(rows->later[r] + at, _MM_HINT_T1);
                _mm_prefetch(rows->later[r + 1] + at, _MM_HINT_T1);
                UNROLL for (unsigned k = 0; k < CODES; k++) {
                        add_product(&a[r][PLACE(k)], code_in_place(tables, &s0, k), x[k]);
                        add_product(&a[r + 1][PLACE(k)], code_in_place(tables, &s1, k), x[k]);
                }
        }
}

/* The sums of one row, each brought back to single weight. */
INLINE __m512i fold_places(const __m512i a[PLACES]) {
        __m512i v = a[PLACES - 1];

        UNROLL for (unsigned i = PLACES - 1; i > 0; i--)
                v = _mm512_add_epi32(_mm512_srai_epi32(v, PLACE_BITS), a[i - 1]);
        return v;
}

/* The rows list[0..3]; list[ROWS_AHEAD..] are fetched meanwhile. */
static void four_rows(float *y, const struct weight_matrix *w, const struct activations *x,
                      const uint32_t *list, int32_t correction) {
        const struct tables tables = load_tables();
        size_t row_bytes = ROW_BYTES(w->cols), at = 0;
        uint32_t groups = groups_of(w->cols);
        __m512i a[ROWS_AT_ONCE][PLACES], v[ROWS_AT_ONCE];
        float result[ROWS_AT_ONCE];
        const int8_t *q = x->q;
        struct rows rows;
        __m128 quotient;
        __m128i sum;

        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                rows.now[r] = (const uint8_t *)w->codes + list[r] * row_bytes;
                rows.later[r] = (const uint8_t *)w->codes + list[r + ROWS_AHEAD] * row_bytes;
                UNROLL for (unsigned i = 0; i < PLACES; i++)
                        a[r][i] = _mm512_setzero_si512();
        }
        for (; groups >= CODES; groups -= CODES, at += BLOCK_BYTES, q += CODES * GROUP_COLS)
                add_block(a, &tables, &rows, at, q, CODES);
        if (groups > 0)
                add_block(a, &tables, &rows, at, q, groups);
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++)
                v[r] = fold_places(a[r]);
        sum = _mm_sub_epi32(sum_lanes(v), _mm_set1_epi32(correction));
        quotient = _mm_div_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(x->inverse[0]));
        if (list[2] - list[0] == 2 && list[3] - list[2] == 1) { /* copies may end the list */
                _mm_storeu_ps(y + list[0], _mm_mul_ps(quotient, _mm_loadu_ps(w->scales + list[0])));
                return;
        }
        _mm_storeu_ps(result, quotient);
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++)
                y[list[r]] = result[r] * w->scales[list[r]];
}

static void by_row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                        const float *gate, uint32_t tile, uint32_t tile_end) {
        int32_t correction = total_sum(x, 0);
        uint32_t list[LIST_ROOM];

        for (; tile < tile_end; tile += LIST_MAX / TILE_ROWS) {
                uint32_t end = tile_end - tile > LIST_MAX / TILE_ROWS ? tile + LIST_MAX / TILE_ROWS
                                                                      : tile_end;
                uint32_t n = list_rows(list, gate, tile, end);

                if (n > (end - tile) * MANY_ROWS)
                        n = list_rows(list, NULL, tile, end);
                for (uint32_t i = 0; i < n; i += ROWS_AT_ONCE)
                        four_rows(y, w, x, list + i, correction);
        }
}

void BY_ROW(by_row_where)(float *y, const struct weight_matrix *w, const struct activations *x,
                          const float *gate, uint32_t tile_begin, uint32_t tile_end) {
        by_row_gemv(y, w, x, gate, tile_begin, tile_end);
}

/* One token and two or four rows. */
INLINE void add_two(__m512i *a, __m512i *b, const __m512i u[4], const int8_t *q) {
        __m512i v = _mm512_loadu_si512(q);

        OPAQUE_VECTOR(v);
        *a = _mm512_dpbusd_epi32(*a, u[0], v);
        *b = _mm512_dpbusd_epi32(*b, u[1], v);
}

INLINE void add_four(__m512i *a, __m512i *b, __m512i *c, __m512i *d, const __m512i u[4],
                     const int8_t *q) {
        __m512i v = _mm512_loadu_si512(q);

        OPAQUE_VECTOR(v);
        *a = _mm512_dpbusd_epi32(*a, u[0], v);
        *b = _mm512_dpbusd_epi32(*b, u[1], v);
        *c = _mm512_dpbusd_epi32(*c, u[2], v);
        *d = _mm512_dpbusd_epi32(*d, u[3], v);
}

/* 64 columns of two rows (in a and b) and eight tokens, or of four rows (in the halves of a and b)
 * and m of at most four tokens. */
INLINE void add_group(struct sums *a, struct sums *b, const __m512i u[4], const int8_t *q,
                      size_t stride, unsigned m) {
        if (m == 8) {
                add_two(&a->t0, &b->t0, u, q);
                add_two(&a->t1, &b->t1, u, q + stride);
                add_two(&a->t2, &b->t2, u, q + 2 * stride);
                add_two(&a->t3, &b->t3, u, q + 3 * stride);
                add_two(&a->t4, &b->t4, u, q + 4 * stride);
                add_two(&a->t5, &b->t5, u, q + 5 * stride);
                add_two(&a->t6, &b->t6, u, q + 6 * stride);
                add_two(&a->t7, &b->t7, u, q + 7 * stride);
                return;
        }
        add_four(&a->t0, &a->t4, &b->t0, &b->t4, u, q);
        if (m > 1)
                add_four(&a->t1, &a->t5, &b->t1, &b->t5, u, q + stride);
        if (m > 2) {
                add_four(&a->t2, &a->t6, &b->t2, &b->t6, u, q + 2 * stride);
                add_four(&a->t3, &a->t7, &b->t3, &b->t7, u, q + 3 * stride);
        }
}

/* Where some rows and tokens meet. */
struct meeting {
        const uint8_t *codes; /* of the first row */
        const int8_t *q;      /* of the first token */
        size_t row_bytes, stride;
        size_t ahead;         /* how far behind the codes others are fetched meanwhile */
};

INLINE unsigned rows_at_once(unsigned m) {
        return m == 8 ? 2 : 4;
}

/* The codes k of a block. */
INLINE void add_codes(struct sums *a, struct sums *b, const struct tables *tables,
                      const struct split s[4], const struct meeting *at, unsigned k, unsigned m) {
        __m512i u[4];

        UNROLL for (unsigned r = 0; r < rows_at_once(m); r++)
                u[r] = code(tables, &s[r], k);
        add_group(a, b, u, at->q + k * GROUP_COLS, at->stride, m);
}

/* A block, of which the first n groups exist. */
INLINE void add_rows(struct sums *a, struct sums *b, const struct tables *tables,
                     const struct meeting *at, uint32_t n, unsigned m) {
        struct split s[4];

        UNROLL for (unsigned r = 0; r < rows_at_once(m); r++) {
                const uint8_t *codes = at->codes + r * at->row_bytes;
                __m512i v = _mm512_loadu_si512(codes);

                OPAQUE_VECTOR(v);
                s[r] = split(tables, v);
                _mm_prefetch(codes + at->ahead, _MM_HINT_T1);
        }
        UNROLL for (unsigned k = 0; k < CODES; k++)
                if (k < n)
                        add_codes(a, b, tables, s, at, k, m);
}

/* Sums over the lanes of several vectors, side by side: of halves, quarters and blocks of 128 bits
 * the lanes of a come before those of b. */
INLINE __m512i add_lanes(__m512i a, __m512i b) {
        return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

INLINE __m512i add_pairs(__m512i a, __m512i b) {
        return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

INLINE __m512i add_blocks(__m512i a, __m512i b) {
        return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88),
                                _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* Lane i of the result is the sum of all lanes of v[i]. */
INLINE __m512i sum_all(const __m512i v[16]) {
        __m512i four[4];

        UNROLL for (unsigned i = 0; i < 4; i++)
                four[i] = add_pairs(add_lanes(v[4 * i], v[4 * i + 1]),
                                    add_lanes(v[4 * i + 2], v[4 * i + 3]));
        return add_blocks(add_blocks(four[0], four[1]), add_blocks(four[2], four[3]));
}

/* Lane t * rows_at_once + r of the result belongs to row r and token t. */
INLINE __m512i multiply_rows(struct meeting at, uint32_t groups, unsigned m) {
        const struct tables tables = load_tables();
        struct sums a = no_sums(), b = a;

        for (; groups >= CODES; groups -= CODES) {
                add_rows(&a, &b, &tables, &at, CODES, m);
                at.codes += BLOCK_BYTES;
                at.q += CODES * GROUP_COLS;
        }
        if (groups > 0)
                add_rows(&a, &b, &tables, &at, groups, m);
        const __m512i two[16] = { a.t0, b.t0, a.t1, b.t1, a.t2, b.t2, a.t3, b.t3,
                                  a.t4, b.t4, a.t5, b.t5, a.t6, b.t6, a.t7, b.t7 };
        const __m512i four[16] = { a.t0, a.t4, b.t0, b.t4, a.t1, a.t5, b.t1, b.t5,
                                   a.t2, a.t6, b.t2, b.t6, a.t3, a.t7, b.t3, b.t7 };

        return m == 8 ? sum_all(two) : sum_all(four);
}

/* Block j (of 128 bits) of v[i] and block i of v[j] change places. */
INLINE void transpose_blocks(__m512i v[4]) {
        __m512i low = _mm512_shuffle_i32x4(v[0], v[1], 0x44),
                high = _mm512_shuffle_i32x4(v[0], v[1], 0xee),
                low2 = _mm512_shuffle_i32x4(v[2], v[3], 0x44),
                high2 = _mm512_shuffle_i32x4(v[2], v[3], 0xee);

        v[0] = _mm512_shuffle_i32x4(low, low2, 0x88);
        v[1] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        v[2] = _mm512_shuffle_i32x4(high, high2, 0x88);
        v[3] = _mm512_shuffle_i32x4(high, high2, 0xdd);
}

/* From the results of multiply_rows for all rows of a tile to one vector of rows for each token. */
INLINE void sort_by_token(__m512i to[8], const __m512i parts[8], unsigned m) {
        __m512i even[4], odd[4];

        UNROLL for (unsigned i = 0; i < 4; i++) {
                if (m < 8) {
                        to[i] = parts[i];
                        continue;
                }
                even[i] = _mm512_unpacklo_epi64(parts[2 * i], parts[2 * i + 1]);
                odd[i] = _mm512_unpackhi_epi64(parts[2 * i], parts[2 * i + 1]);
        }
        if (m < 8) {
                transpose_blocks(to);
                return;
        }
        transpose_blocks(even);
        transpose_blocks(odd);
        UNROLL for (unsigned i = 0; i < 8; i++)
                to[i] = i % 2 == 0 ? even[i / 2] : odd[i / 2];
}

/* A product for several tokens. */
struct product {
        const struct weight_matrix *w;
        const struct activations *x;
        float *y;
        size_t y_stride;
};

/* One tile and m tokens from t on. The first tokens fetch the next tile. */
INLINE void multiply_tile(const struct product *p, const int32_t corrections[8], uint32_t tile,
                          uint32_t t, unsigned m) {
        const size_t row_bytes = ROW_BYTES(p->w->cols);
        struct meeting at = {
                .codes = (const uint8_t *)p->w->codes + tile * TILE_ROWS * row_bytes,
                .q = p->x->q + t * p->x->stride,
                .row_bytes = row_bytes,
                .stride = p->x->stride,
                .ahead = t == 0 ? TILE_ROWS * row_bytes : 0,
        };
        __m512i parts[8], sums[8];

        for (unsigned i = 0; i < TILE_ROWS / rows_at_once(m); i++) {
                parts[i] = multiply_rows(at, groups_of(p->w->cols), m);
                at.codes += rows_at_once(m) * row_bytes;
        }
        sort_by_token(sums, parts, m);
        UNROLL for (unsigned i = 0; i < m; i++)
                store_row(p->y + (t + i) * p->y_stride + (size_t)tile * TILE_ROWS,
                          _mm512_sub_epi32(sums[i], _mm512_set1_epi32(corrections[i])),
                          p->x->inverse[t + i], p->w->scales + (size_t)tile * TILE_ROWS);
}

/* m tokens, which stay in the L1 cache, and the tiles [tile, tile_end). */
INLINE void multiply_tokens(const struct product *p, uint32_t tile, uint32_t tile_end, uint32_t t,
                            unsigned m) {
        int32_t corrections[8];

        for (unsigned i = 0; i < m; i++)
                corrections[i] = total_sum(p->x, t + i);
        for (; tile < tile_end; tile++)
                multiply_tile(p, corrections, tile, t, m);
}

/* All tokens and the tiles [tile, tile_end), whose codes stay in the L2 cache. */
static void by_row_gemm(const struct product *p, uint32_t tile, uint32_t tile_end) {
        uint32_t n = p->x->n, t = 0;

        for (; t + 8 <= n; t += 8)
                multiply_tokens(p, tile, tile_end, t, 8);
        if (n & 4) {
                multiply_tokens(p, tile, tile_end, t, 4);
                t += 4;
        }
        if (n & 2) {
                multiply_tokens(p, tile, tile_end, t, 2);
                t += 2;
        }
        if (n & 1)
                multiply_tokens(p, tile, tile_end, t, 1);
}

void BY_ROW(by_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                    const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        const struct product p = { .w = w, .x = x, .y = y, .y_stride = y_stride };
        uint32_t block = blocked_tiles(TILE_ROWS * ROW_BYTES(w->cols));

        if (x->n == 1) {
                by_row_gemv(y, w, x, NULL, tile_begin, tile_end);
                return;
        }
        for (uint32_t tile = tile_begin; tile < tile_end; tile += block)
                by_row_gemm(&p, tile, tile_end - tile > block ? tile + block : tile_end);
}
