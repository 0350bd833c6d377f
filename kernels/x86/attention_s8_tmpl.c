/* The same as attention_tmpl.c (whose tiles, softmax and fetching are used) with K and V in 8 bits.
 * A lane is a pair, two dimensions of a key or two keys of a dimension, widened to 16 bits, so that
 * one instruction multiplies and adds both. Sums are integers: nothing depends on order, and a key
 * that a query does not see has weight 0, whatever its codes are. */
#include "kernels/ref/quantize.h"

/* Row r of the queries' and of the weights' integers: they take the place of the floats. */
INLINE int16_t *query_codes(const struct tile *t, size_t r) {
        return (int16_t *)t->q + r * STRIDE;
}

INLINE int16_t *weight_codes(const struct tile *t, size_t r) {
        return (int16_t *)t->q + (ATTENTION_QUERIES + r) * STRIDE;
}

INLINE const float *token_scales(const struct tile *t, const void *page) {
        return (const float *)((const int8_t *)page + KV_PAGE * t->block->head_dim);
}

static void quantize16(int16_t *codes, const float *x, size_t n, float factor) {
        size_t i = 0;

        for (; i + LANES <= n; i += LANES) {
                vf v = vf_min(vf_mul(vf_load(x + i), vf_set1(factor)), vf_set1(QUANT16_MAX));

                vi_store_words(codes + i, vf_round(vf_max(v, vf_set1(-QUANT16_MAX))));
        }
        for (; i < n; i++)
                codes[i] = quantize16_value(x[i], factor);
}

/* Scores of the keys of `vectors` vectors, from vector `first` on. steps: what the codes of each
 * query are worth, with the scale of the scores. */
INLINE void score_pairs(const struct tile *t, const float *steps, size_t first, size_t pages_read,
                        size_t rows, size_t vectors) {
        const size_t per = vectors < PAGE_VECTORS ? vectors : PAGE_VECTORS, pages = vectors / per;
        const struct attention_block *block = t->block;
        const int8_t *k[BLOCK_PAGES], *next[BLOCK_PAGES];
        vi a[8][8], b[8];

        for (size_t p = 0; p < pages; p++) {
                size_t page = first / PAGE_VECTORS + p;

                k[p] = (const int8_t *)block->k[page] + first % PAGE_VECTORS * 2 * LANES;
                next[p] = page_ahead(block, pages_read, page);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vi_zero();
        }
        for (size_t d = 0; d < block->head_dim; d += 2) {
                UNROLL for (size_t p = 0; p < pages; p++) {
                        UNROLL for (size_t i = 0; i < per; i++)
                                b[p * per + i] = vi_load_pairs(k[p] + d * KV_PAGE + 2 * i * LANES);
                        fetch(next[p] + d * KV_PAGE);
                }
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vi x = vi_set1_pair(query_codes(t, r) + d);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vi_dot_pairs(a[r][i], b[i], x);
                }
        }
        UNROLL for (size_t i = 0; i < vectors; i++) {
                size_t at = (first + i) * LANES;
                vf ks = vf_load(token_scales(t, block->k[at / KV_PAGE]) + at % KV_PAGE);

                UNROLL for (size_t r = 0; r < rows; r++) {
                        vf s = vf_mul(vi_to_float(a[r][i]), vf_set1(steps[r]));

                        vf_store(t->scores + r * STRIDE + at, vf_mul(s, ks));
                }
        }
}

INLINE void tile_scores_s8(const struct tile *t, size_t rows, size_t vectors) {
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE, total = pages * PAGE_VECTORS, i = 0;
        float steps[ATTENTION_QUERIES];

        for (size_t r = 0; r < rows; r++) {
                const float *q = t->query[r];
                float m = max_magnitude(q, t->block->head_dim);
                struct quant_scale s = quantize_scale(m, QUANT16_MAX);

                quantize16(query_codes(t, r), q, t->block->head_dim, s.factor);
                steps[r] = s.step * t->block->scale;
        }
        for (; i + vectors <= total; i += vectors)
                score_pairs(t, steps, i, pages, rows, vectors);
        for (; i < total; i++)
                score_pairs(t, steps, i, pages, rows, 1);
}

/* Weights times what the values are worth, as integers; 0 past the end of the query. Returns what
 * a step of them is worth. */
