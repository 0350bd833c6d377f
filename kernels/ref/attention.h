/* The softmax that both forms of attention share. */
#pragma once

#include <stddef.h>

/* Turn scores into exp(s - max); *ml is the maximum and, behind it, the sum of the weights. */
void softmax_weights_c(float *scores, size_t n_keys, float ml[2]);
