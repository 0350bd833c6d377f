/* Models with random weights, for tests and measurements: right shapes and metadata, activations
 * that stay finite, a working byte-level tokenizer, no meaning. The same seed gives the same
 * file. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct synthetic_type {
        uint32_t id;     /* enum tensor_type_id; TYPE_I8: trit planes */
        unsigned planes; /* of trit planes, 1..4 */
};

struct synthetic {
        const char *arch;             /* "bitnet-b1.58", "bitnet-25", "bitnet" or "llama" */
        const char *activation;       /* value of ARCH.hidden_activation; NULL: no such key */
        uint32_t layers, embd, ff, heads, kv_heads, vocab, ctx;
        struct synthetic_type type;   /* of the projections */
        struct synthetic_type head;   /* of the embedding, and of the head when untied */
        bool untied;
        uint32_t pooling;             /* ARCH.pooling_type; 0: no such key */
        uint64_t seed;
        bool set_gates;               /* gates have a chosen sign (gates.h), */
        float gate_zeros;             /* and this share of them is not positive, for any input */
};

enum { SYNTHETIC_VOCAB_MIN = 260 };

/* One layer, 256 wide: the smallest shape that every type can hold. */
extern const struct synthetic synthetic_tiny;
/* BitNet b1.58 2B4T: 30 layers, 2560 wide, 128256 tokens. */
extern const struct synthetic synthetic_2b4t;
/* A hundred billion weights in the proportions of 2B4T: 63 layers, 12288 wide; 4096 tokens only. */
extern const struct synthetic synthetic_100b;

/* "i2_s", "tq1_0", "tq2_0", "q8_0", "q4_0", "q4_1", "q6_k", "f16", "bf16", "f32", "trits1" to
 * "trits4". 0 or -EINVAL. */
int synthetic_type_parse(const char *name, struct synthetic_type *ret);

/* Write the file from offset 0 with pwrite. 0; -EINVAL when a width does not suit a type or the
 * vocabulary is too small; other negative errno. */
int synthetic_write(int fd, const struct synthetic *s, uint64_t *ret_size);

/* The same file with a hole where the weights are. */
int synthetic_outline(int fd, const struct synthetic *s, uint64_t *ret_size);
