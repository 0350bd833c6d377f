/* Numbers that do not come from the reference: products computed here from plain matrices with a
 * packer of our own, a published example, and the properties of exp and binary16. Runs on every
 * level, C included, so that a mistake shared by all kernels cannot hide. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/ref/expf.h"
#include "kernels/ref/fma.h"
#include "tests/kernels/checkasm.h"

enum { ROWS = 101, COLS = 203, MAX_COLS = 384, MAX_TILES = PANEL_TILES,
       GROUPS = MAX_COLS / GROUP_COLS };

/* What the additions of a row in float may be off by, as a part of the sum of the sizes of its
 * terms (the sum itself may be next to nothing): 16 roundings of 2^-24, more than a row has. */
#define FLOAT_ERROR 0x1p-20

static void expect(struct checkasm *c, const char *what, double expected, double got,
                   double tolerance) {
        c->compared++;
        if (fabs(expected - got) <= tolerance)
                return;
        c->failed++;
        fprintf(stderr, "%s %s: expected %.9g, got %.9g\n", c->level, what, expected, got);
}

/* In a byte of four codes. */
static void put_code(uint8_t *byte, unsigned shift, int trit) {
        *byte = (uint8_t)((*byte & ~(3U << shift)) | (unsigned)(trit + 1) << shift);
}

/* Where layout.h puts the code of (row, col): tile by tile, group by group, block by block. */
static void pack_t2(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t group = (size_t)(row / 16) * groups_of(cols) + col / 64;
        size_t byte = group * 256 + col % 64 / 16 * 64 + 4 * (row % 16) + col % 4;
        unsigned shift = 2 * (col % 16 / 4);

        put_code(codes + byte, shift, trit);
}

static void pack_by_row(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t blocks = (cols + 255) / 256;

        put_code(codes + (row * blocks + col / 256) * 64 + col % 64, 2 * (col % 256 / 64), trit);
}

/* l: quarter of the tile, i: row in it, j and k: number of the tile. */
static void pack_by_col(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t column = (size_t)(row / 256) * groups_of(cols) * 64 + col;
        uint32_t tile = row % 256 / 16, l = row % 16 / 4, i = row % 4;

        put_code(codes + column * 64 + 16 * l + 4 * (tile / 4) + i, 2 * (tile % 4), trit);
}

static size_t s8_index(uint32_t cols, uint32_t row, uint32_t col) {
        return ((size_t)(row / 16) * groups_of(cols) + col / 64) * 1024 + col % 64 / 4 * 64 +
               4 * (row % 16) + col % 4;
}

struct token {
        int8_t q[MAX_COLS];
        float scale[GROUPS];
        int32_t sum[GROUPS];
        float inverse;
        struct activations x;
};

static void token_init(struct token *t, uint32_t cols) {
        t->x = (struct activations){
                .n = 1,
                .cols = cols,
                .stride = 64 * groups_of(cols),
                .q = t->q,
                .scale = t->scale,
                .sum = t->sum,
                .inverse = &t->inverse,
        };
}

typedef void pack_fn(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit);

static void check_t2_naive(struct checkasm *c, const char *name, matmul_q_fn *multiply,
                           pack_fn *pack) {
        _Alignas(64) static uint8_t codes[MAX_TILES * GROUPS * 256];
        _Alignas(64) float scales[MAX_TILES * 16], y[MAX_TILES * 16];
        static int8_t trit[ROWS][COLS];
        struct weight_matrix w = { .rows = ROWS, .cols = COLS, .planes = 1,
                                   .codes = codes, .scales = scales };
        struct token t = { 0 };
        float x[COLS];

        memset(codes, 0x55, sizeof(codes));
        for (uint32_t r = 0; r < MAX_TILES * 16; r++)
                scales[r] = 0.25f + (float)r;
        for (uint32_t r = 0; r < ROWS; r++)
                for (uint32_t col = 0; col < COLS; col++) {
                        trit[r][col] = (int8_t)((int)rng_below(c, 3) - 1);
                        pack(codes, COLS, r, col, trit[r][col]);
                }
        for (uint32_t col = 0; col < COLS; col++)
                x[col] = rng_float(c, 3);
        token_init(&t, COLS);
        c->new->quantize_token(t.q, t.scale, t.sum, &t.inverse, x, COLS);
        multiply(y, MAX_TILES * 16, &w, &t.x, 0, tiles_of(ROWS));
        for (uint32_t r = 0; r < ROWS; r++) {
                int64_t sum = 0;
                double exact = 0;

                for (uint32_t col = 0; col < COLS; col++) {
                        sum += trit[r][col] * lrintf(x[col] * t.inverse);
                        exact += trit[r][col] * (double)x[col];
                }
                expect(c, name, (double)(((float)sum / t.inverse) * scales[r]), (double)y[r], 0);
                /* each of COLS values is off by at most half a step */
                expect(c, name, exact * (double)scales[r], (double)y[r],
                       0.51 * COLS / (double)t.inverse * (double)scales[r]);
        }
}

