/* The two clocks that the broker uses, in microseconds. */
#pragma once

#include <stdint.h>

uint64_t now_realtime(void);
uint64_t now_monotonic(void);
