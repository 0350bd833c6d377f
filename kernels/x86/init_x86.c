/* The ladder of x86-64: each rung overwrites what it does better. AVX2 comes first because every
 * later rung implies it; a rung whose flag is masked off is skipped. */
#include "kernels/arch.h"
#include "kernels/cpu.h"
#include "kernels/x86/x86.h"

/* Integer products of one instruction set. */
#define SET_MATMUL(ops, isa)                                                                       \
        do {                                                                                       \
                (ops)->t2_row = matmul_t2_row_##isa;                                               \
                (ops)->t2_mantissa = matmul_t2_mantissa_##isa;                                     \
                (ops)->t2_group = matmul_t2_group_##isa;                                           \
                (ops)->t5_row = matmul_t5_row_##isa;                                               \
                (ops)->t2_by_row = matmul_t2_by_row_##isa;                                         \
                (ops)->t2_by_row_where = matmul_t2_by_row_where_##isa;                             \
                (ops)->t2_by_col = matmul_t2_by_col_##isa;                                         \
                (ops)->t5_by_row = matmul_t5_by_row_##isa;                                         \
                (ops)->t5_by_row_where = matmul_t5_by_row_where_##isa;                             \
                (ops)->t5_by_col = matmul_t5_by_col_##isa;                                         \
                (ops)->s8_row = matmul_s8_row_##isa;                                               \
                (ops)->s8_group = matmul_s8_group_##isa;                                           \
                (ops)->s4_group = matmul_s4_group_##isa;                                           \
                (ops)->s6_group = matmul_s6_group_##isa;                                           \
        } while (0)

/* Everything else of one instruction set. */
#define SET_VECTORS(ops, isa)                                                                      \
        do {                                                                                       \
                (ops)->f16 = matmul_f16_##isa;                                                     \
                (ops)->bf16 = matmul_bf16_##isa;                                                   \
                (ops)->f32 = matmul_f32_##isa;                                                     \
                (ops)->rms_norm = rms_norm_##isa;                                                  \
                (ops)->quantize_token = quantize_token_##isa;                                      \
                (ops)->quantize_group = quantize_group_##isa;                                      \
                (ops)->relu2_mul = relu2_mul_##isa;                                                \
                (ops)->silu_mul = silu_mul_##isa;                                                  \
                (ops)->add = add_##isa;                                                            \
                (ops)->rope_neox = rope_neox_##isa;                                                \
                (ops)->rope_norm = rope_norm_##isa;                                                \
                (ops)->f32_to_f16 = f32_to_f16_##isa;                                              \
                (ops)->attention = attention_##isa;                                                \
                (ops)->attention_s8 = attention_s8_##isa;                                          \
                (ops)->attention_s16 = attention_s16_##isa;                                        \
                (ops)->quantize_head = quantize_head_##isa;                                        \
                (ops)->quantize_key16 = quantize_key16_##isa;                                      \
                (ops)->quantize_value16 = quantize_value16_##isa;                                  \
                (ops)->attention_merge = attention_merge_##isa;                                    \
                (ops)->attention_finish = attention_finish_##isa;                                  \
        } while (0)

void kernel_ops_init_arch(struct kernel_ops *ops, unsigned cpu_flags) {
        if (!(cpu_flags & CPU_AVX2))
                return;
        SET_MATMUL(ops, avx2);
        SET_VECTORS(ops, avx2);

        if (cpu_flags & CPU_AVXVNNI)
                SET_MATMUL(ops, avxvnni);
        if (cpu_flags & CPU_AVX512VL)
                SET_MATMUL(ops, avx512vl);
        if (cpu_flags & CPU_AVX512VNNI) {
                SET_MATMUL(ops, avx512vnni);
                SET_VECTORS(ops, avx512vnni);
        }
        if (cpu_flags & CPU_AVX512VBMI) {
                ops->t5_row = matmul_t5_row_avx512vbmi;
                ops->t5_by_row = matmul_t5_by_row_avx512vbmi;
                ops->t5_by_row_where = matmul_t5_by_row_where_avx512vbmi;
                ops->t5_by_col = matmul_t5_by_col_avx512vbmi;
        }
}
