/* Ternary matrices by row on 256 bits, once for every dot-product instruction and for both numbers
 * of codes in a byte, `codes`: 4 or 5, known when compiling; follows t2_256_tmpl.c and
 * t5_256_tmpl.c, which explain the primitives. The plan is that of t2_skip_avx512vnni.h. Lanes
 * narrower than 32 bits hold 24384: 8 steps of codes that count four fold, 32 of single ones. */

enum {
        LIST_MAX = 8192,            /* entries of a list, a multiple of 64 */
        LIST_ROOM = LIST_MAX + 128, /* and what fetching ahead may read */
        MANY_ROWS = 7,              /* of a tile: with more, everything is read in order */
        ROWS_AT_ONCE = 4,
        ROWS_AHEAD = 16,
        ROW_TOKENS = 4,             /* and two rows meet in registers */
};

/* Rows of the tiles whose gate (NULL: any) is positive, with copies of the last one behind. */
static uint32_t list_rows(uint32_t list[LIST_ROOM], const float *gate, uint32_t tile,
                          uint32_t tile_end) {
        uint32_t n = 0;

        for (uint32_t row = tile * TILE_ROWS; row < tile_end * TILE_ROWS; row++) {
                list[n] = row;
                n += !gate || gate[row] > 0;
        }
        for (uint32_t i = 0; n > 0 && i < ROWS_AT_ONCE + ROWS_AHEAD; i++)
                list[n + i] = list[n - 1];
        return n;
}

/* Lane i of the result is the sum of all lanes of v[i]. */
INLINE __m128i sum_lanes(const __m256i v[4]) {
        __m256i sum = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]),
                                        _mm256_hadd_epi32(v[2], v[3]));

        return _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

INLINE size_t row_bytes_of(const struct weight_matrix *w, unsigned codes) {
        return codes == 5 ? t5_row_bytes(w->cols) : t2_row_bytes(w->cols);
}

/* Sums of one row: codes that count once, and four fold. */
struct row_sums {
        __m256i once, four;
};

/* One block of a row, of which the first n groups exist. */
INLINE void add_t5_row_block(struct row_sums *s, const struct t5_tables *tables,
                             const uint8_t *block, const int8_t *q, uint32_t n) {
        UNROLL for (unsigned h = 0; h < HALVES; h++, q += 32) {
                const struct t5_codes c = t5_decode(tables, load_codes(block + 32 * h), false);

                UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                        if (k < n && k == 1)
                                s->four = dot_step(s->four, c.d[k], load_q(q + GROUP_COLS * k));
                        else if (k < n)
                                s->once = dot_step(s->once, c.d[k], load_q(q + GROUP_COLS * k));
        }
}

INLINE void add_t2_row_block(struct row_sums *s, const uint8_t *codes, const int8_t *q,
                             uint32_t n) {
        const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);

        UNROLL for (unsigned h = 0; h < HALVES; h++, q += 32) {
                __m256i v = load_codes(codes + 32 * h), v4 = _mm256_srli_epi16(v, 4);

                s->once = dot_step(s->once, _mm256_and_si256(v, low), load_q(q));
                if (n > 1)
                        s->four = dot_step(s->four, _mm256_and_si256(v, high),
                                           load_q(q + GROUP_COLS));
                if (n > 2)
                        s->once = dot_step(s->once, _mm256_and_si256(v4, low),
                                           load_q(q + 2 * GROUP_COLS));
                if (n > 3)
                        s->four = dot_step(s->four, _mm256_and_si256(v4, high),
                                           load_q(q + 3 * GROUP_COLS));
        }
}