/* Two slabs and panels, two blocks of a row. */
enum { T5_ROWS = 333, T5_COLS = 331, T5_ROOM = 2 * T5_PANEL_ROWS };

/* A byte is a number of five digits, of which the upper two count 28 and 84. */
static void add_digit(uint8_t *byte, unsigned k, int trit) {
        static const int worth[] = { 1, 3, 9, 28, 84 };

        *byte = (uint8_t)(*byte + trit * worth[k]);
}

/* Slab by slab, group by group, block by block. */
static void pack_t5(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t group = (size_t)(row / 80) * groups_of(cols) + col / 64;

        add_digit(codes + group * 1024 + col % 64 / 4 * 64 + 4 * (row % 16) + col % 4,
                  row % 80 / 16, trit);
}

static void pack_t5_by_row(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t blocks = (cols + 319) / 320;

        add_digit(codes + (row * blocks + col / 320) * 64 + col % 64, col % 320 / 64, trit);
}

static void pack_t5_by_col(uint8_t *codes, uint32_t cols, uint32_t row, uint32_t col, int trit) {
        size_t column = (size_t)(row / 320) * groups_of(cols) * 64 + col;
        uint32_t tile = row % 320 / 16, l = row % 16 / 4, i = row % 4;

        add_digit(codes + column * 64 + 16 * l + 4 * (tile / 5) + i, tile % 5, trit);
}

static void check_t5_naive(struct checkasm *c, const char *name, matmul_q_fn *multiply,
                           pack_fn *pack) {
        _Alignas(64) static uint8_t codes[T5_ROOM * MAX_COLS / 4];
        _Alignas(64) static float scales[T5_ROOM], y[T5_ROOM];
        static int8_t trit[T5_ROWS][T5_COLS];
        struct weight_matrix w = { .rows = T5_ROWS, .cols = T5_COLS, .codes = codes,
                                   .scales = scales };
        struct token t = { 0 };
        float x[T5_COLS];

        memset(codes, 1 + 3 + 9 + 28 + 84, sizeof(codes));
        for (uint32_t r = 0; r < T5_ROOM; r++)
                scales[r] = 0.25f + (float)r;
        for (uint32_t r = 0; r < T5_ROWS; r++)
                for (uint32_t col = 0; col < T5_COLS; col++) {
                        trit[r][col] = (int8_t)((int)rng_below(c, 3) - 1);
                        pack(codes, T5_COLS, r, col, trit[r][col]);
                }
        for (uint32_t col = 0; col < T5_COLS; col++)
                x[col] = rng_float(c, 3);
        token_init(&t, T5_COLS);
        c->new->quantize_token(t.q, t.scale, t.sum, &t.inverse, x, T5_COLS);
        multiply(y, T5_ROOM, &w, &t.x, 0, tiles_of(T5_ROWS));
        for (uint32_t r = 0; r < T5_ROWS; r++) {
                int32_t sum = 0;

                for (uint32_t col = 0; col < T5_COLS; col++)
                        sum += trit[r][col] * t.q[col];
                expect(c, name, (double)(((float)sum / t.inverse) * scales[r]), (double)y[r],
                       0);
        }
}

