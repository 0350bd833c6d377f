/* Root-mean-square normalisation. The sixteen partial sums exist so that a vector unit of any
 * width up to 16 lanes adds the same numbers in the same order. */
#include <math.h>

#include "kernels/ref/quantize.h"
#include "kernels/ref/ref.h"

double sum_squares_c(const float *x, size_t n) {
        double sum[16] = { 0 };

        for (size_t i = 0; i < n; i++)
                sum[i % 16] += (double)x[i] * (double)x[i];
        for (size_t width = 8; width > 0; width /= 2)
                for (size_t j = 0; j < width; j++)
                        sum[j] += sum[j + width];
        return sum[0];
}

void rms_norm_c(float *y, const float *x, const float *w, size_t n, float eps) {
        float s = (float)(1.0 / sqrt(sum_squares_c(x, n) / (double)n + (double)eps));

        for (size_t i = 0; i < n; i++)
                y[i] = w ? (x[i] * s) * w[i] : x[i] * s;
}
