/* Attention over blocks of pages: every head size and number of queries, page and block borders,
 * queries that end at different keys, and garbage behind the last key; then what puts blocks
 * together. */
#include <math.h>
#include <string.h>

#include "tests/kernels/checkasm.h"

enum { MAX_PAGES = ATTENTION_BLOCK / KV_PAGE };

/* How K and V lie. */
struct form {
        const char *name;
        size_t offset; /* of the function in struct kernel_ops */
        enum kv_form kv;
};

static const struct form forms[] = {
        { "attention", offsetof(struct kernel_ops, attention), KV_F16 },
        { "attention_s16", offsetof(struct kernel_ops, attention_s16), KV_S16 },
        { "attention_s8", offsetof(struct kernel_ops, attention_s8), KV_S8 },
};

/* What the codes of the tokens of a page are worth; NULL for f16. */
static float *page_scales(const struct form *form, void *page, size_t head_dim) {
        if (form->kv == KV_F16)
                return NULL;
        return (float *)((int8_t *)page + kv_page_bytes_of(form->kv, head_dim)) - KV_PAGE;
}

static attention_fn *pick(const struct kernel_ops *ops, const struct form *form) {
        attention_fn *fn;

        memcpy(&fn, (const char *)ops + form->offset, sizeof(fn));
        return fn;
}

struct pages {
        struct buffer memory;
        void *page[MAX_PAGES];
};

/* Small finite values in binary16: exponent field 8..16. */
static uint16_t small_f16(struct checkasm *c) {
        return (uint16_t)((rng_next(c) & 0x83ff) | (8 + rng_below(c, 9)) << 10);
}

static void fill_page(struct checkasm *c, const struct form *form, void *page, size_t head_dim) {
        float *scales = page_scales(form, page, head_dim);

        if (!scales) {
                for (size_t i = 0; i < KV_PAGE * head_dim; i++)
                        ((uint16_t *)page)[i] = small_f16(c);
                return;
        }
        rng_fill(c, page, (size_t)((uint8_t *)scales - (uint8_t *)page));
        for (size_t i = 0; i < KV_PAGE; i++)
                scales[i] = rng_below(c, 20) ? fabsf(rng_float(c, 0.02f)) : 0;
}

/* The last page of the block lies at the end of the memory, the others before it in reverse order,
 * so that neither neighbours nor order can help. */
static void pages_init(struct checkasm *c, const struct form *form, struct pages *p, size_t n,
                       size_t head_dim, enum place place) {
        size_t bytes = kv_page_bytes_of(form->kv, head_dim);

        buffer_init(&p->memory, n * bytes, place);
        for (size_t i = 0; i < n; i++) {
                size_t slot = i == n - 1 ? n - 1 : n - 2 - i;

                p->page[i] = (uint8_t *)p->memory.p + slot * bytes;
                fill_page(c, form, p->page[i], head_dim);
        }
}

/* Put a NaN, an infinity or a number where no token is: into the values, or what they are worth. */
static void spoil(const struct form *form, const struct pages *p, size_t from, size_t to,
                  size_t head_dim, bool by_dimension, uint16_t with) {
        for (size_t j = from; j < to; j++) {
                void *page = p->page[j / KV_PAGE];
                size_t t = j % KV_PAGE;

                if (form->kv != KV_F16) {
                        uint32_t garbage = (uint32_t)with << 16 | 0x7f0000;

                        memcpy(page_scales(form, page, head_dim) + t, &garbage, sizeof(garbage));
                        continue;
                }
                for (size_t d = 0; d < head_dim; d++)
                        ((uint16_t *)page)[by_dimension ? d * KV_PAGE + t : t * head_dim + d] =
                                with;
        }
}

/* A block with its buffers; the queries' results are one buffer. */
struct case_block {
        const struct form *form;
        struct attention_block block;
        struct pages k, v;
        struct buffer q, partials, scratch;
};

