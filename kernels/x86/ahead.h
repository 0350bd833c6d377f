/* Fetching codes ahead where spreading them keeps the core too busy to run ahead by itself. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/x86/unroll.h"

/* Measured: 4 to 16 KiB do, less does not. */
enum { FETCH_AHEAD_BYTES = 12 * 1024 };

/* The n bytes that will be read that much later, into the L2 cache. Past the end is harmless. */
INLINE void fetch_ahead(const uint8_t *p, size_t n) {
        for (size_t i = 0; i < n; i += 64)
                _mm_prefetch(p + i + FETCH_AHEAD_BYTES, _MM_HINT_T1);
}