/* total += up to two blocks of a row, `groups` groups. */
INLINE void add_row_blocks(__m256i *total, const struct t5_tables *tables, const uint8_t *p,
                           const int8_t *q, uint32_t groups, unsigned codes) {
        struct row_sums s = { _mm256_setzero_si256(), _mm256_setzero_si256() };

        for (uint32_t g = 0; g < groups; g += codes, p += BLOCK_BYTES, q += codes * GROUP_COLS)
                if (codes == 5)
                        add_t5_row_block(&s, tables, p, q, groups - g);
                else
                        add_t2_row_block(&s, p, q, groups - g);
        *total = _mm256_add_epi32(*total,
                                  _mm256_add_epi32(dot_finish(s.once),
                                                   _mm256_srai_epi32(dot_finish(s.four), 2)));
}

/* Four rows to be multiplied and four that will be later. */
struct rows {
        const uint8_t *now[ROWS_AT_ONCE], *later[ROWS_AT_ONCE];
        size_t at; /* the byte that is next */
};

/* The next two blocks of four rows, or what is left of them: `groups` groups. */
INLINE void add_rows(__m256i total[ROWS_AT_ONCE], const struct t5_tables *tables,
                     struct rows *rows, const int8_t *q, uint32_t groups, unsigned codes) {
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                _mm_prefetch(rows->later[r] + rows->at, _MM_HINT_T1);
                _mm_prefetch(rows->later[r] + rows->at + BLOCK_BYTES, _MM_HINT_T1);
                add_row_blocks(&total[r], tables, rows->now[r] + rows->at, q, groups, codes);
        }
        rows->at += 2 * BLOCK_BYTES;
}

/* The rows list[0..3]; list[ROWS_AHEAD..] are fetched meanwhile. */
INLINE void four_rows(float *y, const struct weight_matrix *w, const struct activations *x,
                      const uint32_t *list, int32_t correction, unsigned codes) {
        const struct t5_tables tables = t5_load_tables();
        uint32_t groups = groups_of(w->cols);
        __m256i total[ROWS_AT_ONCE];
        float result[ROWS_AT_ONCE];
        const int8_t *q = x->q;
        struct rows rows;
        __m128i sum;

        rows.at = 0;
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                const uint8_t *p = w->codes;

                rows.now[r] = p + list[r] * row_bytes_of(w, codes);
                rows.later[r] = p + list[r + ROWS_AHEAD] * row_bytes_of(w, codes);
                total[r] = _mm256_setzero_si256();
        }
        for (; groups >= 2 * codes; groups -= 2 * codes, q += 2 * codes * GROUP_COLS)
                add_rows(total, &tables, &rows, q, 2 * codes, codes);
        if (groups > 0)
                add_rows(total, &tables, &rows, q, groups, codes);
        sum = _mm_sub_epi32(sum_lanes(total), _mm_set1_epi32(correction));
        _mm_storeu_ps(result, _mm_div_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(x->inverse[0])));
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++)
                y[list[r]] = result[r] * w->scales[list[r]];
}

INLINE void by_row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                        const float *gate, uint32_t tile, uint32_t tile_end, unsigned codes) {
        int32_t correction = total_sum(x, 0);
        uint32_t list[LIST_ROOM];

        for (; tile < tile_end; tile += LIST_MAX / TILE_ROWS) {
                uint32_t end = tile_end - tile > LIST_MAX / TILE_ROWS ? tile + LIST_MAX / TILE_ROWS
                                                                      : tile_end;
                uint32_t n = list_rows(list, gate, tile, end);

                if (n > (end - tile) * MANY_ROWS)
                        n = list_rows(list, NULL, tile, end);
                for (uint32_t i = 0; i < n; i += ROWS_AT_ONCE)
                        four_rows(y, w, x, list + i, correction, codes);
        }
}

void KERNEL(matmul_t2_by_row_where)(float *y, const struct weight_matrix *w,
                                    const struct activations *x, const float *gate,
                                    uint32_t tile_begin, uint32_t tile_end) {
        by_row_gemv(y, w, x, gate, tile_begin, tile_end, 4);
}

void KERNEL(matmul_t5_by_row_where)(float *y, const struct weight_matrix *w,
                                    const struct activations *x, const float *gate,
                                    uint32_t tile_begin, uint32_t tile_end) {
        by_row_gemv(y, w, x, gate, tile_begin, tile_end, 5);
}

