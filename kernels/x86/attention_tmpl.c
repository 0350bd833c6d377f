/* Attention of up to 8 queries over a block of keys, written once for every vector width. A vector
 * of K or V is loaded and widened once for all queries of a tile. Scores: one lane is one key, and
 * all 32 keys of a page are computed, so garbage behind the last key is computed along and then
 * overwritten by -infinity, whose weight is 0. Values: one lane is one dimension; keys that all
 * queries see go together, the few that only some see go query by query.
 *
 * The two products have the same form: `rows` values broadcast from scratch, times `vectors`
 * vectors of halves, into rows * vectors accumulators. Both counts are constants where they are
 * used, so that the accumulators are registers. While one page is computed the next is fetched. */
#include <math.h>

#include "kernels/ref/ref.h"

enum {
        STRIDE = ATTENTION_BLOCK,       /* floats from one query to the next in scratch */
        PAGE_VECTORS = KV_PAGE / LANES,
        BLOCK_PAGES = ATTENTION_BLOCK / KV_PAGE,
        WEIGHT_VECTORS = 16 / LANES,    /* vectors that hold the 16 partial sums */
        TILE_MAX = 6,                   /* queries whose accumulators fit the registers */
};

/* What one tile works on: queries [0, rows) of `q` and `scores`, each row STRIDE floats. */
struct tile {
        const struct attention_block *block;
        float *q, *scores;
        uint32_t n_keys[ATTENTION_QUERIES];
        const float *query[ATTENTION_QUERIES];
        float *out[ATTENTION_QUERIES];
        uint32_t most, common; /* keys that some query sees, that all see */
};

INLINE void fetch(const void *p) {
        __builtin_prefetch(p, 0, 2);
}

/* Scores of the keys of `vectors` vectors, from vector `first` of the block on. `next` is what
 * will be read afterwards, a line of it for each dimension. */
INLINE void score_vectors(const struct tile *t, size_t first, const void *const *next,
                          size_t rows, size_t vectors) {
        const size_t per = vectors < PAGE_VECTORS ? vectors : PAGE_VECTORS, pages = vectors / per;
        const uint16_t *k[BLOCK_PAGES];
        vf a[8][8], b[8];

        for (size_t p = 0; p < pages; p++)
                k[p] = (const uint16_t *)t->block->k[first / PAGE_VECTORS + p] +
                       first % PAGE_VECTORS * LANES;
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vf_set1(0);
        }
        for (size_t d = 0; d < t->block->head_dim; d++) {
                UNROLL for (size_t p = 0; p < pages; p++) {
                        UNROLL for (size_t i = 0; i < per; i++)
                                b[p * per + i] = vf_load_f16(k[p] + d * KV_PAGE + i * LANES);
                        fetch((const uint16_t *)next[p] + d * KV_PAGE);
                }
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vf x = vf_set1(t->q[r * STRIDE + d]);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vf_add(a[r][i], vf_mul(x, b[i]));
                }
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        vf_store(t->scores + r * STRIDE + (first + i) * LANES,
                                 vf_mul(a[r][i], vf_set1(t->block->scale)));
        }
}

/* What is fetched while page i of K, then V, is read: V of the same block, then K of the next. */
static const void *page_ahead(const struct attention_block *b, size_t pages, size_t i) {
        if (i < pages)
                return b->v[i];
        return b->next ? b->next[i - pages] : b->v[pages - 1];
}

INLINE void tile_scores(const struct tile *t, size_t rows, size_t vectors) {
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE, total = pages * PAGE_VECTORS, i = 0;
        const void *next[BLOCK_PAGES];

        while (i < total) {
                bool all = i + vectors <= total;
                size_t step = all ? vectors : 1, end = i + step;

                for (size_t p = 0; p * PAGE_VECTORS < step; p++)
                        next[p] = page_ahead(t->block, pages, i / PAGE_VECTORS + p);
                if (all)
                        score_vectors(t, i, next, rows, vectors);
                else
                        score_vectors(t, i, next, rows, 1);
                i = end;
        }
}

static float max_lane(vf v) {
        float lanes[LANES], m;

        vf_store(lanes, v);
        m = lanes[0];
        for (size_t i = 1; i < LANES; i++)
                m = lanes[i] > m ? lanes[i] : m;
        return m;
}

/* The tree of rms_norm over the 16 lanes of these vectors. */
static float sum_lanes(const vf v[WEIGHT_VECTORS]) {
        float lanes[16];

        for (size_t i = 0; i < WEIGHT_VECTORS; i++)
                vf_store(lanes + i * LANES, v[i]);
        for (size_t width = 8; width > 0; width /= 2)
                for (size_t i = 0; i < width; i++)
                        lanes[i] += lanes[i + width];
        return lanes[0];
}

