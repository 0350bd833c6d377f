/* Which function does the work: C for everything, then whatever the architecture has. */
#include "kernels/arch.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

void kernel_ops_init(struct kernel_ops *ops, unsigned cpu_flags) {
        *ops = (struct kernel_ops){
                .t2_row = matmul_t2_row_c,
                .t2_mantissa = matmul_t2_mantissa_c,
                .t2_group = matmul_t2_group_c,
                .t5_row = matmul_t5_row_c,
                .t2_by_row = matmul_t2_by_row_c,
                .t2_by_col = matmul_t2_by_col_c,
                .t5_by_row = matmul_t5_by_row_c,
                .t5_by_col = matmul_t5_by_col_c,
                .t2_by_row_where = matmul_t2_by_row_where_c,
                .t5_by_row_where = matmul_t5_by_row_where_c,
                .s8_row = matmul_s8_row_c,
                .s8_group = matmul_s8_group_c,
                .s4_group = matmul_s4_group_c,
                .s6_group = matmul_s6_group_c,
                .f16 = matmul_f16_c,
                .bf16 = matmul_bf16_c,
                .f32 = matmul_f32_c,
                .rms_norm = rms_norm_c,
                .quantize_token = quantize_token_c,
                .quantize_group = quantize_group_c,
                .relu2_mul = relu2_mul_c,
                .silu_mul = silu_mul_c,
                .add = add_c,
                .rope_neox = rope_neox_c,
                .rope_norm = rope_norm_c,
                .f32_to_f16 = f32_to_f16_c,
                .attention = attention_c,
                .attention_s8 = attention_s8_c,
                .attention_s16 = attention_s16_c,
                .quantize_head = quantize_head_c,
                .quantize_key16 = quantize_key16_c,
                .quantize_value16 = quantize_value16_c,
                .attention_merge = attention_merge_c,
                .attention_finish = attention_finish_c,
        };
        kernel_ops_init_arch(ops, cpu_flags);
}
