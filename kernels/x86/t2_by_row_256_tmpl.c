/* Ternary matrices by row on 256 bits, once for every dot-product instruction; follows
 * t2_256_tmpl.c, which explains the primitives. The plan is that of t2_skip_avx512vnni.h. Lanes
 * narrower than 32 bits hold 24384: 8 steps of codes that count four fold, 32 of single ones. */

enum {
        LIST_MAX = 8192,            /* entries of a list, a multiple of 64 */
        LIST_ROOM = LIST_MAX + 128, /* and what fetching ahead may read */
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

/* Sums of one row: codes that count once, and four fold. */
struct row_sums {
        __m256i once, four;
};

/* One block of a row, of which the first n groups exist. */
INLINE void add_row_block(struct row_sums *s, const uint8_t *codes, const int8_t *q, uint32_t n) {
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

/* total += up to eight groups of a row. */
INLINE void add_row_groups(__m256i *total, const uint8_t *codes, const int8_t *q, uint32_t groups) {
        struct row_sums s = { _mm256_setzero_si256(), _mm256_setzero_si256() };

        add_row_block(&s, codes, q, groups < 4 ? groups : 4);
        if (groups > 4)
                add_row_block(&s, codes + BLOCK_BYTES, q + 4 * GROUP_COLS, groups - 4);
        *total = _mm256_add_epi32(*total,
                                  _mm256_add_epi32(dot_finish(s.once),
                                                   _mm256_srai_epi32(dot_finish(s.four), 2)));
}

/* Four rows, up to eight groups from g on, 8 of them unless the row ends. */
INLINE void add_rows(__m256i total[ROWS_AT_ONCE], const uint8_t *const rows[ROWS_AT_ONCE],
                     const uint8_t *const ahead[ROWS_AT_ONCE], const int8_t *q, uint32_t g,
                     uint32_t groups) {
        size_t at = (size_t)g / 4 * BLOCK_BYTES;

        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                _mm_prefetch(ahead[r] + at, _MM_HINT_T1);
                _mm_prefetch(ahead[r] + at + BLOCK_BYTES, _MM_HINT_T1);
                add_row_groups(&total[r], rows[r] + at, q + (size_t)g * GROUP_COLS, groups);
        }
}

/* The rows list[0..3]; list[ROWS_AHEAD..] are fetched meanwhile. */
static void four_rows(float *y, const struct weight_matrix *w, const struct activations *x,
                      const uint32_t *list, int32_t correction) {
        size_t row_bytes = t2_row_bytes(w->cols);
        uint32_t groups = groups_of(w->cols), g = 0;
        const uint8_t *rows[ROWS_AT_ONCE], *ahead[ROWS_AT_ONCE];
        __m256i total[ROWS_AT_ONCE];
        float result[ROWS_AT_ONCE];
        __m128i sum;

        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++) {
                rows[r] = (const uint8_t *)w->codes + list[r] * row_bytes;
                ahead[r] = (const uint8_t *)w->codes + list[r + ROWS_AHEAD] * row_bytes;
                total[r] = _mm256_setzero_si256();
        }
        for (; g + 8 <= groups; g += 8)
                add_rows(total, rows, ahead, x->q, g, 8);
        if (g < groups)
                add_rows(total, rows, ahead, x->q, g, groups - g);
        sum = _mm_sub_epi32(sum_lanes(total), _mm_set1_epi32(correction));
        _mm_storeu_ps(result, _mm_div_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(x->inverse[0])));
        UNROLL for (unsigned r = 0; r < ROWS_AT_ONCE; r++)
                y[list[r]] = result[r] * w->scales[list[r]];
}

static void t2_by_row_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
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

