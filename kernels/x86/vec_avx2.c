/* Everything that is not an integer matrix product, with AVX2 on 8 lanes. */
#include "kernels/x86/vec_avx2.h"
#include "kernels/x86/x86.h"

#include "kernels/x86/elementwise.h"
#include "kernels/x86/norm.h"
#include "kernels/x86/matmul_float.h"
#include "kernels/x86/attention.h"
