/* The table of tensor types. Numbers 36 and up mean different things in different programs; we
 * follow the BitNet meaning for 36 (I2_S) and name the others only to refuse them clearly. */

#include <errno.h>
#include <stddef.h>

#include "engine/base/macro.h"
#include "engine/model/types.h"

static const struct tensor_type types[] = {
        {TYPE_F32, "F32", 1, 4, 0, true},
        {TYPE_F16, "F16", 1, 2, 0, true},
        {TYPE_Q4_0, "Q4_0", 32, 18, 0, true},
        {TYPE_Q4_1, "Q4_1", 32, 20, 0, true},
        {6, "Q5_0", 32, 22, 0, false},
        {7, "Q5_1", 32, 24, 0, false},
        {TYPE_Q8_0, "Q8_0", 32, 34, 0, true},
        {9, "Q8_1", 32, 36, 0, false},
        {10, "Q2_K", 256, 84, 0, false},
        {11, "Q3_K", 256, 110, 0, false},
        {12, "Q4_K", 256, 144, 0, false},
        {13, "Q5_K", 256, 176, 0, false},
        {TYPE_Q6_K, "Q6_K", 256, 210, 0, true},
        {15, "Q8_K", 256, 292, 0, false},
        {16, "IQ2_XXS", 0, 0, 0, false},
        {17, "IQ2_XS", 0, 0, 0, false},
        {18, "IQ3_XXS", 0, 0, 0, false},
        {19, "IQ1_S", 0, 0, 0, false},
        {20, "IQ4_NL", 0, 0, 0, false},
        {21, "IQ3_S", 0, 0, 0, false},
        {22, "IQ2_S", 0, 0, 0, false},
        {23, "IQ4_XS", 0, 0, 0, false},
        {TYPE_I8, "I8", 1, 1, 0, false},
        {25, "I16", 1, 2, 0, false},
        {26, "I32", 1, 4, 0, false},
        {27, "I64", 1, 8, 0, false},
        {28, "F64", 1, 8, 0, false},
        {29, "IQ1_M", 256, 56, 0, false},
        {TYPE_BF16, "BF16", 1, 2, 0, true},
        {TYPE_TQ1_0, "TQ1_0", 256, 54, 0, true},
        {TYPE_TQ2_0, "TQ2_0", 256, 66, 0, true},
        {TYPE_I2_S, "I2_S", 4, 1, 32, true},
        {37, "I8_S", 0, 0, 0, false},
        {38, "TL1", 0, 0, 0, false},
        {39, "TL2 or MXFP4", 0, 0, 0, false},
        {40, "NVFP4", 0, 0, 0, false},
        {41, "Q1_0", 0, 0, 0, false},
        {42, "Q2_0", 0, 0, 0, false},
        {43, "STQ1_0", 0, 0, 0, false},
        {134, "IQ1_BN", 0, 0, 0, false},
        {135, "IQ2_BN", 0, 0, 0, false},
        {142, "PQ2_0 or IQ2_TN", 0, 0, 0, false},
        {143, "PTQ1_0 or IQ1_TN", 0, 0, 0, false},
        {335, "IQ2_BN_R4", 0, 0, 0, false},
};

const struct tensor_type *tensor_type(uint32_t id) {
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (types[i].id == id)
                        return &types[i];
        return NULL;
}

int tensor_type_size(const struct tensor_type *t, const uint64_t ne[4], uint64_t *ret) {
        uint64_t size = ne[0] / t->block;

        if (__builtin_mul_overflow(size, t->bytes, &size) ||
            __builtin_mul_overflow(size, ne[1], &size) ||
            __builtin_mul_overflow(size, ne[2], &size) ||
            __builtin_mul_overflow(size, ne[3], &size) ||
            __builtin_add_overflow(size, t->tail, &size))
                return -EOVERFLOW;
        *ret = size;
        return 0;
}
