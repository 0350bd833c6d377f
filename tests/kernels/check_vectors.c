/* Norm, quantisation, rotary embedding, gated activations, conversions: every length around the
 * vector widths, in place where the contract allows it, and values at the edges of the format. */
#include <math.h>
#include <string.h>

#include "tests/kernels/checkasm.h"

enum { LENGTHS = 150 };

/* Lengths 1..LENGTHS, then a few larger ones; 0 ends the list. */
static uint32_t next_length(uint32_t n) {
        static const uint32_t big[] = { 255, 256, 257, 576, 1000, 2560, 6913, 0 };

        if (n < LENGTHS)
                return n + 1;
        for (size_t i = 0;; i++)
                if (big[i] > n || big[i] == 0)
                        return big[i];
}

/* Mostly ordinary numbers; `wild` adds zeros, infinities, subnormals and halves. */
static void fill(struct checkasm *c, const struct buffer *b, float magnitude, bool wild) {
        static const float special[] = { 0.0f, -0.0f, INFINITY, -INFINITY, 1e-40f, -3e-45f,
                                         3.4e38f, -88.5f, 103.9f, 0.5f, 1e-5f, -1.5f };
        float *p = b->p;

        for (size_t i = 0; i < b->size / sizeof(float); i++) {
                p[i] = rng_float(c, magnitude);
                if (wild && rng_below(c, 8) == 0)
                        p[i] = special[rng_below(c, 12)];
        }
}

static void check_norm(struct checkasm *c, uint32_t n, enum place place) {
        struct buffer x, w, expected, got;
        bool with_w = rng_below(c, 3) != 0, in_place = rng_below(c, 2);

        buffer_init(&x, n * sizeof(float), place);
        buffer_init(&w, n * sizeof(float), place);
        buffer_init(&expected, n * sizeof(float), place);
        buffer_init(&got, n * sizeof(float), place);
        fill(c, &x, rng_below(c, 2) ? 3.0f : 1e-20f, false);
        fill(c, &w, 2.0f, false);
        check_begin(c, "rms_norm n %u w %d in place %d", n, with_w, in_place);
        c->ref->rms_norm(expected.p, x.p, with_w ? w.p : NULL, n, 1e-5f);
        if (in_place)
                memcpy(got.p, x.p, x.size);
        c->new->rms_norm(got.p, in_place ? got.p : x.p, with_w ? w.p : NULL, n, 1e-5f);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&x);
        buffer_done(&w);
        buffer_done(&expected);
        buffer_done(&got);
}

struct quantized {
        struct buffer q, scale, sum, inverse;
};

static void quantized_init(struct quantized *z, uint32_t n, enum place place) {
        uint32_t groups = groups_of(n);

        buffer_init(&z->q, (size_t)groups * GROUP_COLS, place);
        buffer_init(&z->scale, groups * sizeof(float), place);
        buffer_init(&z->sum, groups * sizeof(int32_t), place);
        buffer_init(&z->inverse, sizeof(float), place);
}

static void quantized_done(struct quantized *z) {
        buffer_done(&z->q);
        buffer_done(&z->scale);
        buffer_done(&z->sum);
        buffer_done(&z->inverse);
}

static void quantize(const struct kernel_ops *ops, bool token, struct quantized *z, const float *x,
                     uint32_t n) {
        if (token)
                ops->quantize_token(z->q.p, z->scale.p, z->sum.p, z->inverse.p, x, n);
        else
                ops->quantize_group(z->q.p, z->scale.p, z->sum.p, x, n);
}

/* Values of the kind k + 1/2 after scaling test the rounding; a NaN must have one fixed result. */
static void fill_quantize(struct checkasm *c, const struct buffer *b, unsigned pattern) {
        float *p = b->p;
        size_t n = b->size / sizeof(float);

        fill(c, b, pattern == 1 ? 1e-41f : 4.0f, pattern == 2);
        for (size_t i = 0; i < n; i++) {
                if (pattern == 3)
                        p[i] = ((float)rng_below(c, 254) - 126.5f) / 4;
                if (pattern == 4)
                        p[i] = i / GROUP_COLS % 2 ? p[i] : 0;
                if (pattern == 5 && rng_below(c, 9) == 0)
                        p[i] = NAN;
        }
        if (pattern == 3)
                p[rng_below(c, (uint32_t)n)] = 127.0f / 4;
}

static void check_quantize(struct checkasm *c, uint32_t n, enum place place, bool token) {
        struct quantized expected, got;
        struct buffer x;
        unsigned pattern = rng_below(c, 6);

        buffer_init(&x, n * sizeof(float), place);
        quantized_init(&expected, n, place);
        quantized_init(&got, n, place);
        fill_quantize(c, &x, pattern);
        check_begin(c, "quantize_%s n %u pattern %u", token ? "token" : "group", n, pattern);
        quantize(c->ref, token, &expected, x.p, n);
        quantize(c->new, token, &got, x.p, n);
        check_equal(c, &expected.q, &got.q, 1);
        check_equal(c, &expected.scale, &got.scale, sizeof(float));
        check_equal(c, &expected.sum, &got.sum, sizeof(int32_t));
        check_equal(c, &expected.inverse, &got.inverse, sizeof(float));
        buffer_done(&x);
        quantized_done(&expected);
        quantized_done(&got);
}