static void case_init(struct checkasm *c, struct case_block *b, const struct form *form, uint32_t n,
                      const uint32_t *ends, uint32_t head_dim, enum place place) {
        size_t partial = attention_partial(head_dim), most = 0;

        *b = (struct case_block){.form = form};
        b->block = (struct attention_block){
                .n = n, .head_dim = head_dim, .scale = rng_below(c, 2) ? 0.125f : 2.0f};
        for (uint32_t i = 0; i < n; i++)
                most = ends[i] > most ? ends[i] : most;
        most = (most + KV_PAGE - 1) / KV_PAGE;
        pages_init(c, form, &b->k, most, head_dim, place);
        pages_init(c, form, &b->v, most, head_dim, place);
        buffer_init(&b->q, n * head_dim * sizeof(float), place);
        buffer_init(&b->partials, n * partial * sizeof(float), place);
        buffer_init(&b->scratch, ATTENTION_SCRATCH * sizeof(float), place);
        for (size_t i = 0; i < n * head_dim; i++)
                ((float *)b->q.p)[i] = rng_float(c, 4);
        memcpy(b->block.k, b->k.page, sizeof(b->block.k));
        memcpy(b->block.v, b->v.page, sizeof(b->block.v));
        b->block.next = b->block.k;
        b->block.scratch = b->scratch.p;
        for (uint32_t i = 0; i < n; i++) {
                b->block.n_keys[i] = ends[i];
                b->block.q[i] = (float *)b->q.p + i * head_dim;
                b->block.partial[i] = (float *)b->partials.p + i * partial;
        }
}

static void case_done(struct case_block *b) {
        buffer_done(&b->k.memory);
        buffer_done(&b->v.memory);
        buffer_done(&b->q);
        buffer_done(&b->partials);
        buffer_done(&b->scratch);
}

/* The results of the reference in a buffer of their own. */
static void reference(struct checkasm *c, const struct case_block *b, struct buffer *expected,
                      enum place place) {
        struct attention_block ref = b->block;
        size_t partial = attention_partial(ref.head_dim);
        struct buffer scratch;

        buffer_init(expected, ref.n * partial * sizeof(float), place);
        buffer_init(&scratch, ATTENTION_SCRATCH * sizeof(float), place);
        ref.scratch = scratch.p;
        for (uint32_t i = 0; i < ref.n; i++)
                ref.partial[i] = (float *)expected->p + i * partial;
        pick(c->ref, b->form)(&ref);
        buffer_done(&scratch);
}

/* Which floats a result has: those behind l are not written. */
static void clear_unwritten(struct buffer *partials, uint32_t n, size_t head_dim) {
        size_t partial = attention_partial(head_dim);

        for (uint32_t i = 0; i < n; i++)
                for (size_t j = partial - 14; j < partial; j++)
                        if (((uint32_t *)partials->p)[i * partial + j] == 0xa5a5a5a5)
                                ((float *)partials->p)[i * partial + j] = 0;
}

