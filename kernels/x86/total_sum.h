/* The sum of a token's activations: the "-1" of every ternary code at once. */
#pragma once

#include "kernels/kernels.h"

static inline int32_t total_sum(const struct activations *x, uint32_t t) {
        uint32_t groups = groups_of(x->cols);
        int32_t sum = 0;

        for (uint32_t g = 0; g < groups; g++)
                sum += x->sum[(size_t)t * groups + g];
        return sum;
}
