/* Machine limits: memory is read by plain loops over 64-bit words, one buffer per thread. */
#include "tests/bench/limits.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/cpu.h"

enum { MAX_THREADS = 64, PASSES = 16 };

static const size_t buffer_bytes = (size_t)256 << 20;

static double seconds(clockid_t clock) {
        struct timespec t;

        clock_gettime(clock, &t);
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_now(void) {
        return seconds(CLOCK_THREAD_CPUTIME_ID);
}

struct reader {
        const uint64_t *words;
        pthread_barrier_t *barrier;
        uint64_t sum; /* keeps the reads from being removed */
        double begin[PASSES], end[PASSES];
};

static uint64_t read_all(const uint64_t *p, size_t n) {
        uint64_t s[16] = { 0 };

        for (size_t i = 0; i + 16 <= n; i += 16)
                for (size_t j = 0; j < 16; j++)
                        s[j] += p[i + j];
        for (size_t j = 1; j < 16; j++)
                s[0] += s[j];
        return s[0];
}

static void *reader_main(void *arg) {
        struct reader *r = arg;

        for (unsigned pass = 0; pass < PASSES; pass++) {
                pthread_barrier_wait(r->barrier);
                r->begin[pass] = seconds(CLOCK_MONOTONIC);
                r->sum += read_all(r->words, buffer_bytes / sizeof(uint64_t));
                r->end[pass] = seconds(CLOCK_MONOTONIC);
        }
        return NULL;
}

static void *map_buffer(void) {
        void *p = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);

        if (p == MAP_FAILED) {
                fprintf(stderr, "bench: cannot map %zu bytes\n", buffer_bytes);
                exit(1);
        }
        madvise(p, buffer_bytes, MADV_HUGEPAGE);
        memset(p, 1, buffer_bytes);
        return p;
}

/* Of the pass in which all were done soonest. */
static double best_rate(const struct reader *readers, unsigned threads) {
        double best = 0;

        for (unsigned pass = 0; pass < PASSES; pass++) {
                double begin = readers[0].begin[pass], end = readers[0].end[pass];

                for (unsigned i = 1; i < threads; i++) {
                        begin = readers[i].begin[pass] < begin ? readers[i].begin[pass] : begin;
                        end = readers[i].end[pass] > end ? readers[i].end[pass] : end;
                }
                if ((double)buffer_bytes * threads / (end - begin) > best)
                        best = (double)buffer_bytes * threads / (end - begin);
        }
        return best;
}

double limit_read_bandwidth(unsigned threads) {
        struct reader readers[MAX_THREADS];
        pthread_t ids[MAX_THREADS];
        pthread_barrier_t barrier;

        if (threads == 0 || threads > MAX_THREADS)
                return 0;
        pthread_barrier_init(&barrier, NULL, threads);
        for (unsigned i = 0; i < threads; i++) {
                readers[i] = (struct reader){ .words = map_buffer(), .barrier = &barrier };
                if (pthread_create(&ids[i], NULL, reader_main, &readers[i]) != 0) {
                        fprintf(stderr, "bench: cannot start thread %u\n", i);
                        exit(1);
                }
        }
        for (unsigned i = 0; i < threads; i++) {
                pthread_join(ids[i], NULL);
                munmap((void *)readers[i].words, buffer_bytes);
        }
        pthread_barrier_destroy(&barrier);
        return best_rate(readers, threads);
}

double limit_dot_rate(void) {
        const uint64_t rounds = 1000000;
        double best = 0;

        if (!(cpu_flags(CPU_ALL) & CPU_AVX512VNNI))
                return 0;
        for (unsigned pass = 0; pass < 20; pass++) {
                double start = bench_now(), rate;

                limit_dot_loop_avx512vnni(rounds);
                rate = (double)rounds * 12 * 64 / (bench_now() - start);
                if (rate > best)
                        best = rate;
        }
        return best;
}

struct limits limits_print(void) {
        struct limits l = { limit_read_bandwidth(1), limit_dot_rate() };

        printf("read bandwidth: %.1f GB/s (1 thread), %.1f GB/s (2 threads)\n",
               l.bandwidth * 1e-9, limit_read_bandwidth(2) * 1e-9);
        printf("vpdpbusd on 512 bits: %.1f GMAC/s per core\n", l.dots * 1e-9);
        return l;
}
