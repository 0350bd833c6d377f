/* Integer matrix products: all forms, all tails, adversarial values, tile sub-ranges. */
#include <math.h>
#include <string.h>

#include "tests/kernels/checkasm.h"

enum kind {
        T2_ROW, T2_MANTISSA, T2_GROUP, T2_BY_ROW, T2_BY_COL, S8_ROW, S8_GROUP, S6_GROUP, S4_GROUP,
        T5_ROW, T5_BY_ROW, T5_BY_COL, _KIND_MAX,
};

static const char *const kind_names[_KIND_MAX] = { "t2_row", "t2_mantissa", "t2_group",
                                                   "t2_by_row", "t2_by_col", "s8_row", "s8_group",
                                                   "s6_group", "s4_group", "t5_row",
                                                   "t5_by_row", "t5_by_col" };

/* Values of weights and activations. Byte patterns of the weights are given per form. */
enum weights { W_RANDOM, W_TERNARY, W_MINUS, W_ZERO, W_PLUS, W_ALTERNATE, _WEIGHTS_MAX };
enum values { Q_RANDOM, Q_ZERO, Q_PLUS, Q_MINUS, Q_ALTERNATE, Q_PAIRS, Q_SPARSE, Q_LAST,
              _VALUES_MAX };

struct shape {
        enum kind kind;
        uint32_t rows, cols, n, planes, group;
        bool mins;
        enum weights weights;
        enum values values;
        enum place place;
};

static matmul_q_fn *pick(const struct kernel_ops *ops, enum kind kind) {
        switch (kind) {
        case T2_ROW:
                return ops->t2_row;
        case T2_MANTISSA:
                return ops->t2_mantissa;
        case T2_GROUP:
                return ops->t2_group;
        case T2_BY_ROW:
                return ops->t2_by_row;
        case T2_BY_COL:
                return ops->t2_by_col;
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
        case T5_BY_ROW:
                return ops->t5_by_row;
        case T5_BY_COL:
                return ops->t5_by_col;
        case _KIND_MAX:
                break;
        }
        return NULL;
}

static uint8_t ternary_byte(struct checkasm *c) {
        uint8_t b = 0;

        for (unsigned k = 0; k < 4; k++)
                b |= (uint8_t)(rng_below(c, 3) << 2 * k);
        return b;
}

static uint8_t base3_byte(struct checkasm *c, enum weights weights, size_t i) {
        switch (weights) {
        case W_TERNARY:
                return (uint8_t)(28 * rng_below(c, 9) + rng_below(c, 27));
        case W_MINUS:
                return 0;
        case W_ZERO:
                return 125;
        case W_PLUS:
                return 250;
        case W_ALTERNATE:
                return i % 2 ? 255 : 0;
        case W_RANDOM:
        case _WEIGHTS_MAX:
                break;
        }
        return (uint8_t)rng_next(c);
}

/* W_RANDOM has code 3 too: a file may hold it and every level must agree on it. */
static void fill_codes(struct checkasm *c, const struct buffer *b, enum weights weights, bool t2) {
        uint8_t *p = b->p;

        for (size_t i = 0; i < b->size; i++) {
                switch (weights) {
                case W_RANDOM:
                        p[i] = (uint8_t)rng_next(c);
                        break;
                case W_TERNARY:
                        p[i] = ternary_byte(c);
                        break;
                case W_MINUS:
                        p[i] = 0;
                        break;
                case W_ZERO:
                        p[i] = t2 ? 0x55 : 0x80;
                        break;
                case W_PLUS:
                        p[i] = t2 ? 0xaa : 0xff;
                        break;
                case W_ALTERNATE:
                        p[i] = t2 ? (uint8_t)(i % 2 ? 0x88 : 0x22) : (uint8_t)(i % 2 ? 0xff : 0);
                        break;
                case _WEIGHTS_MAX:
                        break;
                }
        }
}

static int8_t value(struct checkasm *c, enum values values, uint32_t col, uint32_t cols) {
        switch (values) {
        case Q_RANDOM:
                return (int8_t)((int)rng_below(c, 255) - 127);
        case Q_PLUS:
                return 127;
        case Q_MINUS:
                return -127;
        case Q_ALTERNATE:
                return col % 2 ? 127 : -127;
        case Q_PAIRS:
                return col / 4 % 2 ? 127 : -127;
        case Q_SPARSE:
                return rng_below(c, 5) == 0 ? value(c, Q_RANDOM, col, cols) : 0;
        case Q_LAST:
                return col + 1 == cols ? 99 : 0;
        case Q_ZERO:
        case _VALUES_MAX:
                break;
        }
        return 0;
}

