/* What a single token leaves out behind ReLU² changes nothing: logits of a prompt read token by
 * token (rows of `up` and columns of `down` are skipped) are those of the prompt read at once
 * (nothing is), to the last bit, for shares of zeros from none to all, at 2 and at 1.6 bits. The
 * shares are checked as well, or the comparison would say nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "engine/model/pack.h"
#include "engine/model/types.h"
#include "engine/run/state.h"
#include "tests/tools/open_model.h"
#include "tests/tools/synthetic.h"

enum { LENGTH = 19 };

static struct model *make_model(float zeros, enum ternary_packing ternary) {
        const struct pack_options options = {.i2s = I2S_128_32, .float_head_as_s8 = true,
                                             .ternary = ternary};
        struct synthetic s = synthetic_tiny;
        struct model_error err = {0};
        struct model *m = NULL;
        int source = memfd_create("source", MFD_CLOEXEC), packed = memfd_create("packed", 0);
        uint64_t size;
        void *map;

        s.layers = 3;
        s.ff = 640;
        s.head.id = TYPE_F16;
        s.set_gates = true;
        s.gate_zeros = zeros;
        assert_true(source >= 0 && packed >= 0);
        assert_int_equal(synthetic_write(source, &s, &size), 0);
        map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, source, 0);
        assert_true(map != MAP_FAILED);
        assert_int_equal(pack_model((struct view){map, size}, packed, &options, &size, &err), 0);
        assert_int_equal(model_open(&m, packed, &err), 0);
        munmap(map, (size_t)lseek(source, 0, SEEK_END));
        close(source);
        close(packed);
        return m;
}

struct logits {
        size_t n_vocab;
        float *values; /* [LENGTH][n_vocab] */
};

static void keep(void *ctx, size_t position, const float *logits) {
        struct logits *l = ctx;

        memcpy(l->values + position * l->n_vocab, logits, l->n_vocab * sizeof(*logits));
}

static double share_of_zero_gates(const struct engine *e) {
        const uint32_t n = e->model->hp.n_ff;
        uint32_t zeros = 0;

        for (uint32_t i = 0; i < n; i++)
                zeros += e->run.gate[i] == 0;
        return (double)zeros / n;
}

static void run(float zeros, enum ternary_packing ternary, unsigned threads, const char *cpu,
                size_t chunk, struct logits *l) {
        const bool base_3 = ternary == TERNARY_BASE_3;
        struct model *m = make_model(zeros, ternary);
        int32_t ids[LENGTH];
        struct runner r;

        assert_int_equal(m->layers[0].up.form, base_3 ? WEIGHT_T5_BY_ROW : WEIGHT_T2_BY_ROW);
        assert_int_equal(m->layers[0].down.form, base_3 ? WEIGHT_T5_BY_COL : WEIGHT_T2_BY_COL);
        assert_int_equal(m->layers[0].gate.form, base_3 ? WEIGHT_T5 : WEIGHT_T2);
        l->n_vocab = m->hp.n_vocab;
        l->values = calloc(LENGTH * l->n_vocab, sizeof(float));
        assert_non_null(l->values);
        for (int32_t i = 0; i < LENGTH; i++)
                ids[i] = i * 37 % (int32_t)m->hp.n_vocab;
        assert_int_equal(runner_start(&r, m, threads, cpu, KV_S16, 64), 0);
        assert_int_equal(runner_logits(&r, ids, LENGTH, chunk, keep, l), 0);
        if (chunk == 1) {
                double share = share_of_zero_gates(r.engine);

                if (share < (double)zeros - 0.06 || share > (double)zeros + 0.06)
                        fail_msg("%g of the gates are zero, wanted %g", share, (double)zeros);
        }
        runner_done(&r);
}

static void test_shares(void **state) {
        static const float shares[] = {0, 0.3F, 0.5F, 0.8F, 0.97F, 1};
        static const char *const levels[] = {"c", "avx2", "all"};

        for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
                struct logits whole, single;

                run(shares[i], TERNARY_2_BITS, 1, "c", LENGTH, &whole);
                for (size_t j = 0; j < ARRAY_SIZE(levels); j++)
                        for (unsigned k = 2; k < 8; k++) {
                                run(shares[i], k % 2 ? TERNARY_BASE_3 : TERNARY_2_BITS, k / 2,
                                    levels[j], 1, &single);
                                assert_memory_equal(whole.values, single.values,
                                                    LENGTH * whole.n_vocab * sizeof(float));
                                free(single.values);
                        }
                free(whole.values);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_shares)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
