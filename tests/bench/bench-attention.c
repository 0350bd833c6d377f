/* How fast attention is, next to what the machine could do. Usage:
 *
 *   bench-attention [LEVEL [f16|s16|s8]]
 *
 * One thread, head size 128. "decode": the heads of one group against blocks that come from memory,
 * in GB/s of K and V. "prefill": 8 queries against the same few blocks again and again, in
 * multiply-adds. Both as shares of the limits. "s16" and "s8" are K
 * and V as integers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "tests/bench/limits.h"

enum { HEAD_DIM = 128, BLOCK_PAGES = ATTENTION_BLOCK / KV_PAGE };

static const size_t pool_bytes = (size_t)264 << 20;

/* Blocks in memory: more than fit any cache in f16, still 128 MiB in 8 bits. */
enum { N_BLOCKS = 2048 };

struct data {
        uint8_t *pool;
        size_t page; /* bytes of K or V in a page */
        float *floats;
        struct attention_block block;
        const void *next[BLOCK_PAGES];
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
                ((uint16_t *)d->pool)[i] = (uint16_t)(0x3000 + i * 2654435761U % 1024);
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

                d->block.k[i] = d->pool + page * 2 * d->page;
                d->block.v[i] = d->pool + (page * 2 + 1) * d->page;
        }
}

/* Seconds per block, best of some rounds over `blocks` different ones. */
static double measure(struct data *d, attention_fn *fn, uint32_t queries, size_t blocks) {
        double best = 1e9;

        d->block.n = queries;
        d->block.next = d->next;
        for (unsigned round = 0; round < 3; round++) {
                double start = bench_now(), time;

                for (size_t i = 0; i < N_BLOCKS; i++) {
                        point_at(d, (i + 1) % blocks);
                        memcpy(d->next, d->block.k, sizeof(d->next));
                        point_at(d, i % blocks);
                        fn(&d->block);
                }
                time = (bench_now() - start) / N_BLOCKS;
                best = time < best ? time : best;
        }
        return best;
}

static void bench_form(struct data *d, double bandwidth, const char *level, attention_fn *fn,
                       size_t page) {
        size_t block_bytes = 2 * BLOCK_PAGES * page;

        d->page = page;
        for (uint32_t n = 1; n <= ATTENTION_QUERIES; n++) {
                double macs = 2.0 * n * ATTENTION_BLOCK * HEAD_DIM,
                       cold = measure(d, fn, n, N_BLOCKS), warm = measure(d, fn, n, 1);

                printf("%-15s %u queries: memory %6.2f us %5.1f GB/s (%3.0f %%), cache %6.2f us"
                       " %5.1f GMAC/s\n", level, n, cold * 1e6, (double)block_bytes / cold * 1e-9,
                       100 * (double)block_bytes / cold / bandwidth, warm * 1e6,
                       macs / warm * 1e-9);
        }
}

static void bench_level(struct data *d, double bandwidth, unsigned flags, const char *only) {
        struct kernel_ops ops;

        kernel_ops_init(&ops, flags);
        const struct {
                const char *name;
                attention_fn *fn;
                enum kv_form form;
        } forms[] = {
                { "f16", ops.attention, KV_F16 },
                { "s16", ops.attention_s16, KV_S16 },
                { "s8", ops.attention_s8, KV_S8 },
        };

        for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
                char name[32];

                if (only && strcmp(only, forms[i].name) != 0)
                        continue;
                snprintf(name, sizeof(name), "%s %s", cpu_level_name(flags), forms[i].name);
                bench_form(d, bandwidth, name, forms[i].fn,
                           kv_page_bytes_of(forms[i].form, HEAD_DIM));
        }
}

int main(int argc, char **argv) {
        static const char *const names[] = { "avx2", "avx512vnni" };
        const char *level = argc > 1 ? argv[1] : "all";
        bool every = strcmp(level, "all") == 0;
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

                if (cpu_mask_parse(names[i], &one) == 0 && (mask & cpu_flags(one)) &&
                    (every || strcmp(level, names[i]) == 0))
                        bench_level(&d, bandwidth, cpu_flags(one & mask),
                                    argc > 2 ? argv[2] : NULL);
        }
        return 0;
}
