/* Every kernel of the x86-64 folder: one list per instruction set, in the order of the ladder. */
#pragma once

#include "kernels/kernels.h"

/* AVX2 (with F16C) */
matmul_q_fn matmul_t2_row_avx2, matmul_t2_mantissa_avx2, matmul_t2_group_avx2;
matmul_q_fn matmul_t5_row_avx2, matmul_t5_by_col_avx2;
matmul_q_fn matmul_t2_by_row_avx2, matmul_t2_by_col_avx2;
matmul_q_fn matmul_t5_by_row_avx2;
matmul_where_fn matmul_t2_by_row_where_avx2, matmul_t5_by_row_where_avx2;
matmul_q_fn matmul_s8_row_avx2, matmul_s8_group_avx2, matmul_s4_group_avx2;
matmul_q_fn matmul_s6_group_avx2;
matmul_f_fn matmul_f16_avx2, matmul_bf16_avx2, matmul_f32_avx2;
rms_norm_fn rms_norm_avx2;
quantize_token_fn quantize_token_avx2;
quantize_group_fn quantize_group_avx2;
relu2_mul_fn relu2_mul_avx2;
silu_mul_fn silu_mul_avx2;
add_fn add_avx2;
rope_fn rope_neox_avx2, rope_norm_avx2;
f32_to_f16_fn f32_to_f16_avx2;
attention_fn attention_avx2, attention_s8_avx2, attention_s16_avx2;
quantize_head_fn quantize_head_avx2;
quantize_head16_fn quantize_key16_avx2, quantize_value16_avx2;
attention_merge_fn attention_merge_avx2;
attention_finish_fn attention_finish_avx2;

/* AVX-VNNI, 256 bits */
matmul_q_fn matmul_t2_row_avxvnni, matmul_t2_mantissa_avxvnni, matmul_t2_group_avxvnni;
matmul_q_fn matmul_t5_row_avxvnni, matmul_t5_by_col_avxvnni;
matmul_q_fn matmul_t2_by_row_avxvnni, matmul_t2_by_col_avxvnni;
matmul_q_fn matmul_t5_by_row_avxvnni;
matmul_where_fn matmul_t2_by_row_where_avxvnni, matmul_t5_by_row_where_avxvnni;
matmul_q_fn matmul_s8_row_avxvnni, matmul_s8_group_avxvnni, matmul_s4_group_avxvnni;
matmul_q_fn matmul_s6_group_avxvnni;

/* AVX-512 VL with VNNI, 256 bits */
matmul_q_fn matmul_t2_row_avx512vl, matmul_t2_mantissa_avx512vl, matmul_t2_group_avx512vl;
matmul_q_fn matmul_t5_row_avx512vl, matmul_t5_by_col_avx512vl;
matmul_q_fn matmul_t2_by_row_avx512vl, matmul_t2_by_col_avx512vl;
matmul_q_fn matmul_t5_by_row_avx512vl;
matmul_where_fn matmul_t2_by_row_where_avx512vl, matmul_t5_by_row_where_avx512vl;
matmul_q_fn matmul_s8_row_avx512vl, matmul_s8_group_avx512vl, matmul_s4_group_avx512vl;
matmul_q_fn matmul_s6_group_avx512vl;

/* AVX-512 with VNNI, 512 bits */
matmul_q_fn matmul_t2_row_avx512vnni, matmul_t2_mantissa_avx512vnni, matmul_t2_group_avx512vnni;
matmul_q_fn matmul_t5_row_avx512vnni, matmul_t5_by_col_avx512vnni;
matmul_q_fn matmul_t2_by_row_avx512vnni, matmul_t2_by_col_avx512vnni;
matmul_q_fn matmul_t5_by_row_avx512vnni;
matmul_where_fn matmul_t2_by_row_where_avx512vnni, matmul_t5_by_row_where_avx512vnni;
matmul_q_fn matmul_s8_row_avx512vnni, matmul_s8_group_avx512vnni, matmul_s4_group_avx512vnni;
matmul_q_fn matmul_s6_group_avx512vnni;
matmul_f_fn matmul_f16_avx512vnni, matmul_bf16_avx512vnni, matmul_f32_avx512vnni;
rms_norm_fn rms_norm_avx512vnni;
quantize_token_fn quantize_token_avx512vnni;
quantize_group_fn quantize_group_avx512vnni;
relu2_mul_fn relu2_mul_avx512vnni;
silu_mul_fn silu_mul_avx512vnni;
add_fn add_avx512vnni;
rope_fn rope_neox_avx512vnni, rope_norm_avx512vnni;
f32_to_f16_fn f32_to_f16_avx512vnni;
attention_fn attention_avx512vnni, attention_s8_avx512vnni, attention_s16_avx512vnni;
quantize_head_fn quantize_head_avx512vnni;
quantize_head16_fn quantize_key16_avx512vnni, quantize_value16_avx512vnni;
attention_merge_fn attention_merge_avx512vnni;
attention_finish_fn attention_finish_avx512vnni;

/* AVX-512 with VNNI and VBMI (byte permutations), 512 bits */
matmul_q_fn matmul_t5_row_avx512vbmi, matmul_t5_by_col_avx512vbmi;
matmul_q_fn matmul_t5_by_row_avx512vbmi;
matmul_where_fn matmul_t5_by_row_where_avx512vbmi;