/* ---- several tokens ---- */

struct token_sums {
        __m256i t0, t1, t2, t3;
};

INLINE struct token_sums no_token_sums(void) {
        const __m256i zero = _mm256_setzero_si256();

        return (struct token_sums){ zero, zero, zero, zero };
}

INLINE void add_row_token(__m256i *a, __m256i *b, __m256i u0, __m256i u1, const int8_t *q) {
        __m256i v = load_q(q);

        *a = dot_step(*a, u0, v);
        *b = dot_step(*b, u1, v);
}

/* The codes of 32 bytes, each by itself. */
INLINE struct t5_codes separate(const struct t5_tables *tables, __m256i v, unsigned codes) {
        const __m256i mask = _mm256_set1_epi8(3);

        if (codes == 5)
                return t5_decode(tables, v, true);
        return (struct t5_codes){ .d = {
                _mm256_and_si256(v, mask), _mm256_and_si256(_mm256_srli_epi16(v, 2), mask),
                _mm256_and_si256(_mm256_srli_epi16(v, 4), mask),
                _mm256_and_si256(_mm256_srli_epi16(v, 6), mask) } };
}

/* One half of a block of two rows, of which the first n groups exist, and m tokens. */
INLINE void add_half_pair(struct token_sums *a, struct token_sums *b, const struct t5_codes *u0,
                          const struct t5_codes *u1, const int8_t *q, size_t stride, uint32_t n,
                          unsigned m, unsigned codes) {
        UNROLL for (unsigned k = 0; k < codes; k++, q += GROUP_COLS) {
                if (k >= n)
                        continue;
                add_row_token(&a->t0, &b->t0, u0->d[k], u1->d[k], q);
                if (m > 1)
                        add_row_token(&a->t1, &b->t1, u0->d[k], u1->d[k], q + stride);
                if (m > 2) {
                        add_row_token(&a->t2, &b->t2, u0->d[k], u1->d[k], q + 2 * stride);
                        add_row_token(&a->t3, &b->t3, u0->d[k], u1->d[k], q + 3 * stride);
                }
        }
}

/* Two rows, up to 16 groups (two steps each), m tokens; the same rows of the next tile are fetched
 * meanwhile. */
INLINE void add_row_pair(struct token_sums *a, struct token_sums *b, const uint8_t *p,
                         size_t row_bytes, const int8_t *q, size_t stride, uint32_t groups,
                         unsigned m, unsigned codes) {
        const struct t5_tables tables = t5_load_tables();

        for (uint32_t g = 0; g < groups; g += codes, p += BLOCK_BYTES, q += codes * GROUP_COLS) {
                _mm_prefetch(p + TILE_ROWS * row_bytes, _MM_HINT_T1);
                _mm_prefetch(p + (TILE_ROWS + 1) * row_bytes, _MM_HINT_T1);
                for (unsigned h = 0; h < HALVES; h++) {
                        const struct t5_codes u0 = separate(&tables, load_codes(p + 32 * h), codes),
                                              u1 = separate(&tables,
                                                            load_codes(p + row_bytes + 32 * h),
                                                            codes);

                        add_half_pair(a, b, &u0, &u1, q + 32 * h, stride, groups - g, m, codes);
                }
        }
}

INLINE void add_token_sums(__m256i total[ROW_TOKENS], const struct token_sums *s) {
        total[0] = _mm256_add_epi32(total[0], dot_finish(s->t0));
        total[1] = _mm256_add_epi32(total[1], dot_finish(s->t1));
        total[2] = _mm256_add_epi32(total[2], dot_finish(s->t2));
        total[3] = _mm256_add_epi32(total[3], dot_finish(s->t3));
}

/* Tokens of a chunk; the arrays have room for a vector more. */
struct row_chunk {
        const struct weight_matrix *w;
        const int8_t *q;
        size_t q_stride, y_stride;
        float *y;
        int32_t correction[TOKENS_MAX + 4];
        float inverse[TOKENS_MAX + 4];
};

