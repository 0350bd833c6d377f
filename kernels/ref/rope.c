/* Rotary position embedding of one head, in place. The two functions differ only in which values
 * form a pair. */
#include "kernels/ref/ref.h"

static void rotate(float *a, float *b, float cos, float sin) {
        float old_a = *a, old_b = *b;

        *a = old_a * cos - old_b * sin;
        *b = old_b * cos + old_a * sin;
}

void rope_neox_c(float *x, const float *cos, const float *sin, size_t half) {
        for (size_t i = 0; i < half; i++)
                rotate(&x[i], &x[i + half], cos[i], sin[i]);
}

void rope_norm_c(float *x, const float *cos, const float *sin, size_t half) {
        for (size_t i = 0; i < half; i++)
                rotate(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
}
