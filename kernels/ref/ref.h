/* The C reference: one function for every pointer of struct kernel_ops, bit for bit the
 * specification of kernels.h. */
#pragma once

#include "kernels/kernels.h"

matmul_q_fn matmul_t2_row_c, matmul_t2_mantissa_c, matmul_t2_group_c;
matmul_q_fn matmul_t5_row_c;
matmul_q_fn matmul_t2_by_row_c, matmul_t2_by_col_c;
matmul_q_fn matmul_t5_by_row_c, matmul_t5_by_col_c;
matmul_where_fn matmul_t2_by_row_where_c, matmul_t5_by_row_where_c;
matmul_q_fn matmul_s8_row_c, matmul_s8_group_c, matmul_s4_group_c, matmul_s6_group_c;
matmul_f_fn matmul_f16_c, matmul_bf16_c, matmul_f32_c;
rms_norm_fn rms_norm_c;
quantize_token_fn quantize_token_c;
quantize_group_fn quantize_group_c;
relu2_mul_fn relu2_mul_c;
silu_mul_fn silu_mul_c;
add_fn add_c;
rope_fn rope_neox_c, rope_norm_c;
f32_to_f16_fn f32_to_f16_c;
attention_fn attention_c, attention_s8_c, attention_s16_c;
quantize_head_fn quantize_head_c;
quantize_head16_fn quantize_key16_c, quantize_value16_c;
attention_merge_fn attention_merge_c;
attention_finish_fn attention_finish_c;
