/* The scalar formulas of the gated activations, shared with the tails of the vector versions. */
#pragma once

#include "kernels/ref/expf.h"

static inline float relu2_mul(float gate, float up) {
        return gate > 0 ? (gate * gate) * up : 0; /* 0 for a NaN */
}

static inline float silu_mul(float gate, float up) {
        return (gate / (1.0f + expf_fixed(-gate))) * up;
}
