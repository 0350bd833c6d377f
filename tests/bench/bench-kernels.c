/* How fast the matrix kernels are, next to what the machine could do. Usage:
 *
 *   bench-kernels [LEVEL [KERNEL]]
 *
 * LEVEL is a name of kernels/cpu.h ("all": every level above C), KERNEL a name of kind_names.
 * "z" is the share of rows (where) or columns (by_col) that one token leaves out; rates count them
 * as done. One thread. Weights are several copies of the matrix, together larger than any cache, so
 * that a product for one token streams from memory as it does in a model. A plane counts as a
 * matrix of its own in GMAC/s. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "tests/bench/limits.h"

enum kind { T2_ROW, T2_MANTISSA, S8_ROW, S8_GROUP, S6_GROUP, S4_GROUP, T5_ROW, T2_WHERE,
            T2_BY_ROW, T2_BY_COL, T5_WHERE, T5_BY_ROW, T5_BY_COL };

static const char *const kind_names[] = { "t2_row", "t2_mantissa", "s8_row", "s8_group", "s6_group",
                                          "s4_group", "t5_row", "where", "by_row", "by_col",
                                          "t5_where", "t5_by_row", "t5_by_col" };

struct shape {
        enum kind kind;
        uint32_t rows, cols, planes;
        uint32_t zeros; /* per cent, for one token */
};

static const struct shape shapes[] = {
        { T2_MANTISSA, 576, 576, 3 },   { T2_MANTISSA, 1536, 576, 3 },
        { T2_MANTISSA, 576, 1536, 3 },  { T2_MANTISSA, 49152, 576, 4 },
        { T2_ROW, 2560, 2560, 1 },      { T2_ROW, 6912, 2560, 1 },
        { T2_ROW, 2560, 6912, 1 },      { S8_ROW, 32064, 2560, 0 },
        { S8_GROUP, 32064, 2560, 0 },   { S6_GROUP, 32064, 2560, 0 },
        { S4_GROUP, 32064, 2560, 0 },   { T5_ROW, 2560, 2560, 0 },
        { T5_ROW, 6912, 2560, 0 },      { T5_ROW, 2560, 6912, 0 },
        { T2_WHERE, 6912, 2560, 1, 0 },   { T2_WHERE, 6912, 2560, 1, 30 },
        { T2_WHERE, 6912, 2560, 1, 50 },  { T2_WHERE, 6912, 2560, 1, 80 },
        { T2_BY_ROW, 6912, 2560, 1, 0 },  { T2_BY_COL, 2560, 6912, 1, 0 },
        { T2_BY_COL, 2560, 6912, 1, 50 }, { T2_BY_COL, 2560, 6912, 1, 70 },
        { T2_BY_COL, 2560, 6912, 1, 80 }, { T2_BY_COL, 2560, 6912, 1, 90 },
        { T5_WHERE, 6912, 2560, 0, 0 },   { T5_WHERE, 6912, 2560, 0, 30 },
        { T5_WHERE, 6912, 2560, 0, 50 },  { T5_WHERE, 6912, 2560, 0, 80 },
        { T5_BY_ROW, 6912, 2560, 0, 0 },  { T5_BY_COL, 2560, 6912, 0, 0 },
        { T5_BY_COL, 2560, 6912, 0, 50 }, { T5_BY_COL, 2560, 6912, 0, 70 },
        { T5_BY_COL, 2560, 6912, 0, 80 }, { T5_BY_COL, 2560, 6912, 0, 90 },
};

enum { MAX_TOKENS = 64, MAX_COLS = 6912, SHIFTS = 64,
       SHIFTED_COLS = MAX_COLS + SHIFTS * GROUP_COLS };

static const size_t pool_bytes = (size_t)256 << 20;

static matmul_q_fn *pick(const struct kernel_ops *ops, enum kind kind) {
        switch (kind) {
        case T2_ROW:
                return ops->t2_row;
        case T2_MANTISSA:
                return ops->t2_mantissa;
        case S8_ROW:
                return ops->s8_row;
        case S8_GROUP:
                return ops->s8_group;
        case S6_GROUP:
                return ops->s6_group;
        case S4_GROUP:
                return ops->s4_group;
        case T5_ROW:
                return ops->t5_row;
        case T2_WHERE: /* has a type of its own; see multiply */
        case T2_BY_ROW:
                return ops->t2_by_row;
        case T2_BY_COL:
                return ops->t2_by_col;
        case T5_WHERE:
        case T5_BY_ROW:
                return ops->t5_by_row;
        case T5_BY_COL:
                return ops->t5_by_col;
        }
        return NULL;
}

static void *map_bytes(size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED) {
                fprintf(stderr, "bench-kernels: cannot map %zu bytes\n", size);
                exit(1);
        }
        madvise(p, size, MADV_HUGEPAGE);
        return p;
}

