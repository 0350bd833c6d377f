/* The scalar steps of activation quantisation, shared by the reference and the vector versions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define QUANT_MAX 127.0f
#define QUANT_ROUND 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, ties to even */

/* Largest magnitude so far; a NaN does not count. */
static inline float quantize_max(float m, float x) {
        float a = x < 0 ? -x : x;

        return a > m ? a : m;
}

/* Round half to even and clamp to +-127. Clamping first gives the same result and keeps the
 * conversion defined for every float; a NaN becomes 127. */
static inline int8_t quantize_value(float x, float factor) {
        float v = x * factor;

        v = v < QUANT_MAX ? v : QUANT_MAX;
        v = v > -QUANT_MAX ? v : -QUANT_MAX;
        return (int8_t)((v + QUANT_ROUND) - QUANT_ROUND);
}

/* Steps 1 and 2 of formats-and-models 4.4 in double precision, from max|x|. */
static inline float quantize_inverse(float max) {
        double m = (double)max > 1e-5 ? (double)max : 1e-5;

        return (float)(127.0 / m);
}

/* For keys, values and what meets them (kernels.h: attention_s8_fn): below this all is zero. */
#define QUANT_TINY 1e-30f
#define QUANT16_MAX 32767.0f

/* Products of 16-bit codes must add up to less than 2^31. Those of two heads do if neither is
 * longer than 46,000: so largest magnitudes are raised to this share of the length. Values have
 * 4,095 steps, so weights may add up to 521,000: theirs are raised to this share of the sum. */
#define QUANT16_NORM 0.7124f
#define QUANT16_SUM 0.0629f
#define QUANT_VALUE_MAX 4095.0f

/* The largest magnitude, or a share of something larger. A NaN does not count. */
static inline float quantize_bound(float max, float larger, float share) {
        float m = larger * share;

        return m > max ? m : max;
}

/* Of n elements, for the first purpose; the sum of their squares as rms_norm adds it. */
float norm_bound_c(const float *x, size_t n);
double sum_squares_c(const float *x, size_t n);

/* What x is multiplied with so that the largest magnitude becomes `top`, and what a step is then
 * worth. */
struct quant_scale {
        float factor, step;
};

static inline struct quant_scale quantize_scale(float max, float top) {
        if (!(max >= QUANT_TINY))
                return (struct quant_scale){0, 0};
        return (struct quant_scale){top / max, max / top};
}

static inline int16_t quantize16_below(float x, float factor, float top) {
        float v = x * factor;

        v = v < top ? v : top;
        v = v > -top ? v : -top;
        return (int16_t)((v + QUANT_ROUND) - QUANT_ROUND);
}

static inline int16_t quantize16_value(float x, float factor) {
        return quantize16_below(x, factor, QUANT16_MAX);
}