static void check_s8_naive(struct checkasm *c) {
        _Alignas(64) static uint8_t codes[MAX_TILES * GROUPS * 1024];
        _Alignas(64) float scales[MAX_TILES * 16], y[MAX_TILES * 16];
        static int weight[ROWS][COLS];
        struct weight_matrix w = { .form = WEIGHT_S8, .rows = ROWS, .cols = COLS, .codes = codes,
                                   .scales = scales };
        struct token t = { 0 };
        float x[COLS];

        memset(codes, 128, sizeof(codes));
        for (uint32_t r = 0; r < MAX_TILES * 16; r++)
                scales[r] = 0.001f * (float)(r + 1);
        for (uint32_t r = 0; r < ROWS; r++)
                for (uint32_t col = 0; col < COLS; col++) {
                        weight[r][col] = (int)rng_below(c, 256) - 128;
                        codes[s8_index(COLS, r, col)] = (uint8_t)(weight[r][col] + 128);
                }
        for (uint32_t col = 0; col < COLS; col++)
                x[col] = rng_float(c, 3);
        token_init(&t, COLS);
        c->new->quantize_group(t.q, t.scale, t.sum, x, COLS);
        c->new->s8_row(y, MAX_TILES * 16, &w, &t.x, 0, MAX_TILES);
        for (uint32_t r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;

                for (uint32_t col = 0; col < COLS; col++) {
                        double v = weight[r][col] * (double)t.q[col] * (double)t.scale[col / 64];

                        sum += v;
                        size += fabs(v);
                }
                expect(c, "s8_row", sum * (double)scales[r], (double)y[r],
                       FLOAT_ERROR * size * (double)scales[r]);
        }
}

/* 4 bits of (row, col) and, for s6x16, its upper 2. */
static void pack_s4(uint8_t *codes, bool six, uint32_t row, uint32_t col, unsigned code) {
        size_t size = six ? 768 : 512;
        uint8_t *group = codes + ((size_t)(row / 16) * groups_of(COLS) + col / 64) * size;
        unsigned in = col % 64;

        group[in / 8 * 64 + 4 * (row % 16) + in % 4] |= (uint8_t)((code & 15) << in % 8 / 4 * 4);
        if (six)
                group[512 + in / 16 * 64 + 4 * (row % 16) + in % 4] |=
                        (uint8_t)(code >> 4 << 2 * (in % 16 / 4));
}

/* s4x16 with and without minimums, s6x16: scales 2^-3, 2^-4, ... by weight group, so that a scale
 * taken from the wrong place shows; the factor is 3. */
static void check_s4_naive(struct checkasm *c, bool six, bool mins) {
        enum { SCALES = MAX_TILES * 16 * (MAX_COLS / 16) };
        _Alignas(64) static uint8_t codes[MAX_TILES * GROUPS * 768], mantissa[SCALES];
        _Alignas(64) static uint16_t halves[SCALES], minimums[SCALES];
        _Alignas(64) float y[MAX_TILES * 16];
        const uint32_t group = six ? 16 : 32, groups = (COLS - 1) / group + 1;
        struct weight_matrix w = { .form = six ? WEIGHT_S6 : WEIGHT_S4,
                                   .scale = six ? SCALE_SUPER : SCALE_HALF, .rows = ROWS,
                                   .cols = COLS, .group = group, .codes = codes,
                                   .mantissa = mantissa, .halves = halves,
                                   .mins = mins ? minimums : NULL, .factor = 3 };
        struct token t = { 0 };
        double expected[ROWS] = { 0 }, size[ROWS] = { 0 };
        float x[COLS];

        memset(codes, 0, sizeof(codes));
        for (uint32_t col = 0; col < COLS; col++)
                x[col] = rng_float(c, 3);
        token_init(&t, COLS);
        c->new->quantize_group(t.q, t.scale, t.sum, x, COLS);
        for (uint32_t r = 0; r < ROWS; r++)
                for (uint32_t col = 0; col < COLS; col++) {
                        unsigned code = rng_below(c, six ? 64 : 16), b = col / group;
                        size_t at = ((size_t)(r / 16) * groups + b) * 16 + r % 16;
                        double d = six ? 0.25 * ((int)(r + b) - 20) : ldexp(1, -3 - (int)b);
                        double v = d * ((int)code - (six ? 32 : mins ? 0 : 8));

                        if (six) {
                                halves[r / 16 * 16 + r % 16] = 0x3400; /* 0.25 */
                                mantissa[at] = (uint8_t)((int)(r + b) - 20);
                        } else {
                                halves[at] = (uint16_t)((12 - b) << 10);
                        }
                        minimums[at] = 0xbc00; /* -1 */
                        pack_s4(codes, six, r, col, code);
                        expected[r] += 3 * (v - mins) * (double)t.q[col] *
                                       (double)t.scale[col / 64];
                        size[r] += 3 * (fabs(v) + mins) * fabs((double)t.q[col]) *
                                   (double)t.scale[col / 64];
                }
        (six ? c->new->s6_group : c->new->s4_group)(y, MAX_TILES * 16, &w, &t.x, 0, MAX_TILES);
        for (uint32_t r = 0; r < ROWS; r++)
                expect(c, six ? "s6_group" : "s4_group", expected[r], (double)y[r],
                       FLOAT_ERROR * size[r]);
}