struct input {
        struct buffer codes, mantissa, scales, halves, mins, q, scale, sum, inverse;
        struct weight_matrix w;
        struct activations x;
};

static void fill_floats(struct checkasm *c, const struct buffer *b) {
        float *p = b->p;

        for (size_t i = 0; i < b->size / sizeof(float); i++)
                p[i] = rng_below(c, 16) == 0 ? 0 : rng_float(c, 2);
}

/* Any binary16, infinities and NaN included: every level must agree on them. Mostly ordinary. */
static void fill_halves(struct checkasm *c, const struct buffer *b) {
        uint16_t *p = b->p;

        for (size_t i = 0; i < b->size / sizeof(*p); i++) {
                uint16_t v = (uint16_t)rng_next(c);

                p[i] = rng_below(c, 64) ? (uint16_t)((v & 0x83ff) | (8 + v % 8) << 10) : v;
        }
}

static size_t code_bytes(const struct shape *s) {
        size_t tiles = tiles_of(s->rows), groups = tiles * groups_of(s->cols);

        switch (s->kind) {
        case T2_BY_ROW:
                return tiles * TILE_ROWS * t2_row_bytes(s->cols);
        case T2_BY_COL:
                return panels_of(s->rows) * t2_panel_bytes(s->cols);
        case S8_ROW:
        case S8_GROUP:
                return groups * S8_GROUP_BYTES;
        case S6_GROUP:
                return groups * S6_GROUP_BYTES;
        case S4_GROUP:
                return groups * S4_GROUP_BYTES;
        case T5_ROW:
                return (size_t)slabs_of(s->rows) * groups_of(s->cols) * T5_GROUP_BYTES;
        case T5_BY_ROW:
                return tiles * TILE_ROWS * t5_row_bytes(s->cols);
        case T5_BY_COL:
                return t5_panels_of(s->rows) * t5_panel_bytes(s->cols);
        case T2_ROW:
        case T2_MANTISSA:
        case T2_GROUP:
        case _KIND_MAX:
                break;
        }
        return groups * s->planes * T2_PLANE_BYTES;
}

static struct weight_matrix describe(const struct shape *s) {
        static const struct {
                enum weight_form form;
                enum scale_form scale;
        } forms[_KIND_MAX] = {
                [T2_ROW] = { WEIGHT_T2, SCALE_ROW },     [T2_MANTISSA] = { WEIGHT_T2,
                                                                           SCALE_MANTISSA },
                [T2_GROUP] = { WEIGHT_T2, SCALE_GROUP }, [S8_ROW] = { WEIGHT_S8, SCALE_ROW },
                [S8_GROUP] = { WEIGHT_S8, SCALE_HALF },  [S6_GROUP] = { WEIGHT_S6, SCALE_SUPER },
                [S4_GROUP] = { WEIGHT_S4, SCALE_HALF },  [T5_ROW] = { WEIGHT_T5, SCALE_ROW },
                [T2_BY_ROW] = { WEIGHT_T2_BY_ROW, SCALE_ROW },
                [T2_BY_COL] = { WEIGHT_T2_BY_COL, SCALE_ROW },
                [T5_BY_ROW] = { WEIGHT_T5_BY_ROW, SCALE_ROW },
                [T5_BY_COL] = { WEIGHT_T5_BY_COL, SCALE_ROW },
        };

        return (struct weight_matrix){
                .form = forms[s->kind].form,
                .scale = forms[s->kind].scale,
                .rows = s->rows,
                .cols = s->cols,
                .planes = s->kind <= T2_BY_COL ? s->planes : 0,
                .group = s->group,
        };
}