/* Everything the kernels read, made once: any bytes are valid codes and mantissas. */
struct data {
        uint8_t *pool, *mantissa;
        float *scales, *y, *gate;
        uint16_t *halves;
        int8_t *q;
        struct activations x;
};

static void data_init(struct data *d) {
        uint32_t groups = groups_of(MAX_COLS);
        uint64_t v = 1;
        float *scale = map_bytes(MAX_TOKENS * groups * sizeof(float));
        float *inverse = map_bytes(MAX_TOKENS * sizeof(float));

        d->pool = map_bytes(pool_bytes);
        d->mantissa = map_bytes((size_t)8 << 20);
        d->scales = map_bytes(65536 * sizeof(float));
        d->gate = map_bytes(SHIFTED_COLS * sizeof(float));
        d->y = map_bytes((size_t)MAX_TOKENS * 49152 * sizeof(float));
        d->q = map_bytes((size_t)MAX_TOKENS * groups * GROUP_COLS);
        for (size_t i = 0; i < pool_bytes; i += 8) {
                uint64_t codes;

                v = v * 6364136223846793005 + 1442695040888963407;
                codes = v & ~(v >> 1 & 0x5555555555555555); /* no code 3 */
                memcpy(d->pool + i, &codes, 8);
        }
        memset(d->mantissa, 77, (size_t)8 << 20);
        d->halves = map_bytes((size_t)8 << 20);
        memset(d->halves, 0x2c, (size_t)8 << 20);
        for (size_t i = 0; i < (size_t)MAX_TOKENS * groups * GROUP_COLS; i++)
                d->q[i] = (int8_t)(i * 37 % 255 - 127);
        for (size_t i = 0; i < 65536; i++)
                d->scales[i] = 0.5f;
        for (size_t i = 0; i < (size_t)MAX_TOKENS * groups; i++)
                scale[i] = 0.01f;
        for (size_t i = 0; i < MAX_TOKENS; i++)
                inverse[i] = 80.0f;
        d->x = (struct activations){
                .q = d->q,
                .scale = scale,
                .sum = map_bytes(MAX_TOKENS * groups * sizeof(int32_t)),
                .inverse = inverse,
        };
}

/* Zeros at random places, as many as the shape says, when there is one token. */
static void place_zeros(const struct data *d, const struct shape *s, uint32_t n) {
        const bool by_col = s->kind == T2_BY_COL || s->kind == T5_BY_COL;
        uint64_t v = 1;

        for (uint32_t i = 0; i < SHIFTED_COLS; i++) {
                bool zero;

                v = v * 6364136223846793005 + 1442695040888963407;
                zero = n == 1 && v >> 33 < ((uint64_t)s->zeros << 31) / 100;
                d->gate[i] = zero ? -1 : 1;
                d->q[i] = zero && by_col ? 0 : (int8_t)(i * 37 % 127 + 1);
        }
}

static void multiply(const struct data *d, const struct kernel_ops *ops, const struct shape *s,
                     const struct weight_matrix *w, const struct activations *x,
                     const float *gate) {
        if (s->kind == T2_WHERE && x->n == 1)
                ops->t2_by_row_where(d->y, w, x, gate, 0, tiles_of(s->rows));
        else if (s->kind == T5_WHERE && x->n == 1)
                ops->t5_by_row_where(d->y, w, x, gate, 0, tiles_of(s->rows));
        else
                pick(ops, s->kind)(d->y, s->rows, w, x, 0, tiles_of(s->rows));
}

static size_t code_bytes(const struct shape *s) {
        size_t group = (size_t)s->planes * T2_PLANE_BYTES;

        if (s->kind == S8_ROW || s->kind == S8_GROUP)
                group = S8_GROUP_BYTES;
        else if (s->kind == S6_GROUP)
                group = S6_GROUP_BYTES;
        else if (s->kind == S4_GROUP)
                group = S4_GROUP_BYTES;
        else if (s->kind == T5_ROW)
                return (size_t)slabs_of(s->rows) * groups_of(s->cols) * T5_GROUP_BYTES;
        else if (s->kind == T5_WHERE || s->kind == T5_BY_ROW)
                return (size_t)tiles_of(s->rows) * TILE_ROWS * t5_row_bytes(s->cols);
        else if (s->kind == T5_BY_COL)
                return (size_t)t5_panels_of(s->rows) * t5_panel_bytes(s->cols);
        return (size_t)tiles_of(s->rows) * groups_of(s->cols) * group;
}