/* Ternary row t(i) of the conformance vectors. */
static int conformance_trit(uint32_t i) {
        return (int)((i * i + 3 * i + i / 5) % 7 % 3) - 1;
}

/* The published dot product: four rows of 256 trits, scale 0.5, one quantised token. */
static void check_conformance(struct checkasm *c) {
        static const int8_t first_q[] = { -113, -66, -19, 28, 75, 122, -86, -39 };
        static const double expected[] = { 4.5029531, 6.8836122, 0.6582185, 4.2384353 };
        _Alignas(64) uint8_t codes[GROUPS * 256];
        _Alignas(64) float scales[16], y[16];
        struct weight_matrix w = { .form = WEIGHT_T2, .rows = 4, .cols = 256, .planes = 1,
                                   .codes = codes, .scales = scales };
        struct token t = { 0 };
        float x[256];
        int32_t sum = 0;

        memset(codes, 0x55, sizeof(codes));
        for (uint32_t r = 0; r < 16; r++)
                scales[r] = 0.5f;
        for (uint32_t i = 0; i < 1024; i++)
                pack_t2(codes, 256, i / 256, i % 256, conformance_trit(i));
        for (int i = 0; i < 256; i++)
                x[i] = (float)((37 * i + 11) % 201 - 100) / 64.0f;
        token_init(&t, 256);
        c->new->quantize_token(t.q, t.scale, t.sum, &t.inverse, x, 256);
        expect(c, "conformance inverse", 81.27999878, (double)t.inverse, 1e-8);
        for (uint32_t i = 0; i < 8; i++)
                expect(c, "conformance q", first_q[i], t.q[i], 0);
        for (uint32_t g = 0; g < GROUPS; g++)
                sum += t.sum[g];
        expect(c, "conformance sum", 2, sum, 0);
        c->new->t2_row(y, 16, &w, &t.x, 0, 1);
        for (uint32_t r = 0; r < 4; r++)
                expect(c, "conformance y", expected[r], (double)y[r], 1e-6);
}

/* At most 2 units in the last place from exp in double precision, subnormals included. */
static void check_exp(struct checkasm *c) {
        double worst = 0;

        for (unsigned i = 0; i < 400000; i++) {
                float x = -104.0f + 193.0f * (float)i / 400000.0f;
                double exact = exp((double)x), got = (double)expf_fixed(x);
                double ulp = exact < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(exact) - 23);

                if (exact < 3.4028234e38 && fabs(got - exact) / ulp > worst)
                        worst = fabs(got - exact) / ulp;
        }
        expect(c, "worst error of exp in ulp", 0, worst, 2);
        expect(c, "exp(0)", 1, (double)expf_fixed(0), 0);
        expect(c, "exp(-0)", 1, (double)expf_fixed(-0.0f), 0);
        expect(c, "exp(-inf)", 0, (double)expf_fixed(-INFINITY), 0);
        expect(c, "exp(inf) is infinite", 1, isinf(expf_fixed(INFINITY)) != 0, 0);
        expect(c, "exp(nan) is nan", 1, isnan(expf_fixed(NAN)) != 0, 0);
}