/* y = f(gate, up), with y apart, in gate's place or in up's place. */
static void check_gated(struct checkasm *c, uint32_t n, enum place place, bool silu) {
        silu_mul_fn *ref = silu ? c->ref->silu_mul : c->ref->relu2_mul;
        silu_mul_fn *new = silu ? c->new->silu_mul : c->new->relu2_mul;
        struct buffer gate, up, expected, got;
        unsigned alias = rng_below(c, 3);

        buffer_init(&gate, n * sizeof(float), place);
        buffer_init(&up, n * sizeof(float), place);
        buffer_init(&expected, n * sizeof(float), place);
        buffer_init(&got, n * sizeof(float), place);
        fill(c, &gate, rng_below(c, 2) ? 10.0f : 110.0f, true);
        fill(c, &up, 4.0f, false);
        check_begin(c, "%s n %u alias %u", silu ? "silu_mul" : "relu2_mul", n, alias);
        ref(expected.p, gate.p, up.p, n);
        if (alias > 0)
                memcpy(got.p, alias == 1 ? gate.p : up.p, got.size);
        new(got.p, alias == 1 ? got.p : gate.p, alias == 2 ? got.p : up.p, n);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&gate);
        buffer_done(&up);
        buffer_done(&expected);
        buffer_done(&got);
}

static void check_add(struct checkasm *c, uint32_t n, enum place place) {
        struct buffer x, expected, got;

        buffer_init(&x, n * sizeof(float), place);
        buffer_init(&expected, n * sizeof(float), place);
        buffer_init(&got, n * sizeof(float), place);
        fill(c, &x, 4.0f, false);
        fill(c, &expected, 4.0f, false);
        memcpy(got.p, expected.p, got.size);
        check_begin(c, "add n %u", n);
        c->ref->add(expected.p, x.p, n);
        c->new->add(got.p, x.p, n);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&x);
        buffer_done(&expected);
        buffer_done(&got);
}

static void check_rope(struct checkasm *c, uint32_t half, enum place place, bool neox) {
        rope_fn *ref = neox ? c->ref->rope_neox : c->ref->rope_norm;
        rope_fn *new = neox ? c->new->rope_neox : c->new->rope_norm;
        struct buffer cosine, sine, expected, got;

        buffer_init(&cosine, half * sizeof(float), place);
        buffer_init(&sine, half * sizeof(float), place);
        buffer_init(&expected, 2 * half * sizeof(float), place);
        buffer_init(&got, 2 * half * sizeof(float), place);
        fill(c, &cosine, 1.0f, false);
        fill(c, &sine, 1.0f, false);
        fill(c, &expected, 4.0f, false);
        memcpy(got.p, expected.p, got.size);
        check_begin(c, "rope_%s half %u", neox ? "neox" : "norm", half);
        ref(expected.p, cosine.p, sine.p, half);
        new(got.p, cosine.p, sine.p, half);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&cosine);
        buffer_done(&sine);
        buffer_done(&expected);
        buffer_done(&got);
}

/* Any bits at all: half of the inputs lie in the range of binary16 and near its ties. */
static void check_f16(struct checkasm *c, uint32_t n, enum place place) {
        struct buffer x, expected, got;
        uint32_t *bits;

        buffer_init(&x, n * sizeof(float), place);
        buffer_init(&expected, n * sizeof(uint16_t), place);
        buffer_init(&got, n * sizeof(uint16_t), place);
        rng_fill(c, x.p, x.size);
        bits = x.p;
        for (uint32_t i = 0; i < n; i++)
                if (i % 2)
                        bits[i] = (bits[i] & 0x807fe000) | (100 + bits[i] % 45) << 23 |
                                  (0xfff + (bits[i] >> 8) % 3);
        check_begin(c, "f32_to_f16 n %u", n);
        c->ref->f32_to_f16(expected.p, x.p, n);
        c->new->f32_to_f16(got.p, x.p, n);
        check_equal(c, &expected, &got, sizeof(uint16_t));
        buffer_done(&x);
        buffer_done(&expected);
        buffer_done(&got);
}

void check_vectors(struct checkasm *c) {
        if (c->new->rms_norm == c->old->rms_norm)
                return; /* a level brings all vector kernels or none */
        for (uint32_t n = 1; n != 0; n = next_length(n))
                for (unsigned i = 0; i < 3 * _PLACE_MAX; i++) {
                        enum place place = (enum place)(i % _PLACE_MAX);

                        check_norm(c, n, place);
                        check_quantize(c, n, place, true);
                        check_quantize(c, n, place, false);
                        check_gated(c, n, place, true);
                        check_gated(c, n, place, false);
                        check_add(c, n, place);
                        check_f16(c, n, place);
                        check_rope(c, n, place, true);
                        check_rope(c, n, place, false);
                }
}
