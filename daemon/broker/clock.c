/* The only place where the broker asks what time it is, so that a test can put its own there. */
#include <time.h>

#include "daemon/broker/clock.h"

static uint64_t read_clock(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_realtime(void) {
        return read_clock(CLOCK_REALTIME);
}

uint64_t now_monotonic(void) {
        return read_clock(CLOCK_MONOTONIC);
}