/* Every binary16 number survives the way to binary32 and back; known values are right. */
static void check_f16_round_trip(struct checkasm *c) {
        static const struct {
                float f;
                uint16_t h;
        } known[] = { { 1.0f, 0x3c00 },       { -2.0f, 0xc000 },   { 65504.0f, 0x7bff },
                      { 65519.9f, 0x7bff },   { 65520.0f, 0x7c00 }, { 0x1p-24f, 0x0001 },
                      { 0x1p-25f, 0x0000 },   { 0x1.8p-25f, 0x0001 }, { 0x1.002p0f, 0x3c00 },
                      { 0x1.006p0f, 0x3c02 }, { 0.333251953125f, 0x3555 } };

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
                uint16_t h;

                c->new->f32_to_f16(&h, &known[i].f, 1);
                expect(c, "f32_to_f16", known[i].h, h, 0);
        }
        for (uint32_t h = 0; h <= 0xffff; h++) {
                float f = f16_to_f32((uint16_t)h);
                uint16_t back;

                c->new->f32_to_f16(&back, &f, 1);
                if ((h & 0x7fff) > 0x7c00)
                        expect(c, "NaN of binary16", h | 0x0200, back, 0);
                else
                        expect(c, "binary16 round trip", h, back, 0);
        }
}

/* Values so near the middle of two halves that binary32 cannot tell the side. */
static void check_f64_to_f16(struct checkasm *c) {
        static const struct {
                double d;
                uint16_t h;
        } known[] = { { 0x1.002p0, 0x3c00 },
                      { 0x1.002p0 + 0x1p-45, 0x3c01 },
                      { 0x1.006p0 - 0x1p-45, 0x3c01 },
                      { -0x1.002p0 - 0x1p-45, 0xbc01 },
                      { 0x1p-25 + 0x1p-70, 0x0001 },
                      { 65520.0 - 0x1p-30, 0x7bff },
                      { 1e300, 0x7c00 },
                      { 0.0, 0x0000 } };

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
                expect(c, "f64_to_f16", known[i].h, f64_to_f16(known[i].d), 0);
}

/* Random numbers with magnitudes close enough for the sum to matter, and the cases that rounding
 * twice gets wrong: sums on the middle between two floats, and subnormal ones. */
static void check_fma(struct checkasm *c) {
        for (unsigned i = 0; i < 200000; i++) {
                float a = rng_float(c, 4), b = rng_float(c, 4),
                      d = ldexpf(rng_float(c, 4), (int)rng_below(c, 60) - 40);
                float expected, got;

                if (i % 4 == 1) { /* a * b lies just off the middle of two neighbours of d */
                        d = 1 + (float)rng_below(c, 1 << 23) * 0x1p-23f;
                        a = 0x1p-24f * (rng_below(c, 2) ? 1 + 0x1p-23f : 1 - 0x1p-24f);
                        b = rng_below(c, 2) ? 1 + 0x1p-23f : 1 - 0x1p-24f;
                }
                if (i % 4 == 2) {
                        a = ldexpf(a, -70);
                        b = ldexpf(b, -70);
                        d = ldexpf(d, -125);
                }
                expected = fmaf(a, b, d);
                got = fma_fixed(a, b, d);
                expect(c, "fma", (double)expected, (double)got, 0);
        }
}

enum { KEYS = 300, HEADS_MAX = 256, KEY_PAGES = (KEYS + KV_PAGE - 1) / KV_PAGE };

/* Keys and values as they were, and as a form keeps them. */
struct heads {
        enum kv_form form;
        uint32_t head_dim;
        float q[HEADS_MAX], key[KEYS][HEADS_MAX], value[KEYS][HEADS_MAX];
        _Alignas(64) uint16_t k[KEY_PAGES][KV_PAGE * (HEADS_MAX + 2)],
                v[KEY_PAGES][KV_PAGE * (HEADS_MAX + 2)];
};

