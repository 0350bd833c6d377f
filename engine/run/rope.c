/* Cosines and sines for rotary positions.
 *
 * Problem: these numbers enter every logit, and the C library's pow, sin and cos choose other code
 * (with fused multiply-add) on other machines, so that a last bit could differ. Only additions,
 * multiplications, divisions and floor are used here, in double, in one order: errors stay
 * some 1e-11 for positions up to 100,000, far below the float they end in, and are the same
 * everywhere.
 */
#include "engine/run/rope.h"

#include <math.h>

static double power(double x, size_t n) {
        double y = 1;

        for (size_t i = 0; i < n; i++)
                y *= x;
        return y;
}

/* The n-th root of 1 / base, base >= 1, by bisection: 0 < root <= 1. */
static double inverse_root(double base, size_t n) {
        double low = 0, high = 1;

        for (int i = 0; i < 80; i++) {
                double middle = (low + high) / 2;

                if (power(middle, n) * base > 1)
                        high = middle;
                else
                        low = middle;
        }
        return high;
}

void rope_frequencies(double *frequency, const struct hparams *hp, const float *rope_freqs) {
        size_t half = hp->rope_dim / 2;
        double ratio = inverse_root((double)hp->rope_base, half), f = 1;

        for (size_t i = 0; i < half; i++, f *= ratio)
                frequency[i] = rope_freqs ? f / (double)rope_freqs[i] : f;
}

/* Taylor series for |r| <= pi / 4; the first omitted terms are below 1e-18. */
static double sine_near_zero(double r) {
        double r2 = r * r, y = 0;

        for (int n = 16; n >= 2; n -= 2)
                y = (1 + y) * -r2 / (double)(n * (n + 1));
        return r + r * y;
}

static double cosine_near_zero(double r) {
        double r2 = r * r, y = 0;

        for (int n = 17; n >= 1; n -= 2)
                y = (1 + y) * -r2 / (double)(n * (n + 1));
        return 1 + y;
}

/* pi / 2 in two parts; the first has 33 bits, so that k * first is exact for k < 2^20. */
static const double half_pi_first = 1.57079632673412561417e+00,
                    half_pi_rest = 6.07710050650619224932e-11, two_over_pi = 0.63661977236758134308;

void rope_angles(float *cosines, float *sines, const double *frequency, size_t half,
                 size_t position) {
        for (size_t i = 0; i < half; i++) {
                double x = (double)position * frequency[i], k = floor(x * two_over_pi + 0.5);
                double r = (x - k * half_pi_first) - k * half_pi_rest;
                double s = sine_near_zero(r), c = cosine_near_zero(r);

                switch ((uint64_t)k % 4) {
                case 0: cosines[i] = (float)c; sines[i] = (float)s; break;
                case 1: cosines[i] = (float)-s; sines[i] = (float)c; break;
                case 2: cosines[i] = (float)-c; sines[i] = (float)-s; break;
                default: cosines[i] = (float)s; sines[i] = (float)-c; break;
                }
        }
}
