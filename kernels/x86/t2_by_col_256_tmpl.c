/* Ternary matrices by column on 256 bits, once for every dot-product instruction; follows
 * by_row_256_tmpl.c. Four columns of a panel are interleaved byte by byte, half a line at a
 * time, so that a lane is a row of half a tile. */

enum {
        COLS_AHEAD = 96,
        COLS_AT_ONCE = 32, /* eight steps of codes that count four fold */
        SPAN_COLS = 128,   /* several tokens: 32 steps of single codes */
        COL_TOKENS = 4,    /* and two tiles meet in registers */
};

/* Columns with an activation, of those from `begin` on, or all where many have one; columns times
 * zero fill the last COLS_AT_ONCE. Behind them, for fetching ahead only, the first ones of the next
 * panel (by_col_avx512vnni.h). */
struct columns {
        uint32_t begin, n, ahead;
        uint32_t column[LIST_ROOM];
        int8_t q[LIST_ROOM];
};

/* Columns [begin, end) of a matrix of `cols` columns, with the padding of the last group. */
static void list_columns(struct columns *l, const int8_t *q, uint32_t begin, uint32_t end,
                         uint32_t cols) {
        uint32_t n = 0;

        for (uint32_t c = begin; c < end; c++) {
                l->column[n] = c;
                l->q[n] = q[c];
                n += q[c] != 0;
        }
        l->ahead = COLS_AHEAD;
        if (n > (end - begin) / 5 * 2) {
                l->ahead = 0;
                for (n = 0; n < end - begin; n++) {
                        l->column[n] = begin + n;
                        l->q[n] = q[begin + n];
                }
        }
        for (; n % COLS_AT_ONCE != 0; n++) {
                l->column[n] = l->column[n - 1];
                l->q[n] = 0;
        }
        for (uint32_t i = 0; n > 0 && i < COLS_AHEAD; i++)
                l->column[n + i] = l->column[i] + cols;
        l->begin = begin;
        l->n = n;
}

/* Half h of four columns: vectors 2 * pair and 2 * pair + 1 (layout.h). */
INLINE void interleave(__m256i ret[2], const uint8_t *const p[4], unsigned h, unsigned pair) {
        __m256i c[4], low, high;

        UNROLL for (unsigned i = 0; i < 4; i++)
                c[i] = load_codes(p[i] + 32 * h);
        if (pair == 0) {
                low = _mm256_unpacklo_epi8(c[0], c[1]);
                high = _mm256_unpacklo_epi8(c[2], c[3]);
        } else {
                low = _mm256_unpackhi_epi8(c[0], c[1]);
                high = _mm256_unpackhi_epi8(c[2], c[3]);
        }
        ret[0] = _mm256_unpacklo_epi16(low, high);
        ret[1] = _mm256_unpackhi_epi16(low, high);
}

/* The four tiles of one vector; k1 and k3 count four fold. */
struct tile_sums {
        __m256i k0, k1, k2, k3;
};

INLINE void add_four_tiles(struct tile_sums *s, __m256i v, __m256i q) {
        const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);
        __m256i v4 = _mm256_srli_epi16(v, 4);

        s->k0 = dot_step(s->k0, _mm256_and_si256(v, low), q);
        s->k1 = dot_step(s->k1, _mm256_and_si256(v, high), q);
        s->k2 = dot_step(s->k2, _mm256_and_si256(v4, low), q);
        s->k3 = dot_step(s->k3, _mm256_and_si256(v4, high), q);
}

INLINE void add_tile_sums(__m256i total[4][HALVES], const struct tile_sums *s, unsigned h) {
        total[0][h] = _mm256_add_epi32(total[0][h], dot_finish(s->k0));
        total[1][h] = _mm256_add_epi32(total[1][h], _mm256_srai_epi32(dot_finish(s->k1), 2));
        total[2][h] = _mm256_add_epi32(total[2][h], dot_finish(s->k2));
        total[3][h] = _mm256_add_epi32(total[3][h], _mm256_srai_epi32(dot_finish(s->k3), 2));
}

/* COLS_AT_ONCE columns of the list from i on, half h of eight tiles. */
INLINE void add_listed(__m256i total[PANEL_TILES][HALVES], const uint8_t *panel,
                       const struct columns *l, uint32_t i, unsigned h, unsigned pair) {
        const __m256i zero = _mm256_setzero_si256();
        struct tile_sums a = { zero, zero, zero, zero }, b = a;

        for (uint32_t end = i + COLS_AT_ONCE; i < end; i += 4) {
                const uint8_t *four[4];
                __m256i v[2], q = broadcast_q(l->q + i);

                UNROLL for (unsigned c = 0; c < 4; c++)
                        four[c] = panel + (size_t)l->column[i + c] * BLOCK_BYTES;
                /* each of the four calls fetches one line of a step */
                _mm_prefetch(panel + (size_t)l->column[i + l->ahead + 2 * h + pair] * BLOCK_BYTES,
                             _MM_HINT_T1);
                interleave(v, four, h, pair);
                add_four_tiles(&a, v[0], q);
                add_four_tiles(&b, v[1], q);
        }
        add_tile_sums(total + 8 * pair, &a, h);
        add_tile_sums(total + 8 * pair + 4, &b, h);
}

