/* Everything that is not an integer matrix product, with AVX-512 on 16 lanes. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/x86.h"

#include "kernels/x86/elementwise_tmpl.c"
#include "kernels/x86/norm_tmpl.c"
#include "kernels/x86/matmul_float_tmpl.c"
#include "kernels/x86/attention_tmpl.c"
#include "kernels/x86/attention_int_tmpl.c"