INLINE void store_row_tokens(const struct row_chunk *c, const __m256i total[ROW_TOKENS],
                             uint32_t row, uint32_t t, unsigned m) {
        const __m128i minus = _mm_loadu_si128((const __m128i *)(c->correction + t));
        __m128 v = _mm_div_ps(_mm_cvtepi32_ps(_mm_sub_epi32(sum_lanes(total), minus)),
                              _mm_loadu_ps(c->inverse + t));
        float result[ROW_TOKENS];

        _mm_storeu_ps(result, _mm_mul_ps(v, _mm_set1_ps(c->w->scales[row])));
        for (unsigned i = 0; i < m; i++)
                c->y[(t + i) * c->y_stride + row] = result[i];
}

/* Two rows, m tokens from t on. */
INLINE void multiply_row_pair(const struct row_chunk *c, uint32_t row, uint32_t t, unsigned m,
                              unsigned codes) {
        const uint32_t span = 16 / codes * codes; /* groups, of two steps each */
        size_t row_bytes = row_bytes_of(c->w, codes);
        const uint8_t *p = (const uint8_t *)c->w->codes + row * row_bytes;
        const int8_t *q = c->q + t * c->q_stride;
        uint32_t groups = groups_of(c->w->cols);
        __m256i total[2][ROW_TOKENS];

        UNROLL for (unsigned i = 0; i < ROW_TOKENS; i++)
                total[0][i] = total[1][i] = _mm256_setzero_si256();
        for (uint32_t g = 0; g < groups; g += span) {
                struct token_sums a = no_token_sums(), b = a;

                add_row_pair(&a, &b, p + (size_t)g / codes * BLOCK_BYTES, row_bytes,
                             q + (size_t)g * GROUP_COLS, c->q_stride,
                             groups - g < span ? groups - g : span, m, codes);
                add_token_sums(total[0], &a);
                add_token_sums(total[1], &b);
        }
        store_row_tokens(c, total[0], row, t, m);
        store_row_tokens(c, total[1], row + 1, t, m);
}

/* The activations of a few tokens stay in the L1 cache while the rows of a tile meet them. */
INLINE void multiply_row_tile(const struct row_chunk *c, uint32_t tile, uint32_t t, unsigned m,
                              unsigned codes) {
        for (uint32_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS; row += 2)
                multiply_row_pair(c, row, t, m, codes);
}

INLINE void by_row_gemm(const struct row_chunk *c, uint32_t n, uint32_t tile, unsigned codes) {
        uint32_t t = 0;

        for (; t + ROW_TOKENS <= n; t += ROW_TOKENS)
                multiply_row_tile(c, tile, t, ROW_TOKENS, codes);
        if (n & 2) {
                multiply_row_tile(c, tile, t, 2, codes);
                t += 2;
        }
        if (n & 1)
                multiply_row_tile(c, tile, t, 1, codes);
}

INLINE void by_row(float *y, size_t y_stride, const struct weight_matrix *w,
                   const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                   unsigned codes) {
        if (x->n == 1) {
                by_row_gemv(y, w, x, NULL, tile_begin, tile_end, codes);
                return;
        }
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;
                struct row_chunk c = { .w = w, .q = x->q + (size_t)t0 * x->stride,
                                       .q_stride = x->stride, .y = y + t0 * y_stride,
                                       .y_stride = y_stride };

                for (uint32_t t = 0; t < n; t++) {
                        c.correction[t] = total_sum(x, t0 + t);
                        c.inverse[t] = x->inverse[t0 + t];
                }
                for (uint32_t tile = tile_begin; tile < tile_end; tile++)
                        by_row_gemm(&c, n, tile, codes);
        }
}

void KERNEL(matmul_t2_by_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        by_row(y, y_stride, w, x, tile_begin, tile_end, 4);
}

void KERNEL(matmul_t5_by_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        by_row(y, y_stride, w, x, tile_begin, tile_end, 5);
}
