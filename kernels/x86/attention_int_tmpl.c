/* The same as attention_tmpl.c (whose tiles and fetching are used) with K and V as integers of 8 or
 * 16 bits ("wide"). A lane is a pair, two dimensions of a key or two keys of a dimension, in 16
 * bits, so that one instruction multiplies and adds both. Sums are integers: nothing depends on
 * order, and a key that a query does not see has weight 0, whatever its codes are. */
#include "kernels/ref/quantize.h"

/* Row r of the queries' and of the weights' integers: they take the place of the floats. */
INLINE int16_t *query_codes(const struct tile *t, size_t r) {
        return (int16_t *)t->q + r * STRIDE;
}

INLINE int16_t *weight_codes(const struct tile *t, size_t r) {
        return (int16_t *)t->q + (ATTENTION_QUERIES + r) * STRIDE;
}

INLINE size_t code_bytes(bool wide) {
        return wide ? 2 : 1;
}

INLINE const float *token_scales(const struct tile *t, const void *page, bool wide) {
        return (const float *)((const int8_t *)page + KV_PAGE * t->block->head_dim *
                                                              code_bytes(wide));
}

/* Pairs i * LANES, ... behind p. */
INLINE vi load_pairs(const int8_t *p, size_t i, bool wide) {
        p += i * LANES * 2 * code_bytes(wide);
        return wide ? vi_load((const int32_t *)(const void *)p) : vi_load_pairs(p);
}

/* Fetch as many bytes as `vectors` of pairs take. */
INLINE void fetch_pairs(const int8_t *p, size_t vectors, bool wide) {
        UNROLL for (size_t at = 0; at < vectors * LANES * 2 * code_bytes(wide); at += 64)
                fetch(p + at);
}

static void quantize16(int16_t *codes, const float *x, size_t n, float factor, float top) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES) {
                vf v = vf_min(vf_mul(vf_load(x + i), vf_set1(factor)), vf_set1(top));

                vi_store_words(codes + i, vf_round(vf_max(v, vf_set1(-top))));
        }
        for (; i < n; i++)
                codes[i] = quantize16_below(x[i], factor, top);
}

static struct quant_scale key_scale(const float *x, size_t n) {
        float max = max_magnitude(x, (uint32_t)n), norm = (float)sqrt(sum_squares(x, n));

        return quantize_scale(quantize_bound(max, norm, QUANT16_NORM), QUANT16_MAX);
}

void KERNEL(quantize_key16)(int16_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s = key_scale(x, n);

        *scale = s.step;
        quantize16(q, x, n, s.factor, QUANT16_MAX);
}

void KERNEL(quantize_value16)(int16_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s = quantize_scale(max_magnitude(x, (uint32_t)n), QUANT_VALUE_MAX);

        *scale = s.step;
        quantize16(q, x, n, s.factor, QUANT_VALUE_MAX);
}

/* Scores of the keys of `vectors` vectors, from vector `first` on. steps: what the codes of each
 * query are worth, with the scale of the scores. */
INLINE void score_pairs(const struct tile *t, const float *steps, size_t first, size_t pages_read,
                        size_t rows, size_t vectors, bool wide) {
        const size_t per = vectors < PAGE_VECTORS ? vectors : PAGE_VECTORS, pages = vectors / per,
                     line = 2 * KV_PAGE * code_bytes(wide);
        const struct attention_block *block = t->block;
        const int8_t *k[BLOCK_PAGES], *next[BLOCK_PAGES];
        vi a[8][8], b[8];

        for (size_t p = 0; p < pages; p++) {
                size_t page = first / PAGE_VECTORS + p, skip = first % PAGE_VECTORS * 2 * LANES;

                k[p] = (const int8_t *)block->k[page] + skip * code_bytes(wide);
                next[p] = page_ahead(block, pages_read, page);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vi_zero();
        }
        for (size_t d = 0; d < block->head_dim / 2; d++) {
                UNROLL for (size_t p = 0; p < pages; p++) {
                        UNROLL for (size_t i = 0; i < per; i++)
                                b[p * per + i] = load_pairs(k[p] + d * line, i, wide);
                        fetch_pairs(next[p] + d * line, PAGE_VECTORS, wide);
                }
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vi x = vi_set1_pair(query_codes(t, r) + 2 * d);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vi_dot_pairs(a[r][i], b[i], x);
                }
        }
        UNROLL for (size_t i = 0; i < vectors; i++) {
                size_t at = (first + i) * LANES;
                vf ks = vf_load(token_scales(t, block->k[at / KV_PAGE], wide) + at % KV_PAGE);

                UNROLL for (size_t r = 0; r < rows; r++) {
                        vf s = vf_mul(vi_to_float(a[r][i]), vf_set1(steps[r]));

                        vf_store(t->scores + r * STRIDE + at, vf_mul(s, ks));
                }
        }
}

