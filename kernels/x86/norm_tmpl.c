/* Normalisation and quantisation of activations, written once for every vector width. The sixteen
 * partial sums of the norm are the lanes; maxima do not depend on the order. */
#include <math.h>

#include "kernels/ref/quantize.h"
#include "kernels/ref/ref.h"

enum { SUM_VECTORS = 16 / LANES }; /* float vectors per sixteen elements */

static double sum_squares(const float *x, size_t n) {
        vd a[SUM_VECTORS][2];
        size_t i = 0;

        for (size_t j = 0; j < SUM_VECTORS; j++)
                a[j][0] = a[j][1] = vd_zero();
        for (; i + 16 <= n; i += 16)
                UNROLL for (size_t j = 0; j < SUM_VECTORS; j++)
                        vd_add_squares(a[j], vf_load(x + i + j * LANES));
        for (size_t j = 0; j < SUM_VECTORS && i < n; j++) {
                size_t left = n - i < LANES ? n - i : LANES;

                vd_add_squares(a[j], left == LANES ? vf_load(x + i) : vf_load_n(x + i, left));
                i += left;
        }
        return vd_sum_16(a);
}

void KERNEL(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps) {
        float s = (float)(1.0 / sqrt(sum_squares(x, n) / (double)n + (double)eps));
        size_t i = 0;

        for (; i + LANES <= n; i += LANES) {
                vf v = vf_mul(vf_load(x + i), vf_set1(s));

                vf_store(y + i, w ? vf_mul(v, vf_load(w + i)) : v);
        }
        if (i < n) {
                vf v = vf_mul(vf_load_n(x + i, n - i), vf_set1(s));

                vf_store_n(y + i, w ? vf_mul(v, vf_load_n(w + i, n - i)) : v, n - i);
        }
}

static float max_magnitude(const float *x, uint32_t n) {
        vf m = vf_set1(0);
        float max;
        uint32_t i = 0;

        for (; i + LANES <= n; i += LANES)
                m = vf_max(vf_abs(vf_load(x + i)), m);
        max = vf_largest(m);
        for (; i < n; i++)
                max = quantize_max(max, x[i]);
        return max;
}

/* Quantise up to one group of columns, pad it with zeros, return the sum of what was written. */
INLINE int32_t quantize_cols(int8_t *q, const float *x, uint32_t n, float factor) {
        int32_t total;
        vi sum = vi_zero();
        uint32_t i = 0;

        for (; i + LANES <= n && i < GROUP_COLS; i += LANES) {
                vf v = vf_mul(vf_load(x + i), vf_set1(factor));
                vi r;

                v = vf_min(v, vf_set1(QUANT_MAX));
                v = vf_max(v, vf_set1(-QUANT_MAX));
                r = vf_round(v);
                vi_store_bytes(q + i, r);
                sum = vi_add(sum, r);
        }
        total = vi_sum(sum);
        for (; i < GROUP_COLS; i++) {
                q[i] = i < n ? quantize_value(x[i], factor) : 0;
                total += q[i];
        }
        return total;
}

void KERNEL(quantize_token)(int8_t *q, float *scale, int32_t *sum, float *inverse, const float *x,
                            uint32_t n) {
        const float by = quantize_inverse(max_magnitude(x, n)), step = 1.0f / by;

        *inverse = by;
        for (uint32_t g = 0; g < groups_of(n); g++) {
                uint32_t begin = g * GROUP_COLS;

                sum[g] = quantize_cols(q + begin, x + begin, n - begin, by);
                scale[g] = step;
        }
}

void KERNEL(quantize_group)(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n) {
        for (uint32_t g = 0; g < groups_of(n); g++) {
                uint32_t begin = g * GROUP_COLS;
                uint32_t cols = n - begin < GROUP_COLS ? n - begin : GROUP_COLS;
                float m = max_magnitude(x + begin, cols);

                if (m == 0) {
                        for (uint32_t i = 0; i < GROUP_COLS; i++)
                                q[begin + i] = 0;
                        scale[g] = 0;
                        sum[g] = 0;
                        continue;
                }
                scale[g] = m / 127.0f;
                sum[g] = quantize_cols(q + begin, x + begin, cols, 127.0f / m);
        }
}

void KERNEL(quantize_head)(int8_t *q, float *scale, const float *x, size_t n) {
        struct quant_scale s = quantize_scale(max_magnitude(x, (uint32_t)n), QUANT_MAX);
        size_t i = 0;

        *scale = s.step;
        for (; i + LANES <= n; i += LANES) {
                vf v = vf_min(vf_mul(vf_load(x + i), vf_set1(s.factor)), vf_set1(QUANT_MAX));

                vi_store_bytes(q + i, vf_round(vf_max(v, vf_set1(-QUANT_MAX))));
        }
        for (; i < n; i++)
                q[i] = quantize_value(x[i], s.factor);
}
