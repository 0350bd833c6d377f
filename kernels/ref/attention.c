/* Queries over one block of cached keys and values. Three passes: scores, softmax weights (not yet
 * divided by their sum), weighted sum of the values. Keys past the end of a query are never looked
 * at, so what their memory holds cannot matter. */
#include "kernels/ref/attention.h"
#include "kernels/ref/expf.h"
#include "kernels/ref/fma.h"
#include "kernels/ref/fp16.h"
#include "kernels/ref/ref.h"

static float key_score(const struct attention_block *a, const float *q, size_t j) {
        const uint16_t *page = a->k[j / KV_PAGE];
        float s = 0;

        for (size_t d = 0; d < a->head_dim; d++)
                s = s + q[d] * f16_to_f32(page[d * KV_PAGE + j % KV_PAGE]);
        return s * a->scale;
}

void softmax_weights_c(float *scores, size_t n_keys, float ml[2]) {
        float max = scores[0], sum[16] = { 0 };

        for (size_t j = 1; j < n_keys; j++)
                max = scores[j] > max ? scores[j] : max;
        for (size_t j = 0; j < n_keys; j++) {
                scores[j] = expf_fixed(scores[j] - max);
                sum[j % 16] += scores[j];
        }
        for (size_t width = 8; width > 0; width /= 2)
                for (size_t i = 0; i < width; i++)
                        sum[i] += sum[i + width];
        ml[0] = max;
        ml[1] = sum[0];
}

static void attend_query(const struct attention_block *a, size_t i) {
        size_t behind = attention_partial(a->head_dim) - 16;
        float *o = a->partial[i], *scores = a->scratch;

        for (size_t j = 0; j < a->n_keys[i]; j++)
                scores[j] = key_score(a, a->q[i], j);
        softmax_weights_c(scores, a->n_keys[i], o + behind);
        for (size_t d = 0; d < behind; d++)
                o[d] = 0;
        for (size_t j = 0; j < a->n_keys[i]; j++) {
                const uint16_t *v = (const uint16_t *)a->v[j / KV_PAGE] +
                                    j % KV_PAGE * a->head_dim;

                for (size_t d = 0; d < a->head_dim; d++)
                        o[d] = fma_fixed(scores[j], f16_to_f32(v[d]), o[d]);
        }
}

void attention_c(const struct attention_block *a) {
        for (size_t i = 0; i < a->n; i++)
                attend_query(a, i);
}

void attention_merge_c(float *partial, const float *next, size_t head_dim) {
        size_t behind = attention_partial(head_dim) - 16;
        float *ml = partial + behind;
        const float *ml_next = next + behind;
        float max = ml_next[0] > ml[0] ? ml_next[0] : ml[0];
        float a = expf_fixed(ml[0] - max), b = expf_fixed(ml_next[0] - max);

        for (size_t d = 0; d < head_dim; d++)
                partial[d] = partial[d] * a + next[d] * b;
        ml[0] = max;
        ml[1] = ml[1] * a + ml_next[1] * b;
}

void attention_finish_c(float *out, const float *partial, size_t head_dim) {
        float l = partial[attention_partial(head_dim) - 15];

        for (size_t d = 0; d < head_dim; d++)
                out[d] = partial[d] / l;
}