INLINE void tile_scores_int(const struct tile *t, size_t rows, size_t vectors, bool wide) {
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE, total = pages * PAGE_VECTORS, i = 0;
        float steps[ATTENTION_QUERIES];

        for (size_t r = 0; r < rows; r++) {
                struct quant_scale s = key_scale(t->query[r], t->block->head_dim);

                quantize16(query_codes(t, r), t->query[r], t->block->head_dim, s.factor,
                           QUANT16_MAX);
                steps[r] = s.step * t->block->scale;
        }
        for (; i + vectors <= total; i += vectors)
                score_pairs(t, steps, i, pages, rows, vectors, wide);
        for (; i < total; i++)
                score_pairs(t, steps, i, pages, rows, 1, wide);
}

/* Weights times what the values are worth, as integers; 0 past the end of the query. Returns what
 * a step of them is worth. */
static float weigh(const struct tile *t, size_t r, const float *vs) {
        float *w = t->scores + r * STRIDE, larger;
        size_t padded = (t->most + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
        vf max = vf_set1(0), sum[WEIGHT_VECTORS];
        struct quant_scale s;

        UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++)
                sum[i] = vf_set1(0);
        for (size_t j = 0; j < padded; j += 16)
                UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++) {
                        size_t at = j + i * LANES;
                        vf p = vf_load(w + at), x = vf_mul(p, vf_load(vs + at));

                        x = vf_where_positive(p, x);
                        vf_store(w + at, x);
                        max = vf_max(x, max);
                        sum[i] = vf_add(sum[i], x);
                }
        larger = sum_lanes(sum);
        s = quantize_scale(quantize_bound(max_lane(max), larger, QUANT16_SUM), QUANT16_MAX);
        quantize16(weight_codes(t, r), w, padded, s.factor, QUANT16_MAX);
        return s.step;
}

/* Add the keys of page `page` to `vectors` vectors of the outputs, from dimension d on; these are
 * integers until the end. */
INLINE void value_pairs(const struct tile *t, size_t page, size_t d, const int8_t *next,
                        size_t rows, size_t vectors, bool wide) {
        size_t row = 2 * t->block->head_dim * code_bytes(wide), skip = 2 * d * code_bytes(wide);
        const int8_t *v = (const int8_t *)t->block->v[page] + skip;
        vi a[8][8], b[8];

        next += skip;
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vi_load((const int32_t *)t->out[r] + d + i * LANES);
        }
        for (size_t j = page * KV_PAGE; j < (page + 1) * KV_PAGE; j += 2) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        b[i] = load_pairs(v, i, wide);
                fetch_pairs(next, vectors, wide);
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vi x = vi_set1_pair(weight_codes(t, r) + j);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vi_dot_pairs(a[r][i], b[i], x);
                }
                v += row;
                next += row;
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        vi_store((int32_t *)t->out[r] + d + i * LANES, a[r][i]);
        }
}