/* total[i] += what the columns of a list give tile i of a panel. */
typedef void add_panel_fn(__m256i total[][HALVES], const uint8_t *panel, const struct columns *l);

static void add_panel(__m256i total[][HALVES], const uint8_t *panel, const struct columns *l) {
        for (uint32_t i = 0; i < l->n; i += COLS_AT_ONCE) {
                add_listed(total, panel, l, i, 0, 0);
                add_listed(total, panel, l, i, 0, 1);
                add_listed(total, panel, l, i, 1, 0);
                add_listed(total, panel, l, i, 1, 1);
        }
}

/* A product for one token. */
INLINE void by_col_gemv(float *y, const struct weight_matrix *w, const struct activations *x,
                        uint32_t tile_begin, uint32_t tile_end, uint32_t panel_tiles,
                        add_panel_fn *add) {
        uint32_t cols = groups_of(w->cols) * GROUP_COLS;
        __m256i total[T5_PANEL_TILES][HALVES], minus = _mm256_set1_epi32(-total_sum(x, 0));
        struct columns list;

        list.begin = UINT32_MAX;
        for (uint32_t tile = tile_begin; tile < tile_end;) {
                uint32_t panel = tile / panel_tiles, end = (panel + 1) * panel_tiles;
                const uint8_t *codes = (const uint8_t *)w->codes + panel * t2_panel_bytes(w->cols);

                for (unsigned i = 0; i < panel_tiles; i++)
                        total[i][0] = total[i][1] = minus;
                for (uint32_t c = 0; c < cols; c += LIST_MAX) {
                        if (list.begin != c)
                                list_columns(&list, x->q, c,
                                             cols - c > LIST_MAX ? c + LIST_MAX : cols, cols);
                        add(total, codes, &list);
                }
                for (; tile < end && tile < tile_end; tile++)
                        store_row(y + (size_t)tile * TILE_ROWS, total[tile % panel_tiles],
                                  x->inverse[0], w->scales + (size_t)tile * TILE_ROWS);
        }
}

/* ---- several tokens ---- */

/* A panel and the tokens of a chunk, n of them; sums are [tile][token]. */
struct col_chunk {
        const uint8_t *codes;
        const int8_t *q;
        size_t q_stride;
        uint32_t n;
        __m256i (*sums)[HALVES];
};

/* Two tiles, up to four tokens. */
struct pair_sums {
        __m256i t0, t1, t2, t3, u0, u1, u2, u3;
};

INLINE void add_col_token(__m256i *a, __m256i *b, __m256i v, unsigned k, const int8_t *q) {
        const __m256i mask = _mm256_set1_epi8(3);
        __m256i step = broadcast_q(q);

        *a = dot_step(*a, _mm256_and_si256(_mm256_srli_epi16(v, (int)(2 * k)), mask), step);
        *b = dot_step(*b, _mm256_and_si256(_mm256_srli_epi16(v, (int)(2 * k + 2)), mask), step);
}

/* The tiles k and k + 1 of one vector, m tokens. */
INLINE void add_col_step(struct pair_sums *s, __m256i v, unsigned k, const int8_t *q, size_t stride,
                         unsigned m) {
        add_col_token(&s->t0, &s->u0, v, k, q);
        if (m > 1)
                add_col_token(&s->t1, &s->u1, v, k, q + stride);
        if (m > 2) {
                add_col_token(&s->t2, &s->u2, v, k, q + 2 * stride);
                add_col_token(&s->t3, &s->u3, v, k, q + 3 * stride);
        }
}