/* Turn n scores (a multiple of 32) into exp(s - max); the maximum and the sum go to ml. */
static void softmax_weights(float *scores, size_t n, float ml[2]) {
        vf max = vf_load(scores), sum[WEIGHT_VECTORS];
        float m;

        for (size_t j = LANES; j < n; j += LANES)
                max = vf_max(vf_load(scores + j), max);
        m = max_lane(max);
        UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++)
                sum[i] = vf_set1(0);
        for (size_t j = 0; j < n; j += 16)
                UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++) {
                        float *s = scores + j + i * LANES;
                        vf p = vf_exp(vf_sub(vf_load(s), vf_set1(m)));

                        vf_store(s, p);
                        sum[i] = vf_add(sum[i], p);
                }
        ml[0] = m;
        ml[1] = sum_lanes(sum);
}

/* Add keys [from, to) of one page to `vectors` vectors of the outputs, from dimension d on. Row r
 * is query `query` + r. The next page is fetched on the way, unless it is NULL. */
INLINE void value_vectors(const struct tile *t, size_t query, size_t from, size_t to, size_t d,
                          const uint16_t *next, size_t rows, size_t vectors) {
        size_t head_dim = t->block->head_dim;
        const uint16_t *v = (const uint16_t *)t->block->v[from / KV_PAGE] +
                            from % KV_PAGE * head_dim + d;
        vf a[8][8], b[8];

        next += from % KV_PAGE * head_dim + d;
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[r][i] = vf_load(t->out[query + r] + d + i * LANES);
        }
        for (size_t j = from; j < to; j++, v += head_dim, next += head_dim) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        b[i] = vf_load_f16(v + i * LANES);
                UNROLL for (size_t i = 0; i < vectors; i += 32 / LANES)
                        fetch(next + i * LANES);
                UNROLL for (size_t r = 0; r < rows; r++) {
                        vf x = vf_set1(t->scores[(query + r) * STRIDE + j]);

                        UNROLL for (size_t i = 0; i < vectors; i++)
                                a[r][i] = vf_fma(x, b[i], a[r][i]);
                }
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
                UNROLL for (size_t i = 0; i < vectors; i++)
                        vf_store(t->out[query + r] + d + i * LANES, a[r][i]);
        }
}

/* The same for the last n < LANES dimensions, query by query. */
static void value_tail(const struct tile *t, size_t query, size_t from, size_t to, size_t n) {
        size_t head_dim = t->block->head_dim, d = head_dim - n;
        float *out = t->out[query] + d;
        vf a = vf_load_n(out, n);

        for (size_t j = from; j < to; j++) {
                const uint16_t *v = (const uint16_t *)t->block->v[j / KV_PAGE] +
                                    j % KV_PAGE * head_dim + d;

                a = vf_fma(vf_set1(t->scores[query * STRIDE + j]), vf_load_f16_n(v, n), a);
        }
        vf_store_n(out, a, n);
}

/* Keys [from, to) of one page to all dimensions of queries [query, query + rows). */
INLINE void value_page(const struct tile *t, size_t query, size_t from, size_t to,
                       const uint16_t *next, size_t rows, size_t vectors) {
        size_t head_dim = t->block->head_dim, d = 0;

        for (; d + vectors * LANES <= head_dim; d += vectors * LANES)
                value_vectors(t, query, from, to, d, next, rows, vectors);
        for (; vectors > 2 && d + 2 * LANES <= head_dim; d += 2 * LANES)
                value_vectors(t, query, from, to, d, next, rows, 2);
        for (; vectors > 1 && d + LANES <= head_dim; d += LANES)
                value_vectors(t, query, from, to, d, next, rows, 1);
        for (size_t r = 0; r < rows && d < head_dim; r++)
                value_tail(t, query + r, from, to, head_dim - d);
}

INLINE void tile_values(const struct tile *t, size_t rows, size_t vectors) {
        const struct attention_block *b = t->block;
        size_t pages = (t->most + KV_PAGE - 1) / KV_PAGE;

        for (size_t j = 0; j < t->common; j += KV_PAGE)
                value_page(t, 0, j, j + KV_PAGE < t->common ? j + KV_PAGE : t->common,
                           page_ahead(b, pages, pages + j / KV_PAGE), rows, vectors);
}

