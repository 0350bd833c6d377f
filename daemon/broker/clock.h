/* Microseconds of the two clocks that the broker uses. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_usec(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static inline uint64_t now_realtime(void) {
        return clock_usec(CLOCK_REALTIME);
}

static inline uint64_t now_monotonic(void) {
        return clock_usec(CLOCK_MONOTONIC);
}
