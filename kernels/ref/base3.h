/* The five codes of a byte in base 3 (kernels/layout.h). */
#pragma once

#include <stdint.h>

static inline int32_t base3_code(uint8_t byte, unsigned k) {
        const int32_t upper = byte / 28, lower = byte % 28;

        switch (k) {
        case 0:
                return lower % 3;
        case 1:
                return lower / 3 % 3;
        case 2:
                return lower / 9;
        case 3:
                return upper % 3;
        default:
                return upper / 3;
        }
}
