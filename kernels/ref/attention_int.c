/* Queries over one block of keys and values as integers of 8 or 16 bits. Query and weights become
 * 16-bit integers, so both products are exact and their order is free; what the codes are cut to
 * keeps every sum within 32 bits. Keys past the end of a query are never looked at. */
#include "kernels/ref/attention.h"
#include "kernels/ref/quantize.h"
#include "kernels/ref/ref.h"

static int32_t code_at(const void *page, size_t i, bool wide) {
        return wide ? ((const int16_t *)page)[i] : ((const int8_t *)page)[i];
}

static const float *token_scales(const void *page, size_t head_dim, bool wide) {
        return (const float *)((const int8_t *)page + KV_PAGE * head_dim * (wide ? 2 : 1));
}

/* Sums wrap around, as they do in vector registers; they only can where inputs are no numbers. */
static int32_t add_product(int32_t sum, int32_t a, int32_t b) {
        return (int32_t)((uint32_t)sum + (uint32_t)(a * b));
}

static void key_scores(const struct attention_block *a, const float *q, float *scores,
                       size_t n_keys, bool wide) {
        int16_t codes[ATTENTION_DIM_MAX];
        float step;

        quantize_key16_c(codes, &step, q, a->head_dim);
        for (size_t j = 0; j < n_keys; j++) {
                const void *k = a->k[j / KV_PAGE];
                int32_t sum = 0;

                for (size_t d = 0; d < a->head_dim; d++)
                        sum = add_product(sum, codes[d],
                                          code_at(k, d / 2 * 2 * KV_PAGE + j % KV_PAGE * 2 + d % 2,
                                                  wide));
                scores[j] = ((float)sum * (step * a->scale)) *
                            token_scales(k, a->head_dim, wide)[j % KV_PAGE];
        }
}

/* What the values are multiplied with, as integers; returns what a step of them is worth. */
static float weigh(const struct attention_block *a, int16_t *codes, float *weights, size_t n_keys,
                   bool wide) {
        float max = 0, sum[16] = { 0 };
        struct quant_scale s;

        for (size_t j = 0; j < n_keys; j++) {
                float vs = token_scales(a->v[j / KV_PAGE], a->head_dim, wide)[j % KV_PAGE];

                weights[j] = weights[j] > 0 ? weights[j] * vs : 0;
                max = quantize_max(max, weights[j]);
                sum[j % 16] += weights[j];
        }
        for (size_t width = 8; width > 0; width /= 2)
                for (size_t i = 0; i < width; i++)
                        sum[i] += sum[i + width];
        s = quantize_scale(quantize_bound(max, sum[0], QUANT16_SUM), QUANT16_MAX);
        for (size_t j = 0; j < n_keys; j++)
                codes[j] = quantize16_value(weights[j], s.factor);
        return s.step;
}

static void add_values(const struct attention_block *a, float *o, float *weights, size_t n_keys,
                       bool wide) {
        int16_t codes[ATTENTION_BLOCK];
        float step = weigh(a, codes, weights, n_keys, wide);

        for (size_t d = 0; d < a->head_dim; d++) {
                int32_t sum = 0;

                for (size_t j = 0; j < n_keys; j++)
                        sum = add_product(sum, codes[j],
                                          code_at(a->v[j / KV_PAGE], j % KV_PAGE / 2 * 2 *
                                                  a->head_dim + 2 * d + j % 2, wide));
                o[d] = (float)sum * step;
        }
}

static void attend(const struct attention_block *a, bool wide) {
        size_t behind = attention_partial(a->head_dim) - 16;

        for (size_t i = 0; i < a->n; i++) {
                float *o = a->partial[i], *scores = a->scratch;

                key_scores(a, a->q[i], scores, a->n_keys[i], wide);
                softmax_weights_c(scores, a->n_keys[i], o + behind);
                add_values(a, o, scores, a->n_keys[i], wide);
                for (size_t d = a->head_dim; d < behind; d++)
                        o[d] = 0;
        }
}

void attention_s8_c(const struct attention_block *a) {
        attend(a, false);
}

void attention_s16_c(const struct attention_block *a) {
        attend(a, true);
}