/* Where K and V of token j, dimension d lie in a page, in codes. */
static size_t k_place(const struct heads *h, size_t j, size_t d) {
        return h->form == KV_F16 ? d * KV_PAGE + j : d / 2 * 2 * KV_PAGE + j * 2 + d % 2;
}

static size_t v_place(const struct heads *h, size_t j, size_t d) {
        return h->form == KV_F16 ? j * h->head_dim + d
                                 : j / 2 * 2 * h->head_dim + d * 2 + j % 2;
}

static void put_head(const struct checkasm *c, const struct heads *h, uint16_t *page, size_t token,
                     const float *x, bool values) {
        float *scales = (float *)((uint8_t *)page + kv_page_bytes_of(h->form, h->head_dim));
        int16_t wide[HEADS_MAX];
        int8_t narrow[HEADS_MAX];

        scales += (ptrdiff_t)token - KV_PAGE;
        if (h->form == KV_S8)
                c->new->quantize_head(narrow, scales, x, h->head_dim);
        else if (h->form == KV_S16)
                (values ? c->new->quantize_value16 : c->new->quantize_key16)(wide, scales, x,
                                                                             h->head_dim);
        for (size_t d = 0; d < h->head_dim; d++) {
                size_t at = values ? v_place(h, token, d) : k_place(h, token, d);

                if (h->form == KV_S8)
                        ((int8_t *)page)[at] = narrow[d];
                else
                        page[at] = h->form == KV_S16 ? (uint16_t)wide[d] : f32_to_f16(x[d]);
        }
}

/* Two blocks of keys, put together. */
static void attend_heads(const struct checkasm *c, struct heads *h, float *out) {
        _Alignas(64) static float scratch[ATTENTION_SCRATCH], partial[2][HEADS_MAX + 32];
        attention_fn *attention = h->form == KV_S16   ? c->new->attention_s16
                                  : h->form == KV_F16 ? c->new->attention
                                                      : c->new->attention_s8;

        for (size_t j = 0; j < KEYS; j++) {
                put_head(c, h, h->k[j / KV_PAGE], j % KV_PAGE, h->key[j], false);
                put_head(c, h, h->v[j / KV_PAGE], j % KV_PAGE, h->value[j], true);
        }
        for (uint32_t b = 0; b < 2; b++) {
                struct attention_block block = {.n = 1, .head_dim = h->head_dim, .scale = 0.25f,
                                                .q = {h->q}, .partial = {partial[b]},
                                                .scratch = scratch};

                block.n_keys[0] = b == 0 ? ATTENTION_BLOCK : KEYS - ATTENTION_BLOCK;
                for (size_t i = 0; i < ATTENTION_BLOCK / KV_PAGE; i++) {
                        size_t page = b * (ATTENTION_BLOCK / KV_PAGE) + i;

                        block.k[i] = h->k[page < KEY_PAGES ? page : KEY_PAGES - 1];
                        block.v[i] = h->v[page < KEY_PAGES ? page : KEY_PAGES - 1];
                }
                attention(&block);
        }
        c->new->attention_merge(partial[0], partial[1], h->head_dim);
        c->new->attention_finish(out, partial[0], h->head_dim);
}

/* Against a softmax in double precision. */
static void check_heads(struct checkasm *c, const char *what, struct heads *h, double tolerance) {
        double weight[KEYS], sum = 0;
        float out[HEADS_MAX];

        for (size_t j = 0; j < KEYS; j++) {
                double s = 0;

                for (size_t d = 0; d < h->head_dim; d++)
                        s += (double)h->q[d] * (double)h->key[j][d];
                sum += weight[j] = exp(s * 0.25);
        }
        attend_heads(c, h, out);
        for (size_t d = 0; d < h->head_dim; d++) {
                double exact = 0;

                for (size_t j = 0; j < KEYS; j++)
                        exact += weight[j] / sum * (double)h->value[j][d];
                expect(c, what, exact, (double)out[d], tolerance);
        }
}