static void check_block(struct checkasm *c, const struct form *form, uint32_t n,
                        const uint32_t *ends, uint32_t head_dim, enum place place) {
        static const uint16_t garbage[] = { 0x7e00, 0xffff, 0x7c00, 0xfc00, 0x7bff };
        struct case_block b;
        struct buffer expected;
        uint32_t most = 0, end;

        case_init(c, &b, form, n, ends, head_dim, place);
        for (uint32_t i = 0; i < n; i++)
                most = ends[i] > most ? ends[i] : most;
        end = (most + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
        spoil(form, &b.k, most, end, head_dim, true, garbage[rng_below(c, 5)]);
        spoil(form, &b.v, most, end, head_dim, false, garbage[rng_below(c, 5)]);
        check_begin(c, "%s queries %u keys %u head %u", form->name, n, most, head_dim);
        reference(c, &b, &expected, place);
        pick(c->new, form)(&b.block);
        clear_unwritten(&expected, n, head_dim);
        clear_unwritten(&b.partials, n, head_dim);
        check_equal(c, &expected, &b.partials, sizeof(float));
        buffer_done(&expected);
        case_done(&b);
}

/* Query 0 sees a key that is not a number. The others end before it and must not notice. */
static void check_blind(struct checkasm *c, const struct form *form, uint32_t n,
                        uint32_t head_dim) {
        uint32_t ends[ATTENTION_QUERIES], nan_at = 1 + rng_below(c, ATTENTION_BLOCK - 1);
        size_t partial = attention_partial(head_dim);
        struct case_block b;
        struct buffer expected;

        ends[0] = ATTENTION_BLOCK;
        for (uint32_t i = 1; i < n; i++)
                ends[i] = 1 + rng_below(c, nan_at);
        case_init(c, &b, form, n, ends, head_dim, PLACE_END);
        reference(c, &b, &expected, PLACE_END);
        spoil(form, &b.k, nan_at, nan_at + 1, head_dim, true, 0x7e00);
        spoil(form, &b.v, nan_at, nan_at + 1, head_dim, false, 0x7e00);
        check_begin(c, "%s NaN at %u, queries %u head %u", form->name, nan_at, n, head_dim);
        pick(c->new, form)(&b.block);
        memcpy(b.partials.p, expected.p, partial * sizeof(float));
        clear_unwritten(&expected, n, head_dim);
        clear_unwritten(&b.partials, n, head_dim);
        check_equal(c, &expected, &b.partials, sizeof(float));
        buffer_done(&expected);
        case_done(&b);
}

static void fill_partial(struct checkasm *c, float *p, size_t head_dim) {
        size_t behind = attention_partial(head_dim) - 16;

        for (size_t d = 0; d < behind; d++)
                p[d] = d < head_dim ? rng_float(c, 30) : 0;
        p[behind] = rng_float(c, rng_below(c, 4) ? 4 : 200);
        p[behind + 1] = 1 + fabsf(rng_float(c, 200));
}

static void check_merge(struct checkasm *c, size_t head_dim, enum place place) {
        size_t bytes = attention_partial(head_dim) * sizeof(float);
        struct buffer expected, got, next, out_expected, out;

        buffer_init(&expected, bytes, place);
        buffer_init(&got, bytes, place);
        buffer_init(&next, bytes, place);
        buffer_init(&out_expected, head_dim * sizeof(float), place);
        buffer_init(&out, head_dim * sizeof(float), place);
        fill_partial(c, expected.p, head_dim);
        fill_partial(c, next.p, head_dim);
        memcpy(got.p, expected.p, bytes);
        check_begin(c, "attention_merge head %zu", head_dim);
        c->ref->attention_merge(expected.p, next.p, head_dim);
        c->new->attention_merge(got.p, next.p, head_dim);
        check_equal(c, &expected, &got, sizeof(float));
        check_begin(c, "attention_finish head %zu", head_dim);
        c->ref->attention_finish(out_expected.p, expected.p, head_dim);
        c->new->attention_finish(out.p, expected.p, head_dim);
        check_equal(c, &out_expected, &out, sizeof(float));
        buffer_done(&expected);
        buffer_done(&got);
        buffer_done(&next);
        buffer_done(&out_expected);
        buffer_done(&out);
}

/* `n` queries that end at, or a few keys before, `keys`; the longest anywhere among them. */
static void some_ends(struct checkasm *c, uint32_t *ends, uint32_t n, uint32_t keys) {
        uint32_t spread = rng_below(c, 3) ? 1 + rng_below(c, 5) : 1 + rng_below(c, keys);

        for (uint32_t i = 0; i < n; i++) {
                uint32_t less = rng_below(c, spread);

                ends[i] = less < keys ? keys - less : 1;
        }
        ends[rng_below(c, n)] = keys;
}

static void check_quantize_head(struct checkasm *c, size_t n, enum place place) {
        static const float magnitudes[] = { 0, 1e-31f, 1e-30f, 1, 1e30f };
        float magnitude = magnitudes[rng_below(c, 5)];
        struct buffer x, q_expected, q, scale_expected, scale;

        buffer_init(&x, n * sizeof(float), place);
        buffer_init(&q_expected, n, place);
        buffer_init(&q, n, place);
        buffer_init(&scale_expected, sizeof(float), place);
        buffer_init(&scale, sizeof(float), place);
        for (size_t i = 0; i < n; i++)
                ((float *)x.p)[i] = rng_float(c, magnitude);
        check_begin(c, "quantize_head n %zu magnitude %g", n, (double)magnitude);
        c->ref->quantize_head(q_expected.p, scale_expected.p, x.p, n);
        c->new->quantize_head(q.p, scale.p, x.p, n);
        check_equal(c, &q_expected, &q, 1);
        check_equal(c, &scale_expected, &scale, sizeof(float));
        buffer_done(&x);
        buffer_done(&q_expected);
        buffer_done(&q);
        buffer_done(&scale_expected);
        buffer_done(&scale);
}

static void check_quantize_head16(struct checkasm *c, size_t n, enum place place, const char *name,
                                  quantize_head16_fn *ref, quantize_head16_fn *new) {
        static const float magnitudes[] = { 0, 1e-31f, 1e-30f, 1, 1e30f };
        static const float special[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f };
        float magnitude = magnitudes[rng_below(c, 5)];
        struct buffer x, q_expected, q, scale_expected, scale;

        buffer_init(&x, n * sizeof(float), place);
        buffer_init(&q_expected, n * sizeof(int16_t), place);
        buffer_init(&q, n * sizeof(int16_t), place);
        buffer_init(&scale_expected, sizeof(float), place);
        buffer_init(&scale, sizeof(float), place);
        for (size_t i = 0; i < n; i++)
                ((float *)x.p)[i] = rng_float(c, magnitude);
        if (rng_below(c, 2)) /* one that is longer than all others together */
                ((float *)x.p)[rng_below(c, (uint32_t)n)] *= 100;
        for (uint32_t i = rng_below(c, 2) ? rng_below(c, 4) : 0; i > 0; i--)
                ((float *)x.p)[rng_below(c, (uint32_t)n)] = special[rng_below(c, 5)];
        check_begin(c, "%s n %zu magnitude %g", name, n, (double)magnitude);
        ref(q_expected.p, scale_expected.p, x.p, n);
        new(q.p, scale.p, x.p, n);
        check_equal(c, &q_expected, &q, sizeof(int16_t));
        check_equal(c, &scale_expected, &scale, sizeof(float)); /* never NaN */
        buffer_done(&x);
        buffer_done(&q_expected);
        buffer_done(&q);
        buffer_done(&scale_expected);
        buffer_done(&scale);
}

static void check_form(struct checkasm *c, const struct form *form) {
        static const uint32_t heads[] = { 2, 8, 16, 30, 32, 48, 64, 80, 96, 128, 130, 256 };
        static const uint32_t borders[] = { 1, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 223, 224,
                                            225, 255, 256 };
        uint32_t ends[ATTENTION_QUERIES];

        for (uint32_t head_dim = 2; head_dim <= ATTENTION_DIM_MAX; head_dim += 2)
                for (unsigned place = 0; place < _PLACE_MAX; place++) {
                        uint32_t n = 1 + rng_below(c, ATTENTION_QUERIES);

                        some_ends(c, ends, n, 1 + rng_below(c, ATTENTION_BLOCK));
                        check_block(c, form, n, ends, head_dim, (enum place)place);
                }
        for (uint32_t n = 1; n <= ATTENTION_QUERIES; n++)
                for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++)
                        for (unsigned place = 0; place < _PLACE_MAX; place++) {
                                some_ends(c, ends, n, borders[i]);
                                check_block(c, form, n, ends, heads[rng_below(c, 12)],
                                            (enum place)place);
                        }
        for (uint32_t n = 1; n <= ATTENTION_QUERIES; n++)
                for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
                        check_blind(c, form, n, heads[i]);
}

void check_attention(struct checkasm *c) {
        if (c->new->attention == c->old->attention)
                return;
        for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
                check_form(c, &forms[i]);
        for (uint32_t head_dim = 2; head_dim <= ATTENTION_DIM_MAX; head_dim += 2)
                for (unsigned place = 0; place < _PLACE_MAX; place++) {
                        check_merge(c, head_dim, (enum place)place);
                        check_quantize_head(c, head_dim, (enum place)place);
                        check_quantize_head16(c, head_dim, (enum place)place, "quantize_key16",
                                              c->ref->quantize_key16, c->new->quantize_key16);
                        check_quantize_head16(c, head_dim, (enum place)place, "quantize_value16",
                                              c->ref->quantize_value16, c->new->quantize_value16);
                }
}