/* Bytes of scales that a product reads beside the codes, where they matter. */
static double scale_bytes(const struct shape *s) {
        double weights = (double)s->rows * s->cols;

        switch (s->kind) {
        case T2_MANTISSA:
                return weights * s->planes / GROUP_COLS;
        case S8_GROUP:
        case S4_GROUP:
                return weights * 2 / 32;
        case S6_GROUP:
                return weights / 16 + weights * 2 / 256;
        case T2_ROW:
        case S8_ROW:
        case T5_ROW:
        case T2_WHERE:
        case T2_BY_ROW:
        case T2_BY_COL:
        case T5_WHERE:
        case T5_BY_ROW:
        case T5_BY_COL:
                break;
        }
        return 0;
}

/* Seconds per product: best of a few rounds, each of which walks through the copies. For one token
 * the zeros of a copy lie elsewhere in every round, or a cache would come to hold what is read. */
static double measure(const struct data *d, const struct kernel_ops *ops, const struct shape *s,
                      uint32_t n) {
        size_t bytes = code_bytes(s), copies = pool_bytes / bytes;
        struct weight_matrix w = { .rows = s->rows, .cols = s->cols, .planes = s->planes,
                                   .mantissa = d->mantissa, .scales = d->scales,
                                   .halves = d->halves, .factor = 1 };
        struct activations x = d->x;
        double best = 1e9, spent = 0;

        w.form = s->kind == S6_GROUP ? WEIGHT_S6 : s->kind == S4_GROUP ? WEIGHT_S4 : WEIGHT_S8;
        w.scale = s->kind == S6_GROUP ? SCALE_SUPER : SCALE_HALF;
        w.group = s->kind == S6_GROUP ? 16 : 32;
        place_zeros(d, s, n);
        x.n = n;
        x.cols = s->cols;
        x.stride = groups_of(s->cols) * GROUP_COLS;
        for (unsigned round = 0; round < 3 || (spent < 0.25 && round < 50); round++) {
                size_t calls = n <= 8 ? copies : 1 + copies / 16;
                double start = bench_now(), time;

                for (size_t i = 0; i < calls; i++) {
                        size_t shift = n == 1 ? (i + 7 * round) % SHIFTS * GROUP_COLS : 0;

                        w.codes = d->pool + i * bytes;
                        x.q = d->q + shift;
                        multiply(d, ops, s, &w, &x, d->gate + shift);
                }
                time = bench_now() - start;
                spent += time;
                if (time / (double)calls < best)
                        best = time / (double)calls;
        }
        return best;
}

static void report(const struct data *d, const struct limits *limits, const char *level,
                   const struct kernel_ops *ops, const struct shape *s, uint32_t n) {
        double time = measure(d, ops, s, n);
        double planes = s->planes ? (double)s->planes : 1;
        double macs = (double)s->rows * s->cols * n * planes / time;
        double bytes = ((double)code_bytes(s) + scale_bytes(s)) / time;

        printf("%-11s %-11s %5ux%-5u p%u n=%-2u z%2u%% %9.1f us %8.1f GMAC/s", level,
               kind_names[s->kind], s->rows, s->cols, s->planes, n, n == 1 ? s->zeros : 0,
               time * 1e6, macs * 1e-9);
        if (limits->dots > 0)
                printf(" (%3.0f %%)", 100 * macs / limits->dots);
        printf(" %6.1f GB/s (%3.0f %%)\n", bytes * 1e-9, 100 * bytes / limits->bandwidth);
        fflush(stdout);
}

static void bench_level(const struct data *d, const struct limits *limits, unsigned flags,
                        const char *kernel) {
        static const uint32_t tokens[] = { 1, 4, 8, 16, 64 };
        struct kernel_ops ops;

        kernel_ops_init(&ops, flags);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
                for (size_t j = 0; j < sizeof(tokens) / sizeof(tokens[0]); j++)
                        if ((!kernel || strcmp(kernel, kind_names[shapes[i].kind]) == 0) &&
                            (shapes[i].zeros == 0 || tokens[j] == 1))
                                report(d, limits, cpu_level_name(flags), &ops, &shapes[i],
                                       tokens[j]);
}

int main(int argc, char **argv) {
        static const char *const names[] = { "avx2", "avxvnni", "avx512vl", "avx512vnni",
                                             "avx512vbmi" };
        const char *level = argc > 1 && strcmp(argv[1], "all") != 0 ? argv[1] : NULL;
        const char *kernel = argc > 2 ? argv[2] : NULL;
        unsigned mask, last = 0;
        struct limits limits;
        struct data d;

        if (cpu_mask_parse(level, &mask) < 0) {
                fprintf(stderr, "bench-kernels: unknown level %s\n", level);
                return 1;
        }
        limits = limits_print();
        data_init(&d);
        if (level) {
                bench_level(&d, &limits, cpu_flags(mask), kernel);
                return 0;
        }
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                unsigned flags;

                if (cpu_mask_parse(names[i], &mask) < 0)
                        return 1;
                flags = cpu_flags(mask);
                if (flags != last) /* otherwise this machine lacks the level */
                        bench_level(&d, &limits, flags, kernel);
                last = flags;
        }
        return 0;
}