/* Keys that not all queries see. */
static void odd_values(const struct tile *t, size_t rows) {
        for (size_t r = 0; r < rows; r++)
                for (size_t j = t->common, end; j < t->n_keys[r]; j = end) {
                        end = (j / KV_PAGE + 1) * KV_PAGE;
                        end = end < t->n_keys[r] ? end : t->n_keys[r];
                        value_page(t, r, j, end, t->block->v[j / KV_PAGE], 1, 4);
                }
}

static void tile_init(struct tile *t, const struct attention_block *b, size_t first, size_t rows) {
        size_t padded = attention_partial(b->head_dim) - 16;

        *t = (struct tile){.block = b, .q = b->scratch,
                           .scores = b->scratch + ATTENTION_QUERIES * STRIDE,
                           .common = ATTENTION_BLOCK};
        for (size_t r = 0; r < rows; r++) {
                uint32_t n = b->n_keys[first + r];

                t->n_keys[r] = n;
                t->out[r] = b->partial[first + r];
                t->most = n > t->most ? n : t->most;
                t->common = n < t->common ? n : t->common;
                t->query[r] = b->q[first + r];
                memset(t->out[r], 0, padded * sizeof(float));
        }
}

static void tile_softmax(const struct tile *t, size_t rows) {
        size_t padded = (t->most + KV_PAGE - 1) / KV_PAGE * KV_PAGE,
               behind = attention_partial(t->block->head_dim) - 16;

        for (size_t r = 0; r < rows; r++) {
                for (size_t j = t->n_keys[r]; j < padded; j++)
                        t->scores[r * STRIDE + j] = -INFINITY;
                softmax_weights(t->scores + r * STRIDE, padded, t->out[r] + behind);
        }
}

/* rows and vectors are constants: one copy of the loops for each. */
INLINE void attend_tile(const struct attention_block *b, size_t first, size_t rows,
                        size_t vectors) {
        struct tile t;

        tile_init(&t, b, first, rows);
        for (size_t r = 0; r < rows; r++)
                memcpy(t.q + r * STRIDE, t.query[r], b->head_dim * sizeof(float));
        tile_scores(&t, rows, vectors);
        tile_softmax(&t, rows);
        tile_values(&t, rows, vectors);
        odd_values(&t, rows);
}

/* The most accumulators that leave room for `vectors` vectors of halves and a broadcast value. */
enum {
        VECTORS_1 = 8,
        VECTORS_2 = LANES == 16 ? 8 : 4,
        VECTORS_3 = LANES == 16 ? 4 : 2,
        VECTORS_4 = LANES == 16 ? 4 : 2,
        VECTORS_MANY = LANES == 16 ? 4 : 2, /* 5, 6 */
};

static void attend_queries(const struct attention_block *b, size_t first, size_t rows) {
        switch (rows) {
        case 1: attend_tile(b, first, 1, VECTORS_1); break;
        case 2: attend_tile(b, first, 2, VECTORS_2); break;
        case 3: attend_tile(b, first, 3, VECTORS_3); break;
        case 4: attend_tile(b, first, 4, VECTORS_4); break;
        case 5: attend_tile(b, first, 5, VECTORS_MANY); break;
        default: attend_tile(b, first, 6, VECTORS_MANY); break;
        }
}

/* Queries of the next tile when n are left: 8 are 4 and 4, since 6 and 2 take longer. */
static size_t tile_rows(size_t n) {
        return n > TILE_MAX ? 4 : n;
}

void KERNEL(attention)(const struct attention_block *a) {
        for (size_t i = 0, n; i < a->n; i += n) {
                n = tile_rows(a->n - i);
                attend_queries(a, i, n);
        }
}

void KERNEL(attention_merge)(float *partial, const float *next, size_t head_dim) {
        size_t behind = attention_partial(head_dim) - 16;
        float *ml = partial + behind;
        const float *ml_next = next + behind;
        float max = ml_next[0] > ml[0] ? ml_next[0] : ml[0];
        float a = expf_fixed(ml[0] - max), b = expf_fixed(ml_next[0] - max);

        for (size_t d = 0; d < behind; d += LANES)
                vf_store(partial + d, vf_add(vf_mul(vf_load(partial + d), vf_set1(a)),
                                             vf_mul(vf_load(next + d), vf_set1(b))));
        ml[0] = max;
        ml[1] = ml[1] * a + ml_next[1] * b;
}

void KERNEL(attention_finish)(float *out, const float *partial, size_t head_dim) {
        vf l = vf_set1(partial[attention_partial(head_dim) - 15]);
        size_t d = 0;

        for (; d + LANES <= head_dim; d += LANES)
                vf_store(out + d, vf_div(vf_load(partial + d), l));
        if (d < head_dim)
                vf_store_n(out + d, vf_div(vf_load(partial + d), l), head_dim - d);
}
