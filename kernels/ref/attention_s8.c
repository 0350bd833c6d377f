/* Queries over one block of keys and values in 8 bits. Query and weights become 16-bit integers, so
 * both products are exact and their order is free. Keys past the end of a query are never looked
 * at. */
#include "kernels/ref/attention.h"
#include "kernels/ref/quantize.h"
#include "kernels/ref/ref.h"

static const float *token_scales(const void *page, size_t head_dim) {
        return (const float *)((const int8_t *)page + KV_PAGE * head_dim);
}

static float max_magnitude(const float *x, size_t n) {
        float m = 0;

        for (size_t i = 0; i < n; i++)
                m = quantize_max(m, x[i]);
        return m;
}

static void key_scores(const struct attention_block *a, const float *q, float *scores,
                       size_t n_keys) {
        struct quant_scale s = quantize_scale(max_magnitude(q, a->head_dim), QUANT16_MAX);

        for (size_t j = 0; j < n_keys; j++) {
                const int8_t *k = a->k[j / KV_PAGE];
                int32_t sum = 0;

                for (size_t d = 0; d < a->head_dim; d++)
                        sum += quantize16_value(q[d], s.factor) *
                               k[d / 2 * 2 * KV_PAGE + j % KV_PAGE * 2 + d % 2];
                scores[j] = ((float)sum * (s.step * a->scale)) *
                            token_scales(k, a->head_dim)[j % KV_PAGE];
        }
}

/* weights becomes what the values are multiplied with. */
static void weigh_values(const struct attention_block *a, float *o, float *weights, size_t n_keys) {
        struct quant_scale s;

        for (size_t j = 0; j < n_keys; j++)
                weights[j] *= token_scales(a->v[j / KV_PAGE], a->head_dim)[j % KV_PAGE];
        s = quantize_scale(max_magnitude(weights, n_keys), QUANT16_MAX);
        for (size_t d = 0; d < a->head_dim; d++) {
                int32_t sum = 0;

                for (size_t j = 0; j < n_keys; j++) {
                        const int8_t *v = (const int8_t *)a->v[j / KV_PAGE] +
                                          j % KV_PAGE / 2 * 2 * a->head_dim;

                        sum += quantize16_value(weights[j], s.factor) * v[2 * d + j % 2];
                }
                o[d] = (float)sum * s.step;
        }
}

void attention_s8_c(const struct attention_block *a) {
        size_t behind = attention_partial(a->head_dim) - 16;

        for (size_t i = 0; i < a->n; i++) {
                float *o = a->partial[i], *scores = a->scratch;

                key_scores(a, a->q[i], scores, a->n_keys[i]);
                softmax_weights_c(scores, a->n_keys[i], o + behind);
                weigh_values(a, o, scores, a->n_keys[i]);
                for (size_t d = a->head_dim; d < behind; d++)
                        o[d] = 0;
        }
}