static void input_weights(struct checkasm *c, struct input *in, const struct shape *s) {
        uint32_t tiles = tiles_of(s->rows), groups = groups_of(s->cols);
        size_t scales = (size_t)tiles * TILE_ROWS * (s->group ? (s->cols - 1) / s->group + 1 : 1);
        size_t supers = (size_t)tiles * TILE_ROWS * ((s->cols - 1) / 256 + 1);
        size_t mantissas = s->kind == S6_GROUP ? scales
                                               : (size_t)tiles * groups * s->planes * TILE_ROWS;
        struct weight_matrix w = describe(s);

        if (s->kind == T2_BY_COL) /* scales of whole panels */
                scales = (size_t)panels_of(s->rows) * PANEL_ROWS;
        if (s->kind == T5_BY_COL)
                scales = (size_t)t5_panels_of(s->rows) * T5_PANEL_ROWS;
        buffer_init(&in->codes, code_bytes(s), s->place);
        buffer_init(&in->mantissa, mantissas, s->place);
        buffer_init(&in->scales, scales * sizeof(float), s->place);
        buffer_init(&in->halves, (s->kind == S6_GROUP ? supers : scales) * sizeof(uint16_t),
                    s->place);
        buffer_init(&in->mins, scales * sizeof(uint16_t), s->place);
        if (s->kind >= T5_ROW)
                for (size_t i = 0; i < in->codes.size; i++)
                        ((uint8_t *)in->codes.p)[i] = base3_byte(c, s->weights, i);
        else
                fill_codes(c, &in->codes, s->weights, s->kind <= T2_BY_COL);
        if (s->weights != W_RANDOM)
                memset(in->mantissa.p, 255, in->mantissa.size);
        else
                rng_fill(c, in->mantissa.p, in->mantissa.size);
        fill_floats(c, &in->scales);
        fill_halves(c, &in->halves);
        fill_halves(c, &in->mins);
        w.codes = in->codes.p;
        if (w.scale == SCALE_MANTISSA || w.scale == SCALE_SUPER)
                w.mantissa = in->mantissa.p;
        if (w.scale == SCALE_HALF || w.scale == SCALE_SUPER) {
                w.halves = in->halves.p;
                w.mins = s->mins ? in->mins.p : NULL;
                w.factor = rng_below(c, 2) ? 1 : rng_float(c, 2);
        } else {
                w.scales = in->scales.p;
        }
        in->w = w;
}

static bool one_scale(enum kind kind) {
        return kind == T2_ROW || kind == T2_BY_ROW || kind == T2_BY_COL || kind >= T5_ROW;
}

static void input_activations(struct checkasm *c, struct input *in, const struct shape *s) {
        uint32_t groups = groups_of(s->cols), stride = groups * GROUP_COLS;
        int8_t *q;
        int32_t *sum;
        float *scale, *inverse;

        buffer_init(&in->q, (size_t)s->n * stride, s->place);
        buffer_init(&in->scale, (size_t)s->n * groups * sizeof(float), s->place);
        buffer_init(&in->sum, (size_t)s->n * groups * sizeof(int32_t), s->place);
        buffer_init(&in->inverse, s->n * sizeof(float), s->place);
        q = in->q.p;
        sum = in->sum.p;
        scale = in->scale.p;
        inverse = in->inverse.p;
        memset(sum, 0, in->sum.size);
        fill_floats(c, &in->scale);
        for (uint32_t t = 0; t < s->n; t++) {
                inverse[t] = 0.01f + (float)rng_below(c, 100000) / 7.0f;
                scale[t * groups] = 0.5f;
                for (uint32_t i = 0; i < stride; i++) {
                        int8_t v = i < s->cols ? value(c, s->values, i, s->cols) : 0;

                        q[(size_t)t * stride + i] = v;
                        sum[t * groups + i / GROUP_COLS] += v;
                }
        }
        in->x = (struct activations){
                .n = s->n,
                .cols = s->cols,
                .stride = stride,
                .q = q,
                .scale = scale,
                .sum = sum,
                .inverse = one_scale(s->kind) ? inverse : NULL,
        };
}

static void input_done(struct input *in) {
        buffer_done(&in->codes);
        buffer_done(&in->mantissa);
        buffer_done(&in->scales);
        buffer_done(&in->halves);
        buffer_done(&in->mins);
        buffer_done(&in->q);
        buffer_done(&in->scale);
        buffer_done(&in->sum);
        buffer_done(&in->inverse);
}

/* Which of two NaNs a sum passes on is up to the processor and the compiler. */
static void same_nan(const struct buffer *b) {
        float *p = b->p;

        for (size_t i = 0; i < b->size / sizeof(*p); i++)
                if (isnan(p[i]))
                        p[i] = NAN;
}

