/* Element-wise steps between the matrix products. */
#include "kernels/ref/activation.h"
#include "kernels/ref/ref.h"

void relu2_mul_c(float *y, const float *gate, const float *up, size_t n) {
        for (size_t i = 0; i < n; i++)
                y[i] = relu2_mul(gate[i], up[i]);
}

void silu_mul_c(float *y, const float *gate, const float *up, size_t n) {
        for (size_t i = 0; i < n; i++)
                y[i] = silu_mul(gate[i], up[i]);
}

void add_c(float *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i++)
                y[i] = y[i] + x[i];
}

void f32_to_f16_c(uint16_t *y, const float *x, size_t n) {
        for (size_t i = 0; i < n; i++)
                y[i] = f32_to_f16(x[i]);
}
