/* Products with float weights: the order of the additions is what is tested here. */
#include "tests/kernels/checkasm.h"

struct form {
        const char *name;
        size_t elem;
        matmul_f_fn *ref, *new, *old;
};

/* Finite weights of every size, subnormals included. */
static void fill_weights(struct checkasm *c, const struct buffer *b, const struct form *form,
                         bool f16) {
        uint16_t *h = b->p;
        float *f = b->p;

        for (size_t i = 0; i < b->size / form->elem; i++) {
                uint16_t v = (uint16_t)rng_next(c);

                if (form->elem == sizeof(float))
                        f[i] = rng_float(c, 3);
                else if (f16) /* exponent at most 15 + 14 */
                        h[i] = (v & 0x7c00) == 0x7c00 ? (uint16_t)(v & 0x83ff) : v;
                else          /* around 2^-16 to 2^15 */
                        h[i] = (uint16_t)((v & 0x80ff) | (112 + (v >> 8) % 32) << 7);
        }
}

static void check_one(struct checkasm *c, const struct form *form, bool f16, uint32_t rows,
                      uint32_t cols, uint32_t n, enum place place) {
        uint32_t tiles = tiles_of(rows), begin = rng_below(c, tiles);
        size_t y_stride = (size_t)tiles * TILE_ROWS + rng_below(c, 2), x_stride = cols + n % 3;
        size_t y_size = ((n - 1) * y_stride + (size_t)tiles * TILE_ROWS) * sizeof(float);
        struct buffer codes, x, expected, got;
        struct weight_matrix w;

        buffer_init(&codes, (size_t)tiles * cols * TILE_ROWS * form->elem, place);
        buffer_init(&x, ((n - 1) * x_stride + cols) * sizeof(float), place);
        buffer_init(&expected, y_size, place);
        buffer_init(&got, y_size, place);
        fill_weights(c, &codes, form, f16);
        for (size_t i = 0; i < x.size / sizeof(float); i++)
                ((float *)x.p)[i] = rng_float(c, 5);
        w = (struct weight_matrix){
                .form = form->elem == 4 ? WEIGHT_F32 : f16 ? WEIGHT_F16 : WEIGHT_BF16,
                .scale = SCALE_NONE,
                .rows = rows,
                .cols = cols,
                .codes = codes.p,
        };
        check_begin(c, "%s rows %u cols %u n %u from tile %u", form->name, rows, cols, n, begin);
        form->ref(expected.p, y_stride, &w, x.p, x_stride, n, begin, tiles);
        form->new(got.p, y_stride, &w, x.p, x_stride, n, begin, tiles);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&codes);
        buffer_done(&x);
        buffer_done(&expected);
        buffer_done(&got);
}

void check_matmul_float(struct checkasm *c) {
        const struct form forms[] = {
                { "f16", 2, c->ref->f16, c->new->f16, c->old->f16 },
                { "bf16", 2, c->ref->bf16, c->new->bf16, c->old->bf16 },
                { "f32", 4, c->ref->f32, c->new->f32, c->old->f32 },
        };

        for (size_t i = 0; i < 3; i++) {
                if (forms[i].new == forms[i].old)
                        continue;
                for (uint32_t cols = 1; cols <= 70; cols++)
                        for (unsigned place = 0; place < _PLACE_MAX; place++) {
                                check_one(c, &forms[i], i == 0, 1 + rng_below(c, 130), cols, 1,
                                          (enum place)place);
                                check_one(c, &forms[i], i == 0, 1 + rng_below(c, 130), cols,
                                          1 + rng_below(c, 19), (enum place)place);
                        }
                check_one(c, &forms[i], i == 0, 100, 577, 17, PLACE_END);
        }
}
