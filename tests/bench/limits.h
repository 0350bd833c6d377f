/* What this machine can do at best, measured: the yardstick of the benchmarks. */
#pragma once

#include <stdint.h>

/* Seconds of processor time of the calling thread: what other programs take away does not count. */
double bench_now(void);

/* Bytes per second that `threads` threads together read from memory: the best pass over 256 MiB
 * each, begun together, until the last has ended. (Best passes of single threads do not add up:
 * where one lags behind, each has the memory to itself for a while.) */
double limit_read_bandwidth(unsigned threads);

/* 8-bit multiply-adds per second of one core with 512-bit vpdpbusd on registers; 0 where the
 * machine or the build has none. */
double limit_dot_rate(void);

/* The loop behind limit_dot_rate: `rounds` times 12 independent instructions. */
void limit_dot_loop_avx512vnni(uint64_t rounds);

struct limits {
        double bandwidth, dots; /* of one core: bytes and multiply-adds per second */
};

/* Measure and print, in two lines: these, and the bandwidth of two threads. */
struct limits limits_print(void);