/* The same for the last n < LANES dimensions. */
static void value_pairs_tail(const struct tile *t, size_t page, size_t rows, size_t n, bool wide) {
        size_t head_dim = t->block->head_dim, d = head_dim - n;

        for (size_t r = 0; r < rows; r++) {
                const int8_t *v = (const int8_t *)t->block->v[page] + 2 * d * code_bytes(wide);
                int32_t *out = (int32_t *)t->out[r] + d;
                vi a = vi_load(out);

                for (size_t j = page * KV_PAGE; j < (page + 1) * KV_PAGE; j += 2) {
                        int8_t pairs[4 * LANES] = { 0 };

                        memcpy(pairs, v, 2 * n * code_bytes(wide));
                        a = vi_dot_pairs(a, load_pairs(pairs, 0, wide),
                                         vi_set1_pair(weight_codes(t, r) + j));
                        v += 2 * head_dim * code_bytes(wide);
                }
                vi_store(out, a);
        }
}

INLINE void tile_values_int(const struct tile *t, size_t rows, size_t vectors, bool wide) {
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE, head_dim = t->block->head_dim,
               behind = attention_partial(head_dim) - 16;
        float steps[ATTENTION_QUERIES], vs[ATTENTION_BLOCK];

        for (size_t page = 0; page < pages; page++)
                memcpy(vs + page * KV_PAGE, token_scales(t, t->block->v[page], wide),
                       KV_PAGE * sizeof(*vs));
        for (size_t r = 0; r < rows; r++)
                steps[r] = weigh(t, r, vs);
        for (size_t page = 0; page < pages; page++) {
                const int8_t *next = page_ahead(t->block, pages, pages + page);
                size_t d = 0;

                for (; d + vectors * LANES <= head_dim; d += vectors * LANES)
                        value_pairs(t, page, d, next, rows, vectors, wide);
                for (; vectors > 1 && d + LANES <= head_dim; d += LANES)
                        value_pairs(t, page, d, next, rows, 1, wide);
                if (d < head_dim)
                        value_pairs_tail(t, page, rows, head_dim - d, wide);
        }
        for (size_t r = 0; r < rows; r++)
                for (size_t d = 0; d < behind; d += LANES) {
                        vi sum = vi_load((const int32_t *)t->out[r] + d);

                        vf_store(t->out[r] + d, vf_mul(vi_to_float(sum), vf_set1(steps[r])));
                }
}

/* rows, vectors and wide are constants: one copy of the loops for each. */
INLINE void attend_tile_int(const struct attention_block *b, size_t first, size_t rows,
                            size_t vectors, bool wide) {
        struct tile t;

        tile_init(&t, b, first, rows);
        tile_scores_int(&t, rows, vectors, wide);
        tile_softmax(&t, rows);
        tile_values_int(&t, rows, vectors, wide);
}

/* A wide vector needs no register to be widened in: 8 queries fit with 16 lanes. */
INLINE size_t tile_rows_int(size_t n) {
        return LANES == 16 ? n : tile_rows(n);
}

INLINE void attend_int(const struct attention_block *b, bool wide) {
        for (size_t i = 0, n; i < b->n; i += n) {
                n = tile_rows_int(b->n - i);
                switch (n) {
                case 1: attend_tile_int(b, i, 1, VECTORS_1, wide); break;
                case 2: attend_tile_int(b, i, 2, VECTORS_2, wide); break;
                case 3: attend_tile_int(b, i, 3, VECTORS_3, wide); break;
                case 4: attend_tile_int(b, i, 4, VECTORS_4, wide); break;
                case 5: attend_tile_int(b, i, 5, 2, wide); break;
                case 6: attend_tile_int(b, i, 6, 2, wide); break;
                case 7: attend_tile_int(b, i, 7, 2, wide); break;
                default: attend_tile_int(b, i, 8, 2, wide); break;
                }
        }
}

void KERNEL(attention_s8)(const struct attention_block *a) {
        attend_int(a, false);
}

void KERNEL(attention_s16)(const struct attention_block *a) {
        attend_int(a, true);
}