static float weigh(const struct tile *t, size_t r) {
        float *w = t->scores + r * STRIDE;
        size_t n = t->n_keys[r], padded = (t->most + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
        struct quant_scale s;

        for (size_t j = 0; j < padded; j += LANES) {
                const float *vs = token_scales(t, t->block->v[j / KV_PAGE]) + j % KV_PAGE;

                vf_store(w + j, vf_mul(vf_load(w + j), vf_load(vs)));
        }
        for (size_t j = n; j < padded; j++)
                w[j] = 0;
        s = quantize_scale(max_magnitude(w, (uint32_t)padded), QUANT16_MAX);
        quantize16(weight_codes(t, r), w, padded, s.factor);
        return s.step;
}

/* Add the keys of page `page` to `vectors` vectors of the outputs, from dimension d on; these are
 * integers until the end. */
INLINE void value_pairs(const struct tile *t, size_t page, size_t d, const int8_t *next,
                        size_t rows, size_t vectors) {
        size_t head_dim = t->block->head_dim;
        const int8_t *v = (const int8_t *)t->block->v[page] + 2 * d;
        vi a[8][8], b[8];

        next += 2 * d;
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vi_load((const int32_t *)t->out[r] + d + i * LANES);
        }
        for (size_t j = page * KV_PAGE; j < (page + 1) * KV_PAGE; j += 2) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        b[i] = vi_load_pairs(v + 2 * i * LANES);
                UNROLL for (size_t i = 0; i < vectors; i += 32 / LANES)
                        fetch(next + 2 * i * LANES);
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vi x = vi_set1_pair(weight_codes(t, r) + j);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vi_dot_pairs(a[r][i], b[i], x);
                }
                v += 2 * head_dim;
                next += 2 * head_dim;
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        vi_store((int32_t *)t->out[r] + d + i * LANES, a[r][i]);
        }
}

/* The same for the last n < LANES dimensions. */
static void value_pairs_tail(const struct tile *t, size_t page, size_t rows, size_t n) {
        size_t head_dim = t->block->head_dim, d = head_dim - n;

        for (size_t r = 0; r < rows; r++) {
                const int8_t *v = (const int8_t *)t->block->v[page] + 2 * d;
                int32_t *out = (int32_t *)t->out[r] + d;
                vi a = vi_load(out);

                for (size_t j = page * KV_PAGE; j < (page + 1) * KV_PAGE; j += 2) {
                        int8_t pairs[2 * LANES] = { 0 };

                        memcpy(pairs, v, 2 * n);
                        a = vi_dot_pairs(a, vi_load_pairs(pairs),
                                         vi_set1_pair(weight_codes(t, r) + j));
                        v += 2 * head_dim;
                }
                vi_store(out, a);
        }
}

INLINE void tile_values_s8(const struct tile *t, size_t rows, size_t vectors) {
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE, head_dim = t->block->head_dim,
               behind = attention_partial(head_dim) - 16;
        float steps[ATTENTION_QUERIES];

        for (size_t r = 0; r < rows; r++)
                steps[r] = weigh(t, r);
        for (size_t page = 0; page < pages; page++) {
                const int8_t *next = page_ahead(t->block, pages, pages + page);
                size_t d = 0;

                for (; d + vectors * LANES <= head_dim; d += vectors * LANES)
                        value_pairs(t, page, d, next, rows, vectors);
                for (; vectors > 1 && d + LANES <= head_dim; d += LANES)
                        value_pairs(t, page, d, next, rows, 1);
                if (d < head_dim)
                        value_pairs_tail(t, page, rows, head_dim - d);
        }
        for (size_t r = 0; r < rows; r++)
                for (size_t d = 0; d < behind; d += LANES) {
                        vi sum = vi_load((const int32_t *)t->out[r] + d);

                        vf_store(t->out[r] + d, vf_mul(vi_to_float(sum), vf_set1(steps[r])));
                }
}

INLINE void attend_tile_s8(const struct attention_block *b, size_t first, size_t rows,
                           size_t vectors) {
        struct tile t;

        tile_init(&t, b, first, rows);
        tile_scores_s8(&t, rows, vectors);
        tile_softmax(&t, rows);
        tile_values_s8(&t, rows, vectors);
}

static void attend_queries_s8(const struct attention_block *b, size_t first, size_t rows) {
        switch (rows) {
        case 1: attend_tile_s8(b, first, 1, VECTORS_1); break;
        case 2: attend_tile_s8(b, first, 2, VECTORS_2); break;
        case 3: attend_tile_s8(b, first, 3, VECTORS_3); break;
        case 4: attend_tile_s8(b, first, 4, VECTORS_4); break;
        case 5: attend_tile_s8(b, first, 5, VECTORS_MANY); break;
        default: attend_tile_s8(b, first, 6, VECTORS_MANY); break;
        }
}

void KERNEL(attention_s8)(const struct attention_block *a) {
        for (size_t i = 0, n; i < a->n; i += n) {
                n = tile_rows(a->n - i);
                attend_queries_s8(a, i, n);
        }
}
