/* Float activations to 8 bits. The rest of the last group is filled with zeros, so that matrix
 * kernels only ever see whole groups. Writes q, scale, sum (and inverse); owns nothing. */
#include <math.h>

#include "kernels/ref/quantize.h"
#include "kernels/ref/ref.h"

/* Quantise group g of x with one factor, pad it, return the sum of what was written. */
static int32_t quantize_cols(int8_t *q, const float *x, uint32_t n, uint32_t g, float factor) {
        int32_t sum = 0;

        for (uint32_t i = 0; i < GROUP_COLS; i++) {
                size_t c = (size_t)g * GROUP_COLS + i;

                q[c] = c < n ? quantize_value(x[c], factor) : 0;
                sum += q[c];
        }
        return sum;
}

void quantize_token_c(int8_t *q, float *scale, int32_t *sum, float *inverse, const float *x,
                      uint32_t n) {
        float m = 0;

        for (uint32_t i = 0; i < n; i++)
                m = quantize_max(m, x[i]);
        *inverse = quantize_inverse(m);

        for (uint32_t g = 0; g < groups_of(n); g++) {
                sum[g] = quantize_cols(q, x, n, g, *inverse);
                scale[g] = 1.0f / *inverse;
        }
}

void quantize_group_c(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n) {
        for (uint32_t g = 0; g < groups_of(n); g++) {
                uint32_t begin = g * GROUP_COLS;
                uint32_t end = n - begin < GROUP_COLS ? n : begin + GROUP_COLS;
                float m = 0;

                for (uint32_t i = begin; i < end; i++)
                        m = quantize_max(m, x[i]);
                if (m == 0) {
                        for (uint32_t i = 0; i < GROUP_COLS; i++)
                                q[begin + i] = 0;
                        scale[g] = 0;
                        sum[g] = 0;
                        continue;
                }
                scale[g] = m / 127.0f;
                sum[g] = quantize_cols(q, x, n, g, 127.0f / m);
        }
}

float norm_bound_c(const float *x, size_t n) {
        float m = 0;

        for (size_t i = 0; i < n; i++)
                m = quantize_max(m, x[i]);
        return quantize_bound(m, (float)sqrt(sum_squares_c(x, n)), QUANT16_NORM);
}

void quantize_key16_c(int16_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s = quantize_scale(norm_bound_c(x, n), QUANT16_MAX);

        *scale = s.step;
        for (size_t i = 0; i < n; i++)
                q[i] = quantize16_value(x[i], s.factor);
}

void quantize_value16_c(int16_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s;
        float m = 0;

        for (size_t i = 0; i < n; i++)
                m = quantize_max(m, x[i]);
        s = quantize_scale(m, QUANT_VALUE_MAX);
        *scale = s.step;
        for (size_t i = 0; i < n; i++)
                q[i] = quantize16_below(x[i], s.factor, QUANT_VALUE_MAX);
}

void quantize_head_c(int8_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s;
        float m = 0;

        for (size_t i = 0; i < n; i++)
                m = quantize_max(m, x[i]);
        s = quantize_scale(m, QUANT_MAX);
        *scale = s.step;
        for (size_t i = 0; i < n; i++)
                q[i] = quantize_value(x[i], s.factor);
}
