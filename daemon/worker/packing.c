/* The choice of a packing by measurement. Fewer bits are less to read from memory and more to
 * compute, so which is faster depends on the machine; both give the same results. One product of
 * each kind over weights that no cache holds, best of a few rounds in turn, weighed as a layer has
 * them: half of its weights by tile, a quarter by row, a quarter by column. One thread: if fewer
 * bits win there, they win with more threads too, which share the memory. The reverse is not true
 * where many slow threads share one memory; there the option decides. Owns its memory for the time
 * of the call. */
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "daemon/worker/packing.h"
#include "engine/base/macro.h"
#include "kernels/kernels.h"

enum { COLS = 4096, ROWS = 80 * 1600, ROUNDS = 3 };

struct trial {
        float y[ROWS], scales[ROWS];
        int8_t q[COLS];
        float scale[COLS / GROUP_COLS], inverse;
        int32_t sum[COLS / GROUP_COLS];
        _Alignas(64) uint8_t codes[(size_t)ROWS * COLS / 4];
};

static double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds(struct trial *t, matmul_q_fn *fn, enum weight_form form) {
        const struct weight_matrix w = { .form = form, .scale = SCALE_ROW, .rows = ROWS,
                                         .cols = COLS, .planes = form == WEIGHT_T2,
                                         .codes = t->codes, .scales = t->scales };
        const struct activations x = { .n = 1, .cols = COLS, .stride = COLS, .q = t->q,
                                       .scale = t->scale, .sum = t->sum, .inverse = &t->inverse };
        double start = now();

        fn(t->y, ROWS, &w, &x, 0, tiles_of(ROWS));
        return now() - start;
}

/* What a layer takes with the three products of one packing, best times of all rounds. */
struct layer_time {
        double by_tile, by_row, by_col;
};

static void measure(struct layer_time *best, struct trial *t, const struct kernel_ops *ops,
                    bool base_3) {
        best->by_tile = MIN(best->by_tile, base_3 ? seconds(t, ops->t5_row, WEIGHT_T5)
                                                  : seconds(t, ops->t2_row, WEIGHT_T2));
        best->by_row = MIN(best->by_row, base_3 ? seconds(t, ops->t5_by_row, WEIGHT_T5_BY_ROW)
                                                : seconds(t, ops->t2_by_row, WEIGHT_T2_BY_ROW));
        best->by_col = MIN(best->by_col, base_3 ? seconds(t, ops->t5_by_col, WEIGHT_T5_BY_COL)
                                                : seconds(t, ops->t2_by_col, WEIGHT_T2_BY_COL));
}

static double total(const struct layer_time *t) {
        return 2 * t->by_tile + t->by_row + t->by_col;
}

enum ternary_packing packing_measure(unsigned cpu_flags) {
        struct layer_time two_bits = { 1e9, 1e9, 1e9 }, base_3 = two_bits;
        struct kernel_ops ops;
        struct trial *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (t == MAP_FAILED)
                return TERNARY_2_BITS;
        kernel_ops_init(&ops, cpu_flags);
        memset(t->codes, 0x55, sizeof(t->codes)); /* untouched pages would all be one */
        memset(t->q, 1, sizeof(t->q)); /* columns times zero would not be read */
        t->inverse = 1;
        for (unsigned i = 0; i < ROUNDS; i++) {
                measure(&two_bits, t, &ops, false);
                measure(&base_3, t, &ops, true);
        }
        munmap(t, sizeof(*t));
        return total(&base_3) <= total(&two_bits) ? TERNARY_BASE_3 : TERNARY_2_BITS;
}
