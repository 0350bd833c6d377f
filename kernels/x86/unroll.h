/* Small loops over registers must disappear completely: an array that is still indexed at run time
 * lives in memory. Each compiler has its own way to be told. */
#pragma once

#define INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
