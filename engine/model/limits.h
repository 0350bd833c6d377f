/* Every cap on what a model file may say, in one place. Generous against real models (the largest
 * known vocabulary has 262144 tokens, the deepest model 64 layers), small against arithmetic. */
#pragma once

#include <stdint.h>

/* container */
#define LIMIT_TENSORS        UINT64_C(65536)
#define LIMIT_KVS            UINT64_C(65536)
#define LIMIT_KV_BYTES_MIN   UINT64_C(14)   /* smallest entry: key of one byte, value */
#define LIMIT_INFO_BYTES_MIN UINT64_C(33)   /* smallest tensor entry */
#define LIMIT_KEY_BYTES      UINT64_C(65535)
#define LIMIT_STRING_BYTES   (UINT64_C(64) << 20)
#define LIMIT_ARRAY_COUNT    (UINT64_C(1) << 26)
#define LIMIT_ALIGNMENT      (UINT64_C(1) << 20)
#define LIMIT_NAME_BYTES     UINT64_C(63)
#define LIMIT_DIMS           4
#define LIMIT_ELEMENTS       (UINT64_C(1) << 40)
#define LIMIT_METADATA_BYTES (UINT64_C(512) << 20) /* copied into a packed file */

/* hyper-parameters */
#define LIMIT_LAYERS   1024
#define LIMIT_EMBD     65536
#define LIMIT_FF       (1U << 20)
#define LIMIT_HEADS    1024
#define LIMIT_HEAD_DIM 256 /* what the attention kernel holds */
#define LIMIT_VOCAB    (1U << 21)
#define LIMIT_CTX      (1U << 24)

/* packing: float heads above this many weights may become 8-bit rows */
#define LIMIT_FLOAT_HEAD UINT64_C(100000000)
