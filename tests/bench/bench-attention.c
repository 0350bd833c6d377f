/* How fast attention is, next to what the machine could do. Usage:
 *
 *   bench-attention [LEVEL]
 *
 * One thread, head size 128. "decode": the heads of one group against blocks that come from memory,
 * in GB/s of K and V. "prefill": 8 queries against the same few blocks again and again, in
 * multiply-adds. Both as shares of the limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "tests/bench/limits.h"

enum { HEAD_DIM = 128, PAGE_VALUES = KV_PAGE * HEAD_DIM, BLOCK_PAGES = ATTENTION_BLOCK / KV_PAGE };

static const size_t pool_bytes = (size_t)256 << 20;
static const size_t block_bytes = (size_t)2 * BLOCK_PAGES * PAGE_VALUES * sizeof(uint16_t);

struct data {
        uint16_t *pool;
        float *floats;
        struct attention_block block;
        const uint16_t *next[BLOCK_PAGES];
};

static void *map_bytes(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED) {
                fprintf(stderr, "bench-attention: cannot map %zu bytes\n", size);
                exit(1);
        }
        madvise(p, size, MADV_HUGEPAGE);
        return p;
}

static void data_init(struct data *d) {
        size_t partial = attention_partial(HEAD_DIM);
        float *f;

        d->pool = map_bytes(pool_bytes);
        d->floats = f = map_bytes(65536 * sizeof(float));
        for (size_t i = 0; i < pool_bytes / sizeof(uint16_t); i++)
                d->pool[i] = (uint16_t)(0x3000 + i * 2654435761U % 1024);
        d->block = (struct attention_block){.head_dim = HEAD_DIM, .scale = 0.088f, .scratch = f};
        f += ATTENTION_SCRATCH;
        for (size_t i = 0; i < ATTENTION_QUERIES; i++) {
                d->block.n_keys[i] = ATTENTION_BLOCK;
                d->block.partial[i] = f;
                f += partial;
                d->block.q[i] = f;
                for (size_t j = 0; j < HEAD_DIM; j++)
                        f[j] = (float)(i * 37 + j * 11 % 64) / 256.0f;
                f += HEAD_DIM;
        }
}

/* Pages of one block: a page of K and one of V side by side, the blocks' pages interleaved as in a
 * model with 32 heads and layers. */
static void point_at(struct data *d, size_t block) {
        enum { APART = 32 };

        for (size_t i = 0; i < BLOCK_PAGES; i++) {
                size_t page = (block / APART * BLOCK_PAGES + i) * APART + block % APART;

                d->block.k[i] = d->pool + page * 2 * PAGE_VALUES;
                d->block.v[i] = d->block.k[i] + PAGE_VALUES;
        }
}

/* Seconds per block, best of some rounds over `blocks` different ones. */
static double measure(struct data *d, attention_fn *fn, uint32_t queries, size_t blocks) {
        double best = 1e9;

        d->block.n = queries;
        d->block.next = d->next;
        for (unsigned round = 0; round < 5; round++) {
                double start = bench_now(), time;

                for (size_t i = 0; i < pool_bytes / block_bytes; i++) {
                        point_at(d, (i + 1) % blocks);
                        memcpy(d->next, d->block.k, sizeof(d->next));
                        point_at(d, i % blocks);
                        fn(&d->block);
                }
                time = (bench_now() - start) / (double)(pool_bytes / block_bytes);
                best = time < best ? time : best;
        }
        return best;
}

static void bench_level(struct data *d, double bandwidth, unsigned flags) {
        struct kernel_ops ops;

        kernel_ops_init(&ops, flags);
        for (uint32_t n = 1; n <= ATTENTION_QUERIES; n++) {
                double macs = 2.0 * n * ATTENTION_BLOCK * HEAD_DIM,
                       cold = measure(d, ops.attention, n, pool_bytes / block_bytes),
                       warm = measure(d, ops.attention, n, 1);

                printf("%-11s %u queries: memory %6.2f us %5.1f GB/s (%3.0f %%), cache %6.2f us"
                       " %5.1f GMAC/s\n", cpu_level_name(flags), n, cold * 1e6,
                       (double)block_bytes / cold * 1e-9,
                       100 * (double)block_bytes / cold / bandwidth, warm * 1e6,
                       macs / warm * 1e-9);
        }
}

int main(int argc, char **argv) {
        static const char *const names[] = { "avx2", "avx512vnni" };
        const char *level = argc > 1 ? argv[1] : NULL;
        double bandwidth;
        unsigned mask;
        struct data d;

        if (cpu_mask_parse(level, &mask) < 0) {
                fprintf(stderr, "bench-attention: unknown level %s\n", level);
                return 1;
        }
        bandwidth = limit_read_bandwidth(1);
        printf("read bandwidth: %.1f GB/s\n", bandwidth * 1e-9);
        data_init(&d);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                unsigned one;

                if (cpu_mask_parse(names[i], &one) == 0 && (mask & cpu_flags(one)))
                        bench_level(&d, bandwidth, cpu_flags(one & mask));
        }
        return 0;
}
