/* The tensors that give gates their sign, changed after they were filled with random codes
 * (gates.h). Sizes: the embedding has values near 0.02 there, so the sum over 64 columns is some 40
 * times the random rest of a gate in the first layer and still 5 times in the last of 30, where the
 * residual stream has grown. Owns nothing. */

#include <string.h>

#include "engine/model/types.h"
#include "tests/tools/gates.h"

enum { BLOCK = 128, BLOCK_SIZE = 32 }; /* of I2_S: weights, bytes */

static const float enlargement = 1000.0f;

static bool ends(const char *name, const char *end) {
        size_t n = strlen(name), m = strlen(end);

        return n >= m && strcmp(name + n - m, end) == 0;
}

/* Whether the gate of a row is to be not positive: a fixed, even mix. */
static bool is_zero(uint64_t row, float zeros) {
        uint64_t v = (row + 1) * UINT64_C(0x9e3779b97f4a7c15);

        v = (v ^ v >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
        return (float)(v >> 40) < zeros * 0x1p24f;
}

/* The first 64 of 128 columns are the upper four bits of the 32 bytes. */
static void bend_first_columns(uint8_t *block, uint8_t two_codes) {
        for (unsigned i = 0; i < BLOCK_SIZE; i++)
                block[i] = (uint8_t)((block[i] & 0x0f) | two_codes);
}

static void bend_block(const char *name, uint64_t row, bool first, float zeros, uint8_t *block) {
        if (ends(name, "ffn_gate.weight") && first)
                bend_first_columns(block, is_zero(row, zeros) ? 0x00 : 0xa0);
        else if (ends(name, "ffn_up.weight") && first)
                bend_first_columns(block, 0x50);
        else if ((ends(name, "attn_output.weight") || ends(name, "ffn_down.weight")) &&
                 row < GATES_COLS)
                memset(block, 0x55, BLOCK_SIZE);
}

/* Clear the signs of the first columns of an embedding in floats. */
static void bend_floats(uint32_t cols, size_t width, uint64_t at, uint8_t *p, size_t n) {
        for (size_t i = 0; i < n; i += width)
                if ((at + i) / width % cols < GATES_COLS)
                        p[i + width - 1] &= 0x7f;
}

/* The same in quantised blocks, whose scales are positive: codes of the upper half. */
static void bend_codes(uint32_t type, uint32_t block, uint8_t *p) {
        if (type == TYPE_Q6_K && block == 0) /* two bits each of columns 0..31, 32..63, ... */
                for (unsigned i = 0; i < 32; i++)
                        p[128 + i] |= 0x0a;
        else if (type == TYPE_Q4_0 && block < GATES_COLS / 32)
                for (unsigned i = 0; i < 16; i++)
                        p[2 + i] |= 0x88;
        else if (type == TYPE_Q8_0 && block < GATES_COLS / 32)
                for (unsigned i = 0; i < 32; i++)
                        p[2 + i] &= 0x7f;
}

static void bend_embedding(uint32_t type, uint32_t cols, uint64_t at, uint8_t *p, size_t n) {
        const struct tensor_type *t = tensor_type(type);

        if (t->block == 1) {
                bend_floats(cols, t->bytes, at, p, n);
                return;
        }
        for (size_t i = 0; i < n; i += t->bytes)
                bend_codes(type, (uint32_t)((at + i) / t->bytes % (cols / t->block)), p + i);
}

void gates_bend(const char *name, uint32_t type, uint32_t cols, float zeros, uint64_t at,
                uint8_t *p, size_t n) {
        if (strcmp(name, "token_embd.weight") == 0) {
                bend_embedding(type, cols, at, p, n);
                return;
        }
        if (type != TYPE_I2_S)
                return;
        for (size_t i = 0; i < n; i += BLOCK_SIZE) {
                uint64_t block = (at + i) / BLOCK_SIZE, blocks = cols / BLOCK;

                bend_block(name, block / blocks, block % blocks == 0, zeros, p + i);
        }
}

float gates_norm(const char *name, uint32_t col) {
        return ends(name, "ffn_norm.weight") && col < GATES_COLS ? enlargement : 1.0f;
}

bool gates_possible(uint32_t type, uint32_t head_type, uint32_t embd, uint32_t ff) {
        return type == TYPE_I2_S && embd % BLOCK == 0 && ff % BLOCK == 0 &&
               (head_type == TYPE_F16 || head_type == TYPE_BF16 || head_type == TYPE_F32 ||
                head_type == TYPE_Q6_K || head_type == TYPE_Q4_0 || head_type == TYPE_Q8_0);
}
