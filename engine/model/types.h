/* Tensor types by their number in the file: sizes of all known ones, so that a message can be
 * precise, and which of them we read. Source: formats-and-models 2.1. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum tensor_type_id {
        TYPE_F32 = 0,
        TYPE_F16 = 1,
        TYPE_Q4_0 = 2,
        TYPE_Q4_1 = 3,
        TYPE_Q8_0 = 8,
        TYPE_Q6_K = 14,
        TYPE_I8 = 24,
        TYPE_BF16 = 30,
        TYPE_TQ1_0 = 34,
        TYPE_TQ2_0 = 35,
        TYPE_I2_S = 36,
};

struct tensor_type {
        uint32_t id;
        const char *name;
        uint32_t block;   /* weights; ne[0] is a multiple. 0: known by name, size not known here */
        uint32_t bytes;   /* of a block */
        uint32_t tail;    /* bytes after the last block of a tensor (I2_S: scale and padding) */
        bool weights;     /* a matrix may have this type */
};

/* NULL when the number means nothing to us. */
const struct tensor_type *tensor_type(uint32_t id);

/* Bytes of a tensor of this type and these sizes (ne[0] a multiple of the block). 0, or -EOVERFLOW
 * when 64 bits do not hold it. */
int tensor_type_size(const struct tensor_type *t, const uint64_t ne[4], uint64_t *ret);
