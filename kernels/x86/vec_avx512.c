/* Everything that is not an integer matrix product, with AVX-512 on 16 lanes. */
#include "kernels/x86/vec_avx512.h"
#include "kernels/x86/x86.h"

#include "kernels/x86/elementwise.h"
#include "kernels/x86/norm.h"
#include "kernels/x86/matmul_float.h"
#include "kernels/x86/attention.h"
