/* Ternary matrices by row on 512 bits (t2_skip_avx512vnni.h), once for both numbers of codes in a
 * byte. A byte i of a block has CODES codes, of columns i, 64 + i, ...: activations are loaded as
 * they lie, and the lanes of a row are added up at the end. The including file defines
 * BY_ROW(name), CODES, ROW_BYTES(cols), struct tables, struct split and
 *   load_tables()
 *   split(tables, v)                 what the codes of 64 bytes are taken from
 *   code(tables, split, k)           the codes k,
 *   code_in_place(tables, split, k)  the same, counting 4^PLACE(k) fold; PLACES of them
 */
#include "kernels/x86/t2_skip_avx512vnni.h"

enum {
        ROWS_AT_ONCE = 4, /* one load of activations serves them all */
        ROWS_AHEAD = 16,
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
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                __m512i v = _mm512_loadu_si512(rows->now[r] + at);
                struct split s;

                OPAQUE_VECTOR(v);
                s = split(tables, v);
                _mm_prefetch(rows->later[r] + at, _MM_HINT_T1);
                UNROLL for (unsigned k = 0; k < CODES; k++) {
                        a[r][PLACE(k)] = _mm512_dpbusd_epi32(
                                a[r][PLACE(k)], code_in_place(tables, &s, k), x[k]);
                        OPAQUE_VECTOR(a[r][PLACE(k)]);
                }
        }
}

/* The sums of one row, each brought back to single weight. */
INLINE __m512i fold_places(const __m512i a[PLACES]) {
        __m512i v = a[PLACES - 1];

        UNROLL for (unsigned i = PLACES - 1; i > 0; i--)
                v = _mm512_add_epi32(_mm512_srai_epi32(v, 2), a[i - 1]);
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
        _mm_storeu_ps(result, _mm_div_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(x->inverse[0])));
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

                if (n > (end - tile) * (TILE_ROWS / 2))
                        n = list_rows(list, NULL, tile, end);
                for (uint32_t i = 0; i < n; i += ROWS_AT_ONCE)
                        four_rows(y, w, x, list + i, correction);
        }
}

void BY_ROW(by_row_where)(float *y, const struct weight_matrix *w, const struct activations *x,
                          const float *gate, uint32_t tile_begin, uint32_t tile_end) {
        by_row_gemv(y, w, x, gate, tile_begin, tile_end);
}

/* Two rows and up to eight tokens meet in registers. */
INLINE void add_token(__m512i *a, __m512i *b, __m512i u0, __m512i u1, const int8_t *q) {
        __m512i v = _mm512_loadu_si512(q);

        OPAQUE_VECTOR(v);
        *a = _mm512_dpbusd_epi32(*a, u0, v);
        *b = _mm512_dpbusd_epi32(*b, u1, v);
}

/* Codes of two rows and 64 columns times the activations of m tokens. */
INLINE void add_group(struct sums *a, struct sums *b, __m512i u0, __m512i u1, const int8_t *q,
                      size_t stride, unsigned m) {
        add_token(&a->t0, &b->t0, u0, u1, q);
        if (m > 1)
                add_token(&a->t1, &b->t1, u0, u1, q + stride);
        if (m > 2) {
                add_token(&a->t2, &b->t2, u0, u1, q + 2 * stride);
                add_token(&a->t3, &b->t3, u0, u1, q + 3 * stride);
        }
        if (m > 4) {
                add_token(&a->t4, &b->t4, u0, u1, q + 4 * stride);
                add_token(&a->t5, &b->t5, u0, u1, q + 5 * stride);
                add_token(&a->t6, &b->t6, u0, u1, q + 6 * stride);
                add_token(&a->t7, &b->t7, u0, u1, q + 7 * stride);
        }
}

/* One block of two rows, of which the first n groups exist; the same rows of the next tile are
 * fetched meanwhile. */
INLINE void add_pair(struct sums *a, struct sums *b, const struct tables *tables,
                     const uint8_t *codes, size_t row_bytes, const int8_t *q, size_t stride,
                     uint32_t n, unsigned m) {
        __m512i v0 = _mm512_loadu_si512(codes), v1 = _mm512_loadu_si512(codes + row_bytes);
        struct split s0, s1;

        OPAQUE_VECTOR(v0);
        OPAQUE_VECTOR(v1);
        s0 = split(tables, v0);
        s1 = split(tables, v1);
        _mm_prefetch(codes + TILE_ROWS * row_bytes, _MM_HINT_T1);
        _mm_prefetch(codes + (TILE_ROWS + 1) * row_bytes, _MM_HINT_T1);
        UNROLL for (unsigned k = 0; k < CODES; k++)
                if (k < n)
                        add_group(a, b, code(tables, &s0, k), code(tables, &s1, k),
                                  q + GROUP_COLS * k, stride, m);
}

