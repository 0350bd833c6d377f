/* One query head over the cached keys and values of its pages. Three passes: scores, softmax
 * weights (not yet divided by their sum), weighted sum of the values. Keys past n_keys are never
 * looked at, so what their memory holds cannot matter. */
#include "kernels/ref/expf.h"
#include "kernels/ref/fp16.h"
#include "kernels/ref/ref.h"

static float key_score(const uint16_t *const *k, const float *q, size_t j, size_t head_dim) {
        const uint16_t *page = k[j / KV_PAGE];
        float s = 0;

        for (size_t d = 0; d < head_dim; d++)
                s = s + q[d] * f16_to_f32(page[d * KV_PAGE + j % KV_PAGE]);
        return s;
}

/* Turn scores into exp(s - max) and return their sum. */
static float softmax_weights(float *scores, size_t n_keys) {
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
        return sum[0];
}

void attention_c(float *out, const float *q, const uint16_t *const *k, const uint16_t *const *v,
                 size_t n_keys, size_t head_dim, float scale, float *scores) {
        float l;

        for (size_t j = 0; j < n_keys; j++)
                scores[j] = key_score(k, q, j, head_dim) * scale;
        l = softmax_weights(scores, n_keys);
        for (size_t d = 0; d < head_dim; d++) {
                float a = 0;

                for (size_t j = 0; j < n_keys; j++)
                        a = a + scores[j] *
                                f16_to_f32(v[j / KV_PAGE][j % KV_PAGE * head_dim + d]);
                out[d] = a / l;
        }
}