/* Half h of the tiles 4 * j + k and the next, the columns [begin, end), m tokens from t on. */
INLINE void add_col_span(const struct col_chunk *c, unsigned h, unsigned j, unsigned k,
                         uint32_t begin, uint32_t end, uint32_t t, unsigned m) {
        const uint8_t *p = c->codes + (size_t)begin * BLOCK_BYTES;
        const int8_t *q = c->q + t * c->q_stride + begin;
        const size_t ahead = t == 0 ? (SPAN_COLS + j) * BLOCK_BYTES : 0;
        const __m256i zero = _mm256_setzero_si256();
        struct pair_sums s = { zero, zero, zero, zero, zero, zero, zero, zero };

        for (uint32_t col = begin; col < end; col += 4, p += 4 * BLOCK_BYTES, q += 4) {
                const uint8_t *const four[4] = { p, p + BLOCK_BYTES, p + 2 * BLOCK_BYTES,
                                                 p + 3 * BLOCK_BYTES };
                __m256i v[2];

                _mm_prefetch(p + ahead, _MM_HINT_T1);
                interleave(v, four, h, j / 2);
                add_col_step(&s, v[j % 2], k, q, c->q_stride, m);
        }
        const __m256i all[2][COL_TOKENS] = { { s.t0, s.t1, s.t2, s.t3 },
                                             { s.u0, s.u1, s.u2, s.u3 } };

        UNROLL for (unsigned f = 0; f < 2; f++) {
                UNROLL for (unsigned i = 0; i < m; i++) {
                        __m256i *sum = &c->sums[(4 * j + k + f) * c->n + t + i][h];

                        *sum = _mm256_add_epi32(*sum, dot_finish(all[f][i]));
                }
        }
}

/* All tiles of the panel. */
INLINE void add_col_tokens(const struct col_chunk *c, uint32_t begin, uint32_t end, uint32_t t,
                           unsigned m) {
        UNROLL for (unsigned h = 0; h < HALVES; h++) {
                UNROLL for (unsigned j = 0; j < 4; j++) {
                        add_col_span(c, h, j, 0, begin, end, t, m);
                        add_col_span(c, h, j, 2, begin, end, t, m);
                }
        }
}

static void add_span_tokens(const struct col_chunk *c, uint32_t begin, uint32_t end) {
        uint32_t t = 0;

        for (; t + COL_TOKENS <= c->n; t += COL_TOKENS)
                add_col_tokens(c, begin, end, t, COL_TOKENS);
        if (c->n & 2) {
                add_col_tokens(c, begin, end, t, 2);
                t += 2;
        }
        if (c->n & 1)
                add_col_tokens(c, begin, end, t, 1);
}

/* The tiles [tile, tile_end) of one panel. */
static void t2_by_col_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                           uint32_t tile_end) {
        uint32_t cols = groups_of(w->cols) * GROUP_COLS, panel = tile / PANEL_TILES;
        __m256i sums[PANEL_TILES * TOKENS_MAX][HALVES];
        struct col_chunk c = { .codes = (const uint8_t *)w->codes + panel * t2_panel_bytes(w->cols),
                               .q = x->q + (size_t)t0 * x->stride, .q_stride = x->stride, .n = n,
                               .sums = sums };

        for (uint32_t t = 0; t < n; t++) {
                __m256i minus = _mm256_set1_epi32(-total_sum(x, t0 + t));

                for (uint32_t i = 0; i < PANEL_TILES; i++)
                        sums[i * n + t][0] = sums[i * n + t][1] = minus;
        }
        for (uint32_t begin = 0; begin < cols; begin += SPAN_COLS)
                add_span_tokens(&c, begin, cols - begin > SPAN_COLS ? begin + SPAN_COLS : cols);
        for (; tile < tile_end; tile++)
                for (uint32_t t = 0; t < n; t++)
                        store_row(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                  sums[tile % PANEL_TILES * n + t], x->inverse[t0 + t],
                                  w->scales + (size_t)tile * TILE_ROWS);
}

/* The tiles [tile, tile_end) of one panel and the tokens [t0, t0 + n), at most TOKENS_MAX. */
typedef void panel_fn(float *y, size_t y_stride, const struct weight_matrix *w,
                      const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                      uint32_t tile_end);

INLINE void each_panel(float *y, size_t y_stride, const struct weight_matrix *w,
                       const struct activations *x, uint32_t tile_begin, uint32_t tile_end,
                       uint32_t panel_tiles, panel_fn *fn) {
        for (uint32_t t0 = 0; t0 < x->n; t0 += TOKENS_MAX) {
                uint32_t n = x->n - t0 < TOKENS_MAX ? x->n - t0 : TOKENS_MAX;

                for (uint32_t tile = tile_begin; tile < tile_end;) {
                        uint32_t end = (tile / panel_tiles + 1) * panel_tiles;

                        end = end < tile_end ? end : tile_end;
                        fn(y + t0 * y_stride, y_stride, w, x, t0, n, tile, end);
                        tile = end;
                }
        }
}

void KERNEL(matmul_t2_by_col)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1)
                by_col_gemv(y, w, x, tile_begin, tile_end, PANEL_TILES, add_panel);
        else
                each_panel(y, y_stride, w, x, tile_begin, tile_end, PANEL_TILES, t2_by_col_gemm);
}