/* Four tokens of one row, of which m are wanted. */
INLINE void store_tokens(float *y, size_t y_stride, const __m512i sums[4],
                         const int32_t *correction, const float *inverse, float scale,
                         unsigned m) {
        __m128i sum = _mm_sub_epi32(sum_lanes(sums), _mm_loadu_si128((const __m128i *)correction));
        __m128 v = _mm_div_ps(_mm_cvtepi32_ps(sum), _mm_loadu_ps(inverse));
        float result[4];

        _mm_storeu_ps(result, _mm_mul_ps(v, _mm_set1_ps(scale)));
        for (unsigned i = 0; i < 4 && i < m; i++)
                y[i * y_stride] = result[i];
}

/* Tokens of a chunk; the arrays have room for a vector more. */
struct chunk {
        const struct weight_matrix *w;
        const int8_t *q;
        size_t q_stride, y_stride;
        float *y;
        int32_t correction[TOKENS_MAX + 4];
        float inverse[TOKENS_MAX + 4];
};

INLINE void store_sums(const struct chunk *c, const struct sums *a, uint32_t row, uint32_t t,
                       unsigned m) {
        const __m512i first[4] = { a->t0, a->t1, a->t2, a->t3 };
        const __m512i second[4] = { a->t4, a->t5, a->t6, a->t7 };
        float *y = c->y + t * c->y_stride + row, scale = c->w->scales[row];

        store_tokens(y, c->y_stride, first, c->correction + t, c->inverse + t, scale, m);
        if (m > 4)
                store_tokens(y + 4 * c->y_stride, c->y_stride, second, c->correction + t + 4,
                             c->inverse + t + 4, scale, m - 4);
}

/* Two rows, m tokens from t on. */
INLINE void multiply_pair(const struct chunk *c, uint32_t row, uint32_t t, unsigned m) {
        const struct tables tables = load_tables();
        const int8_t *q = c->q + t * c->q_stride;
        size_t row_bytes = ROW_BYTES(c->w->cols), stride = c->q_stride;
        const uint8_t *codes = (const uint8_t *)c->w->codes + row * row_bytes;
        uint32_t groups = groups_of(c->w->cols);
        struct sums a = no_sums(), b = a;

        for (; groups >= CODES; groups -= CODES, codes += BLOCK_BYTES, q += CODES * GROUP_COLS)
                add_pair(&a, &b, &tables, codes, row_bytes, q, stride, CODES, m);
        if (groups > 0)
                add_pair(&a, &b, &tables, codes, row_bytes, q, stride, groups, m);
        store_sums(c, &a, row, t, m);
        store_sums(c, &b, row + 1, t, m);
}

/* The activations of a few tokens stay in the L1 cache while the rows of a tile meet them. */
INLINE void multiply_tile(const struct chunk *c, uint32_t tile, uint32_t t, unsigned m) {
        for (uint32_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS; row += 2)
                multiply_pair(c, row, t, m);
}

static void by_row_gemm(const struct chunk *c, uint32_t n, uint32_t tile) {
        uint32_t t = 0;

        for (; t + 8 <= n; t += 8)
                multiply_tile(c, tile, t, 8);
        if (n & 4) {
                multiply_tile(c, tile, t, 4);
                t += 4;
        }
        if (n & 2) {
                multiply_tile(c, tile, t, 2);
                t += 2;
        }
        if (n & 1)
                multiply_tile(c, tile, t, 1);
}

void BY_ROW(by_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                    const struct activations *x, uint32_t tile_begin, uint32_t tile_end) {
        if (x->n == 1) {
                by_row_gemv(y, w, x, NULL, tile_begin, tile_end);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;
                struct chunk c = { .w = w, .q = x->q + (size_t)t0 * x->stride,
                                   .q_stride = x->stride, .y = y + t0 * y_stride,
                                   .y_stride = y_stride };

                for (uint32_t t = 0; t < n; t++) {
                        c.correction[t] = total_sum(x, t0 + t);
                        c.inverse[t] = x->inverse[t0 + t];
                }
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        by_row_gemm(&c, n, tile);
        }
}
