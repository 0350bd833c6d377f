/* Synthetic models whose gates have a chosen sign. Random gates are positive half of the time; to
 * measure what zeros behind ReLU² save, their share must be a setting.
 *
 * There is no bias, so one is made of the first 64 columns of the residual stream: the embedding is
 * positive there, no layer adds to them (their rows of attn_output and ffn_down are zero), ffn_norm
 * makes them large, and a row of ffn_gate has +1 in all of them or -1 in all of them. Rows of
 * ffn_up are zero there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* I2_S only, with whole blocks of 128 columns; the embedding in floats, Q8_0, Q6_K or Q4_0. */
enum { GATES_COLS = 64 };

/* Change n freshly filled bytes at byte `at` of the tensor `name` (its data without the scale).
 * type: its enum tensor_type_id; zeros: share of gates that are not positive. at is a multiple of
 * 32. */
void gates_bend(const char *name, uint32_t type, uint32_t cols, float zeros, uint64_t at,
                uint8_t *p, size_t n);
/* What ffn_norm is multiplied with in a column. */
float gates_norm(const char *name, uint32_t col);
bool gates_possible(uint32_t type, uint32_t head_type, uint32_t embd, uint32_t ff);