void KERNEL(matmul_t2_by_row_where)(float *y, const struct weight_matrix *w,
                                    const struct activations *x, const float *gate,
                                    uint32_t tile_begin, uint32_t tile_end) {
        t2_by_row_gemv(y, w, x, gate, tile_begin, tile_end);
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

/* Two rows, up to 16 groups, m tokens; the same rows of the next tile are fetched meanwhile. */
INLINE void add_row_pair(struct token_sums *a, struct token_sums *b, const uint8_t *codes,
                         size_t row_bytes, const int8_t *q, size_t stride, uint32_t groups,
                         unsigned m) {
        const __m256i mask = _mm256_set1_epi8(3);

        for (uint32_t g = 0; g < groups; g += 4, codes += BLOCK_BYTES, q += ROW_BLOCK_COLS) {
                uint32_t n = groups - g;

                _mm_prefetch(codes + TILE_ROWS * row_bytes, _MM_HINT_T1);
                _mm_prefetch(codes + (TILE_ROWS + 1) * row_bytes, _MM_HINT_T1);
                for (unsigned h = 0; h < HALVES; h++) {
                        __m256i v0 = load_codes(codes + 32 * h);
                        __m256i v1 = load_codes(codes + row_bytes + 32 * h);

                        for (uint32_t k = 0; k < 4 && k < n; k++) {
                                const int8_t *p = q + GROUP_COLS * k + 32 * h;
                                __m256i u0 = _mm256_and_si256(v0, mask);
                                __m256i u1 = _mm256_and_si256(v1, mask);

                                add_row_token(&a->t0, &b->t0, u0, u1, p);
                                if (m > 1)
                                        add_row_token(&a->t1, &b->t1, u0, u1, p + stride);
                                if (m > 2) {
                                        add_row_token(&a->t2, &b->t2, u0, u1, p + 2 * stride);
                                        add_row_token(&a->t3, &b->t3, u0, u1, p + 3 * stride);
                                }
                                v0 = _mm256_srli_epi16(v0, 2);
                                v1 = _mm256_srli_epi16(v1, 2);
                        }
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
INLINE void multiply_row_pair(const struct row_chunk *c, uint32_t row, uint32_t t, unsigned m) {
        size_t row_bytes = t2_row_bytes(c->w->cols);
        const uint8_t *codes = (const uint8_t *)c->w->codes + row * row_bytes;
        const int8_t *q = c->q + t * c->q_stride;
        uint32_t groups = groups_of(c->w->cols);
        __m256i total[2][ROW_TOKENS];

        UNROLL for (unsigned i = 0; i < ROW_TOKENS; i++)
                total[0][i] = total[1][i] = _mm256_setzero_si256();
        for (uint32_t g = 0; g < groups; g += 16) {
                struct token_sums a = no_token_sums(), b = a;

                add_row_pair(&a, &b, codes + (size_t)g / 4 * BLOCK_BYTES, row_bytes,
                             q + (size_t)g * GROUP_COLS, c->q_stride,
                             groups - g < 16 ? groups - g : 16, m);
                add_token_sums(total[0], &a);
                add_token_sums(total[1], &b);
        }
        store_row_tokens(c, total[0], row, t, m);
        store_row_tokens(c, total[1], row + 1, t, m);
}

/* The activations of a few tokens stay in the L1 cache while the rows of a tile meet them. */
INLINE void multiply_row_tile(const struct row_chunk *c, uint32_t tile, uint32_t t, unsigned m) {
        for (uint32_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS; row += 2)
                multiply_row_pair(c, row, t, m);
}

static void t2_by_row_gemm(const struct row_chunk *c, uint32_t n, uint32_t tile) {
        uint32_t t = 0;

        for (; t + ROW_TOKENS <= n; t += ROW_TOKENS)
                multiply_row_tile(c, tile, t, ROW_TOKENS);
        if (n & 2) {
                multiply_row_tile(c, tile, t, 2);
                t += 2;
        }
        if (n & 1)
                multiply_row_tile(c, tile, t, 1);
}

void KERNEL(matmul_t2_by_row)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1) {
                t2_by_row_gemv(y, w, x, NULL, tile_begin, tile_end);
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
                        t2_by_row_gemm(&c, n, tile);
        }
}
