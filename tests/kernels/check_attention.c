/* Attention over pages: every head size, page borders, and garbage behind the last key. */
#include <string.h>

#include "tests/kernels/checkasm.h"

enum { MAX_PAGES = 16 };

struct pages {
        struct buffer memory;
        const uint16_t *page[MAX_PAGES];
};

/* Small finite values in binary16: exponent field 8..16. */
static uint16_t small_f16(struct checkasm *c) {
        return (uint16_t)((rng_next(c) & 0x83ff) | (8 + rng_below(c, 9)) << 10);
}

/* The last page of the sequence lies at the end of the memory, the others before it in reverse
 * order, so that neither neighbours nor order can help. */
static void pages_init(struct checkasm *c, struct pages *p, size_t n, size_t head_dim,
                       enum place place) {
        size_t values = head_dim * KV_PAGE;

        buffer_init(&p->memory, n * values * sizeof(uint16_t), place);
        for (size_t i = 0; i < n; i++) {
                size_t slot = i == n - 1 ? n - 1 : n - 2 - i;

                p->page[i] = (uint16_t *)p->memory.p + slot * values;
        }
        for (size_t i = 0; i < n * values; i++)
                ((uint16_t *)p->memory.p)[i] = small_f16(c);
}

/* Put a NaN, an infinity or a number where no token is. */
static void spoil(const uint16_t *page, size_t used, size_t head_dim, bool by_dimension,
                  uint16_t with) {
        uint16_t *p = (uint16_t *)page;

        for (size_t d = 0; d < head_dim; d++)
                for (size_t j = used; j < KV_PAGE; j++)
                        p[by_dimension ? d * KV_PAGE + j : j * head_dim + d] = with;
}

static void check_one(struct checkasm *c, size_t n_keys, size_t head_dim, enum place place) {
        static const uint16_t garbage[] = { 0x7e00, 0xffff, 0x7c00, 0xfc00, 0x7bff };
        size_t pages = (n_keys + KV_PAGE - 1) / KV_PAGE, used = n_keys - (pages - 1) * KV_PAGE;
        struct pages k, v;
        struct buffer q, expected, got, scores, scores_ref;
        float scale = rng_below(c, 2) ? 0.125f : 2.0f;

        pages_init(c, &k, pages, head_dim, place);
        pages_init(c, &v, pages, head_dim, place);
        spoil(k.page[pages - 1], used, head_dim, true, garbage[rng_below(c, 5)]);
        spoil(v.page[pages - 1], used, head_dim, false, garbage[rng_below(c, 5)]);
        buffer_init(&q, head_dim * sizeof(float), place);
        buffer_init(&expected, head_dim * sizeof(float), place);
        buffer_init(&got, head_dim * sizeof(float), place);
        buffer_init(&scores, pages * KV_PAGE * sizeof(float), place);
        buffer_init(&scores_ref, pages * KV_PAGE * sizeof(float), place);
        for (size_t d = 0; d < head_dim; d++)
                ((float *)q.p)[d] = rng_float(c, 4);
        check_begin(c, "attention keys %zu head %zu", n_keys, head_dim);
        c->ref->attention(expected.p, q.p, k.page, v.page, n_keys, head_dim, scale, scores_ref.p);
        c->new->attention(got.p, q.p, k.page, v.page, n_keys, head_dim, scale, scores.p);
        check_equal(c, &expected, &got, sizeof(float));
        buffer_done(&k.memory);
        buffer_done(&v.memory);
        buffer_done(&q);
        buffer_done(&expected);
        buffer_done(&got);
        buffer_done(&scores);
        buffer_done(&scores_ref);
}

void check_attention(struct checkasm *c) {
        static const size_t heads[] = { 2, 8, 16, 30, 32, 48, 64, 80, 96, 128, 130, 256 };

        if (c->new->attention == c->old->attention)
                return;
        for (size_t head_dim = 2; head_dim <= 256; head_dim += 2)
                for (unsigned place = 0; place < _PLACE_MAX; place++)
                        check_one(c, 1 + rng_below(c, 100), head_dim, (enum place)place);
        for (size_t n_keys = 1; n_keys <= 100; n_keys++)
                for (unsigned place = 0; place < _PLACE_MAX; place++)
                        check_one(c, n_keys, heads[rng_below(c, 12)], (enum place)place);
        check_one(c, 500, 128, PLACE_END);
        check_one(c, 512, 64, PLACE_END);
}