static void check_attention_naive(struct checkasm *c, enum kv_form form, double tolerance) {
        static struct heads h;

        h.form = form;
        h.head_dim = 40;
        for (size_t d = 0; d < h.head_dim; d++)
                h.q[d] = rng_float(c, 2);
        for (size_t j = 0; j < KEYS; j++)
                for (size_t d = 0; d < h.head_dim; d++) {
                        h.key[j][d] = f16_to_f32(f32_to_f16(rng_float(c, 2)));
                        h.value[j][d] = f16_to_f32(f32_to_f16(rng_float(c, 2)));
                }
        check_heads(c, "attention", &h, tolerance);
}

/* One key outweighs all others, which are against it. Integer weights of less than half a step
 * count in l and nowhere else; the most that the others of a block can lose is 255 / 65,534. */
static void check_attention_peaked(struct checkasm *c, enum kv_form form, double tolerance) {
        static struct heads h;

        h.form = form;
        h.head_dim = 2;
        for (size_t j = 0; j < KEYS; j++) {
                h.key[j][0] = h.key[j][1] = j == 0;
                h.value[j][0] = j == 0 ? 1 : -1;
                h.value[j][1] = -h.value[j][0];
        }
        for (float gap = 6; gap < 14; gap += 0.05f) { /* 255 keys vanish from 11.09 on */
                h.q[0] = h.q[1] = 2 * gap;
                check_heads(c, "attention, peaked", &h, tolerance);
        }
}

/* The largest sums there can be, in all dimensions or in one, for any head size: all keys equal, or
 * every other one turned round, which a score that wraps would put in the place of the others. */
static void check_attention_full(struct checkasm *c, enum kv_form form) {
        static struct heads h;
        float out[HEADS_MAX];

        for (unsigned i = 0; i < 128; i++) {
                bool alternating = i % 8 >= 4;
                float sign = i % 4 < 2 ? 1 : -1;
                double expected = (double)sign;

                h.form = form;
                h.head_dim = i < 56 ? (uint32_t)HEADS_MAX >> i / 8
                                    : 2 + 2 * rng_below(c, HEADS_MAX / 2);
                for (size_t d = 0; d < h.head_dim; d++) {
                        bool full = i % 2 || d == 1;

                        h.q[d] = full ? 0.25f : 0;
                        for (size_t j = 0; j < KEYS; j++) {
                                float s = alternating && j % 2 ? -sign : sign;

                                h.key[j][d] = full ? s : 0;
                                h.value[j][d] = s;
                        }
                }
                if (alternating)
                        expected = tanh((i % 2 ? h.head_dim : 1) / 16.0);
                attend_heads(c, &h, out);
                for (size_t d = 0; d < h.head_dim; d++)
                        expect(c, "attention, full", expected, (double)out[d], 1e-3);
        }
}

void check_known(struct checkasm *c) {
        check_begin(c, "known values");
        check_t2_naive(c, "t2_row", c->new->t2_row, pack_t2);
        check_t2_naive(c, "t2_by_row", c->new->t2_by_row, pack_by_row);
        check_t2_naive(c, "t2_by_col", c->new->t2_by_col, pack_by_col);
        check_t5_naive(c, "t5_row", c->new->t5_row, pack_t5);
        check_t5_naive(c, "t5_by_row", c->new->t5_by_row, pack_t5_by_row);
        check_t5_naive(c, "t5_by_col", c->new->t5_by_col, pack_t5_by_col);
        check_s8_naive(c);
        check_s4_naive(c, false, false);
        check_s4_naive(c, false, true);
        check_s4_naive(c, true, false);
        check_conformance(c);
        check_exp(c);
        check_f16_round_trip(c);
        check_fma(c);
        check_attention_naive(c, KV_F16, 2e-6);
        /* Values up to 2 in 4,095 steps, scores of about 13 off by the steps of 15 bits. */
        check_attention_naive(c, KV_S16, 1e-3);
        check_attention_naive(c, KV_S8, 2e-2);
        for (enum kv_form form = 0; form < _KV_FORM_MAX; form++) {
                check_attention_peaked(c, form, form == KV_F16 ? 2e-5 : 4e-3);
                check_attention_full(c, form);
        }
        check_f64_to_f16(c);
}