static void check_shape(struct checkasm *c, const struct shape *s) {
        uint32_t tiles = tiles_of(s->rows), begin = 0, end = tiles;
        size_t y_stride, size;
        struct buffer expected, got;
        struct input in;

        if (pick(c->new, s->kind) == pick(c->old, s->kind))
                return;
        input_weights(c, &in, s);
        input_activations(c, &in, s);
        if (rng_below(c, 3) == 0) {
                begin = rng_below(c, tiles);
                end = begin + 1 + rng_below(c, tiles - begin);
        }
        if (s->kind == T5_ROW) {
                uint32_t last = (end + T5_TILES - 1) / T5_TILES * T5_TILES;

                begin -= begin % T5_TILES;
                end = last < tiles ? last : tiles;
        }
        y_stride = (size_t)end * TILE_ROWS + rng_below(c, 3);
        size = ((s->n - 1) * y_stride + (size_t)end * TILE_ROWS) * sizeof(float);
        buffer_init(&expected, size, s->place);
        buffer_init(&got, size, s->place);
        check_begin(c, "%s rows %u cols %u n %u planes %u group %u mins %d w %d q %d tiles %u-%u",
                    kind_names[s->kind], s->rows, s->cols, s->n, s->planes, s->group, s->mins,
                    (int)s->weights, (int)s->values, begin, end);
        pick(c->ref, s->kind)(expected.p, y_stride, &in.w, &in.x, begin, end);
        pick(c->new, s->kind)(got.p, y_stride, &in.w, &in.x, begin, end);
        same_nan(&expected);
        same_nan(&got);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&expected);
        buffer_done(&got);
        input_done(&in);
}

/* Elements of y whose gate is not positive are unspecified. */
static void forget_unwanted(const struct buffer *y, const float *gate, uint32_t begin,
                            uint32_t end) {
        float *p = y->p;

        for (uint32_t r = begin * TILE_ROWS; r < end * TILE_ROWS; r++)
                if (!(gate[r] > 0))
                        p[r] = 0;
}

static matmul_where_fn *pick_where(const struct kernel_ops *ops, enum kind kind) {
        return kind == T2_BY_ROW ? ops->t2_by_row_where : ops->t5_by_row_where;
}

/* per_cent of the gates are positive. */
static void check_where(struct checkasm *c, const struct shape *s, uint32_t per_cent) {
        static const float others[] = { 0, -0.0f, -1, -1e30f, NAN };
        uint32_t tiles = tiles_of(s->rows), begin = rng_below(c, tiles),
                 end = begin + 1 + rng_below(c, tiles - begin);
        size_t size = (size_t)end * TILE_ROWS * sizeof(float);
        struct buffer expected, got, gates;
        struct input in;
        float *gate;

        if (pick_where(c->new, s->kind) == pick_where(c->old, s->kind))
                return;
        input_weights(c, &in, s);
        input_activations(c, &in, s);
        buffer_init(&expected, size, s->place);
        buffer_init(&got, size, s->place);
        buffer_init(&gates, size, s->place);
        gate = gates.p;
        for (uint32_t r = 0; r < end * TILE_ROWS; r++)
                gate[r] = rng_below(c, 100) < per_cent ? 1e-30f : others[rng_below(c, 5)];
        check_begin(c, "%s_where rows %u cols %u %u %% tiles %u-%u", kind_names[s->kind], s->rows,
                    s->cols, per_cent, begin, end);
        pick_where(c->ref, s->kind)(expected.p, &in.w, &in.x, gate, begin, end);
        pick_where(c->new, s->kind)(got.p, &in.w, &in.x, gate, begin, end);
        forget_unwanted(&expected, gate, begin, end);
        forget_unwanted(&got, gate, begin, end);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&expected);
        buffer_done(&got);
        buffer_done(&gates);
        input_done(&in);
}

/* The parts of a shape that are not under systematic test, drawn at random. */
static struct shape random_shape(struct checkasm *c, enum kind kind) {
        static const uint32_t rows[] = { 1, 15, 16, 17, 33, 48, 64, 65, 79, 80, 81, 100,
                                         129, 165 };
        struct shape s = {
                .kind = kind,
                .rows = rows[rng_below(c, sizeof(rows) / sizeof(rows[0]))],
                .cols = 1 + rng_below(c, 200),
                .n = 1 + rng_below(c, 9),
                .planes = kind == T2_MANTISSA ? 1 + rng_below(c, MAX_PLANES) : 1,
                .mins = kind == S4_GROUP && rng_below(c, 2),
                .weights = rng_below(c, 2) ? W_RANDOM : (enum weights)rng_below(c, _WEIGHTS_MAX),
                .values = rng_below(c, 2) ? Q_RANDOM : (enum values)rng_below(c, _VALUES_MAX),
                .place = (enum place)rng_below(c, _PLACE_MAX),
        };

        if ((kind == T2_BY_COL || kind == T5_BY_COL) && rng_below(c, 2))
                s.rows += PANEL_ROWS * rng_below(c, 3) + rng_below(c, 128);
        if (kind == T2_GROUP)
                s.group = rng_below(c, 2) ? 256 : 64;
        if (kind == S8_GROUP || kind == S4_GROUP)
                s.group = 32;
        if (kind == S6_GROUP)
                s.group = 16;
        return s;
}

