/* What this machine can do at best, measured: the yardstick of the benchmarks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Seconds of processor time of the calling thread: what other programs take away does not count. */
double bench_now(void);

/* Bytes per second that `threads` threads together read from memory: the sum of the threads'
 * best passes over 256 MiB each, started together. */
double limit_read_bandwidth(unsigned threads);

/* 8-bit multiply-adds per second of one core with 512-bit vpdpbusd on registers; 0 where the
 * machine or the build has none. */
double limit_dot_rate(void);

/* The loop behind limit_dot_rate: `rounds` times 12 independent instructions. */
void limit_dot_loop_avx512vnni(uint64_t rounds);
