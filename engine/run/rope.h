/* Angles of rotary position embedding. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"

/* frequency[i] = base^(-2 i / rope_dim) / rope_freqs[i], i < rope_dim / 2: radians per position
 * (Su et al., RoFormer; divisors as in Llama 3.1, NULL: all 1). */
void rope_frequencies(double *frequency, const struct hparams *hp, const float *rope_freqs);

/* cos and sin of position * frequency[i], i < half. */
void rope_angles(float *cosines, float *sines, const double *frequency, size_t half,
                 size_t position);