static void check_kind(struct checkasm *c, enum kind kind) {
        static const uint32_t big[] = { 191, 192, 193, 256, 257, 319, 320, 321, 511, 576, 640,
                                        1000, 1025, 1600 };
        static const uint32_t many[] = { 31, 32, 63, 64, 65, 70, 130 };
        struct shape s;

        for (uint32_t cols = 1; cols <= 140; cols++)
                for (unsigned place = 0; place < _PLACE_MAX; place++) {
                        s = random_shape(c, kind);
                        s.cols = cols;
                        s.place = (enum place)place;
                        check_shape(c, &s);
                        s.n = 1;
                        check_shape(c, &s);
                }
        for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++) {
                s = random_shape(c, kind);
                s.cols = big[i];
                check_shape(c, &s);
                s.n = 1;
                check_shape(c, &s);
        }
        for (uint32_t n = 1; n <= 17; n++)
                for (unsigned i = 0; i < 6; i++) {
                        s = random_shape(c, kind);
                        s.n = n;
                        check_shape(c, &s);
                }
        for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
                s = random_shape(c, kind);
                s.n = many[i];
                check_shape(c, &s);
        }
        for (unsigned w = 0; w < _WEIGHTS_MAX; w++)
                for (unsigned q = 0; q < _VALUES_MAX; q++)
                        for (uint32_t planes = 1; planes <= MAX_PLANES; planes++) {
                                s = random_shape(c, kind);
                                s.weights = (enum weights)w;
                                s.values = (enum values)q;
                                s.planes = kind == T2_MANTISSA ? planes : 1;
                                check_shape(c, &s);
                                s.n = 1;
                                check_shape(c, &s);
                        }
}

/* More columns than the 32-bit sums of whole bytes hold, which the last two codes of a byte show;
 * by row, all codes of a byte belong to one row. */
static void check_t5_wide(struct checkasm *c, enum kind kind) {
        struct shape s = { .kind = kind, .rows = kind == T5_BY_ROW ? 17 : 80, .cols = 140000,
                           .weights = W_PLUS, .values = Q_PLUS, .place = PLACE_END };

        for (s.n = 1; s.n <= 5; s.n += 2)
                check_shape(c, &s);
}

/* So long rows that the codes of a few tiles fill the cache that tokens pass: the tiles are cut. */
static void check_t2_blocks(struct checkasm *c, enum kind kind) {
        struct shape s = { .kind = kind, .rows = 97, .cols = 20000, .planes = 1,
                           .weights = W_RANDOM, .values = Q_RANDOM, .place = PLACE_END };

        for (s.n = 7; s.n <= 17; s.n += 5)
                check_shape(c, &s);
}

/* What is left out depends on how much it is, and lists have an end. */
static void check_skipped_rows(struct checkasm *c, enum kind kind) {
        static const uint32_t shares[] = { 0, 1, 10, 30, 45, 55, 90, 100 };
        static const uint32_t cols[] = { 1, 64, 65, 200, 255, 256, 257, 319, 320, 321,
                                         500, 1030 };
        struct shape s;

        for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
                for (size_t j = 0; j < sizeof(cols) / sizeof(cols[0]); j++) {
                        s = random_shape(c, kind);
                        s.n = 1;
                        s.cols = cols[j];
                        check_where(c, &s, shares[i]);
                }
        s = random_shape(c, kind);
        s.n = 1;
        s.cols = 20;
        s.rows = 8192 + 100;
        check_where(c, &s, 20);
        check_where(c, &s, 80);
}

static void check_skipped_cols(struct checkasm *c, enum kind kind) {
        for (unsigned i = 0; i < 4; i++) {
                struct shape s = random_shape(c, kind);

                s.rows = i % 2 ? 17 : 300;
                s.cols = 8192 + 70;
                s.n = 1;
                s.values = i < 2 ? Q_SPARSE : Q_RANDOM;
                check_shape(c, &s);
        }
}

void check_matmul_q(struct checkasm *c) {
        for (unsigned kind = 0; kind < _KIND_MAX; kind++)
                check_kind(c, (enum kind)kind);
        for (unsigned kind = T5_ROW; kind < _KIND_MAX; kind++)
                check_t5_wide(c, (enum kind)kind);
        check_t2_blocks(c, T2_ROW);
        check_t2_blocks(c, T2_BY_ROW);
        check_t2_blocks(c, T5_BY_ROW);
        check_skipped_rows(c, T2_BY_ROW);
        check_skipped_rows(c, T5_BY_ROW);
        check_skipped_cols(c, T2_BY_COL);
        check_skipped_cols(c, T5_BY_COL);
}
