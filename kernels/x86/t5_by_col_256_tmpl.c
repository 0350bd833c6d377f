/* Base-3 ternary matrices by column on 256 bits; follows t5_256_tmpl.c, which takes bytes apart,
 * and t2_by_col_256_tmpl.c, whose lists and walks it shares. Some columns are interleaved at a time
 * and then multiplied one vector, five halves of tiles, after the other. */

enum { KEPT_COLS = 256 }; /* several tokens: columns that are kept interleaved */

/* Four columns interleaved. */
struct four_cols {
        __m256i v[HALVES][4];
};

INLINE void t5_interleave(struct four_cols *ret, const uint8_t *const p[4]) {
        UNROLL for (unsigned h = 0; h < HALVES; h++) {
                UNROLL for (unsigned pair = 0; pair < 2; pair++)
                        interleave(ret->v[h] + 2 * pair, p, h, pair);
        }
}

/* total[k][h] += COLS_AT_ONCE columns of half h of the five tiles of vector j. */
INLINE void t5_add_listed(__m256i total[T5_TILES][HALVES], const struct t5_tables *tables,
                          const struct four_cols *cols, const int8_t *q, unsigned h, unsigned j) {
        __m256i a[T5_TILES];

        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                a[k] = _mm256_setzero_si256();
        for (unsigned s = 0; s < COLS_AT_ONCE / 4; s++, q += 4) {
                const struct t5_codes codes = t5_decode(tables, cols[s].v[h][j], false);

                UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                        a[k] = dot_step(a[k], codes.d[k], broadcast_q(q));
        }
        UNROLL for (unsigned k = 0; k < T5_TILES; k++) {
                __m256i dot = dot_finish(a[k]);

                total[k][h] = _mm256_add_epi32(total[k][h],
                                               k == 1 ? _mm256_srai_epi32(dot, 2) : dot);
        }
}

static void t5_add_panel(__m256i total[][HALVES], const uint8_t *panel, const struct columns *l) {
        const struct t5_tables tables = t5_load_tables();
        struct four_cols cols[COLS_AT_ONCE / 4];

        for (uint32_t i = 0; i < l->n; i += COLS_AT_ONCE) {
                for (unsigned s = 0; s < COLS_AT_ONCE / 4; s++) {
                        const uint32_t *column = l->column + i + 4 * s;
                        const uint8_t *four[4];

                        UNROLL for (unsigned c = 0; c < 4; c++) {
                                four[c] = panel + (size_t)column[c] * BLOCK_BYTES;
                                _mm_prefetch(panel + (size_t)column[c + l->ahead] * BLOCK_BYTES,
                                             _MM_HINT_T1);
                        }
                        t5_interleave(&cols[s], four);
                }
                for (unsigned j = 0; j < 4; j++)
                        for (unsigned h = 0; h < HALVES; h++)
                                t5_add_listed(total + T5_TILES * j, &tables, cols, l->q + i, h, j);
        }
}

/* The codes of vector j of 64 columns, tile by tile. */
INLINE void t5_unpack_cols(struct unpacked ret[T5_TILES], const struct t5_tables *tables,
                           const struct four_cols *cols, unsigned j) {
        for (unsigned s = 0; s < STEPS; s++)
                for (unsigned h = 0; h < HALVES; h++) {
                        const struct t5_codes c = t5_decode(tables, cols[s].v[h][j], true);

                        UNROLL for (unsigned k = 0; k < T5_TILES; k++)
                                ret[k].u[s][h] = c.d[k];
                }
}

/* A panel and the tokens of a chunk, n of them. */
struct t5_col_chunk {
        const uint8_t *codes;
        const int8_t *q;
        size_t q_stride;
        uint32_t n;
        __m256i (*sums)[TOKENS_MAX][HALVES]; /* [T5_PANEL_TILES] */
};

/* The groups [g, end) of columns, at most KEPT_COLS: the sums of five tiles fit the L1 cache. */
static void t5_add_kept(const struct t5_col_chunk *c, uint32_t g, uint32_t end) {
        const struct t5_tables tables = t5_load_tables();
        const uint8_t *p = c->codes + (size_t)g * GROUP_COLS * BLOCK_BYTES;
        const int8_t *q = c->q + (size_t)g * GROUP_COLS;
        struct four_cols cols[KEPT_COLS / 4];
        struct unpacked codes[T5_TILES];

        for (uint32_t s = 0; s < (end - g) * STEPS; s++, p += 4 * BLOCK_BYTES) {
                const uint8_t *const four[4] = { p, p + BLOCK_BYTES, p + 2 * BLOCK_BYTES,
                                                 p + 3 * BLOCK_BYTES };

                t5_interleave(&cols[s], four);
        }
        for (unsigned j = 0; j < 4; j++)
                for (uint32_t i = 0; i < end - g; i++) {
                        t5_unpack_cols(codes, &tables, cols + STEPS * i, j);
                        t5_add_tiles(c->sums + T5_TILES * j, codes, q + GROUP_COLS * i,
                                     c->q_stride, c->n);
                }
}

/* The tiles [tile, tile_end) of one panel. */
static void t5_by_col_gemm(float *y, size_t y_stride, const struct weight_matrix *w,
                           const struct activations *x, uint32_t t0, uint32_t n, uint32_t tile,
                           uint32_t tile_end) {
        const uint32_t groups = groups_of(w->cols), panel = tile / T5_PANEL_TILES;
        __m256i sums[T5_PANEL_TILES][TOKENS_MAX][HALVES];
        const struct t5_col_chunk c = {
                .codes = (const uint8_t *)w->codes + panel * t5_panel_bytes(w->cols),
                .q = x->q + (size_t)t0 * x->stride, .q_stride = x->stride, .n = n, .sums = sums,
        };

        for (uint32_t t = 0; t < n; t++) {
                __m256i minus = _mm256_set1_epi32(-total_sum(x, t0 + t));

                for (unsigned i = 0; i < T5_PANEL_TILES; i++)
                        sums[i][t][0] = sums[i][t][1] = minus;
        }
        for (uint32_t g = 0; g < groups; g += KEPT_COLS / GROUP_COLS)
                t5_add_kept(&c, g, groups - g > KEPT_COLS / GROUP_COLS
                                           ? g + KEPT_COLS / GROUP_COLS : groups);
        for (; tile < tile_end; tile++)
                for (uint32_t t = 0; t < n; t++)
                        store_row(y + t * y_stride + (size_t)tile * TILE_ROWS,
                                  sums[tile % T5_PANEL_TILES][t], x->inverse[t0 + t],
                                  w->scales + (size_t)tile * TILE_ROWS);
}

void KERNEL(matmul_t5_by_col)(float *y, size_t y_stride, const struct weight_matrix *w,
                              const struct activations *x, uint32_t tile_begin,
                              uint32_t tile_end) {
        if (x->n == 1)
                by_col_gemv(y, w, x, tile_begin, tile_end, T5_PANEL_TILES, t5_add_panel);
        else
                each_panel(y, y_stride, w, x, tile_begin, tile_end, T5_PANEL_TILES,
                           t5_by_col_gemm);
}
