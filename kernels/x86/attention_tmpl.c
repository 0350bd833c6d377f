/* Attention of one query head, written once for every vector width. Scores: one lane is one key,
 * all 32 keys of a page at a time, so garbage behind the last key is computed along and then
 * overwritten by -infinity, whose weight is 0. Values: one lane is one dimension, and only valid
 * keys are read. */
#include <math.h>

#include "kernels/ref/ref.h"

enum {
        PAGE_VECTORS = KV_PAGE / LANES,
        SCORE_PAGES = 4 / PAGE_VECTORS, /* pages side by side, so that four chains run */
        WEIGHT_VECTORS = 16 / LANES,    /* vectors that hold the 16 partial sums */
};

INLINE void score_pages(float *scores, const float *q, const uint16_t *const *k, size_t head_dim,
                        float scale, size_t pages) {
        vf a[SCORE_PAGES][PAGE_VECTORS];

        UNROLL for (size_t p = 0; p < pages; p++) {
                UNROLL for (size_t i = 0; i < PAGE_VECTORS; i++)
                        a[p][i] = vf_set1(0);
        }
        for (size_t d = 0; d < head_dim; d++) {
                vf v = vf_set1(q[d]);

                UNROLL for (size_t p = 0; p < pages; p++) {
                        UNROLL for (size_t i = 0; i < PAGE_VECTORS; i++)
                                a[p][i] = vf_add(a[p][i],
                                                 vf_mul(v, vf_load_f16(k[p] + d * KV_PAGE +
                                                                       i * LANES)));
                }
        }
        UNROLL for (size_t p = 0; p < pages; p++) {
                UNROLL for (size_t i = 0; i < PAGE_VECTORS; i++)
                        vf_store(scores + p * KV_PAGE + i * LANES,
                                 vf_mul(a[p][i], vf_set1(scale)));
        }
}

/* Turn n scores (a multiple of 32) into exp(s - max) and return their sum. */
static float softmax_weights(float *scores, size_t n) {
        vf max = vf_load(scores), sum[WEIGHT_VECTORS];
        float lanes[16], m;

        for (size_t j = LANES; j < n; j += LANES)
                max = vf_max(vf_load(scores + j), max);
        vf_store(lanes, max);
        m = lanes[0];
        for (size_t i = 1; i < LANES; i++)
                m = lanes[i] > m ? lanes[i] : m;

        UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++)
                sum[i] = vf_set1(0);
        for (size_t j = 0; j < n; j += 16)
                UNROLL for (size_t i = 0; i < WEIGHT_VECTORS; i++) {
                        float *s = scores + j + i * LANES;
                        vf p = vf_exp(vf_sub(vf_load(s), vf_set1(m)));

                        vf_store(s, p);
                        sum[i] = vf_add(sum[i], p);
                }
        for (size_t i = 0; i < WEIGHT_VECTORS; i++)
                vf_store(lanes + i * LANES, sum[i]);
        for (size_t width = 8; width > 0; width /= 2)
                for (size_t i = 0; i < width; i++)
                        lanes[i] += lanes[i + width];
        return lanes[0];
}

/* `vectors` whole vectors of the output from dimension d on. */
INLINE void value_vectors(float *out, const float *weights, const uint16_t *const *v,
                          size_t n_keys, size_t head_dim, size_t d, float l, size_t vectors) {
        vf a[8];

        UNROLL for (size_t i = 0; i < vectors; i++)
                a[i] = vf_set1(0);
        for (size_t j = 0; j < n_keys; j++) {
                const uint16_t *row = v[j / KV_PAGE] + j % KV_PAGE * head_dim + d;
                vf p = vf_set1(weights[j]);

                UNROLL for (size_t i = 0; i < vectors; i++)
                        a[i] = vf_add(a[i], vf_mul(p, vf_load_f16(row + i * LANES)));
        }
        UNROLL for (size_t i = 0; i < vectors; i++)
                vf_store(out + d + i * LANES, vf_div(a[i], vf_set1(l)));
}

/* The last n < LANES dimensions. */
static void value_tail(float *out, const float *weights, const uint16_t *const *v, size_t n_keys,
                       size_t head_dim, float l, size_t n) {
        size_t d = head_dim - n;
        vf a = vf_set1(0);

        for (size_t j = 0; j < n_keys; j++) {
                const uint16_t *row = v[j / KV_PAGE] + j % KV_PAGE * head_dim + d;

                a = vf_add(a, vf_mul(vf_set1(weights[j]), vf_load_f16_n(row, n)));
        }
        vf_store_n(out + d, vf_div(a, vf_set1(l)), n);
}

void KERNEL(attention)(float *out, const float *q, const uint16_t *const *k,
                       const uint16_t *const *v, size_t n_keys, size_t head_dim, float scale,
                       float *scores) {
        size_t pages = (n_keys + KV_PAGE - 1) / KV_PAGE, p = 0, d = 0;
        float l;

        for (; p + SCORE_PAGES <= pages; p += SCORE_PAGES)
                score_pages(scores + p * KV_PAGE, q, k + p, head_dim, scale, SCORE_PAGES);
        for (; p < pages; p++)
                score_pages(scores + p * KV_PAGE, q, k + p, head_dim, scale, 1);
        for (size_t j = n_keys; j < pages * KV_PAGE; j++)
                scores[j] = -INFINITY;
        l = softmax_weights(scores, pages * KV_PAGE);

        for (; d + 8 * LANES <= head_dim; d += 8 * LANES)
                value_vectors(out, scores, v, n_keys, head_dim, d, l, 8);
        for (; d + 4 * LANES <= head_dim; d += 4 * LANES)
                value_vectors(out, scores, v, n_keys, head_dim, d, l, 4);
        for (; d + LANES <= head_dim; d += LANES)
                value_vectors(out, scores, v, n_keys, head_dim, d, l, 1);
        if (d < head_dim)
                value_tail(out, scores, v, n_keys, head_dim, l, head_dim - d);
}
