/* A fixed set of threads that run one function together. Created before the sandbox closes; later
 * it needs futex (or nothing) only. Threads spin briefly, then park. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct pool;

/* n_threads >= 1 counts the caller: n_threads - 1 threads are made. */
int pool_new(struct pool **ret, unsigned n_threads);
struct pool *pool_free(struct pool *p);
unsigned pool_threads(const struct pool *p);

/* Call fn(ctx, i) for i in 0..threads-1, i = 0 on the caller; returns when all have returned. */
void pool_run(struct pool *p, void (*fn)(void *ctx, unsigned thread), void *ctx);

/* Inside fn: wait until every thread has come here. */
void pool_barrier(struct pool *p);

/* Part `thread` of `threads` of n units, contiguous, sizes differing by at most one. */
static inline void pool_part(uint32_t n, unsigned thread, unsigned threads, uint32_t *begin,
                             uint32_t *end) {
        *begin = (uint32_t)((uint64_t)n * thread / threads);
        *end = (uint32_t)((uint64_t)n * (thread + 1) / threads);
}
