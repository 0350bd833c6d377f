/* From the projections of one layer to what attention reads: queries and keys rotated by their
 * position, keys and values in the cache.
 *
 * Problem: K lies by dimension (kernels.h), so one token touches a cache line per dimension and 32
 * neighbours share them all: the work is ordered by heads, all rows of a head together.
 *
 * Invariant: a row writes only its own places of the pages of its own sequence. The pages belong
 * to the sequence.
 */
#include "engine/run/state.h"

/* Where K (V follows it) of a row's page lies, for one layer and KV head. */
static uint8_t *row_page(const struct step *s, uint32_t row, uint32_t layer, uint32_t head) {
        return s->rows[row].seq->pages[s->positions[row] / KV_PAGE] +
               kv_offset(&s->e->kv, layer, head);
}

static void store_f16(const struct step *s, uint32_t row, uint8_t *page, const float *key,
                      const float *value) {
        const struct engine *e = s->e;
        size_t head_dim = e->model->hp.head_dim, at = s->positions[row] % KV_PAGE;
        uint16_t half[ATTENTION_DIM_MAX], *k = (uint16_t *)page + at,
                 *v = (uint16_t *)(page + e->kv.head_bytes) + at * head_dim;

        e->ops->f32_to_f16(half, key, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                k[d * KV_PAGE] = half[d];
        e->ops->f32_to_f16(v, value, head_dim);
}

static void store_s16(const struct step *s, uint32_t row, uint8_t *page, const float *key,
                      const float *value) {
        const struct engine *e = s->e;
        size_t head_dim = e->model->hp.head_dim, at = s->positions[row] % KV_PAGE;
        int16_t codes[ATTENTION_DIM_MAX], *k = (int16_t *)page,
                *v = (int16_t *)(page + e->kv.head_bytes);

        e->ops->quantize_key16(codes, (float *)(k + KV_PAGE * head_dim) + at, key, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                k[d / 2 * 2 * KV_PAGE + at * 2 + d % 2] = codes[d];
        e->ops->quantize_value16(codes, (float *)(v + KV_PAGE * head_dim) + at, value, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                v[at / 2 * 2 * head_dim + d * 2 + at % 2] = codes[d];
}

static void store_s8(const struct step *s, uint32_t row, uint8_t *page, const float *key,
                     const float *value) {
        const struct engine *e = s->e;
        size_t head_dim = e->model->hp.head_dim, at = s->positions[row] % KV_PAGE;
        int8_t codes[ATTENTION_DIM_MAX], *k = (int8_t *)page, *v = k + e->kv.head_bytes;

        e->ops->quantize_head(codes, (float *)(k + KV_PAGE * head_dim) + at, key, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                k[d / 2 * 2 * KV_PAGE + at * 2 + d % 2] = codes[d];
        e->ops->quantize_head(codes, (float *)(v + KV_PAGE * head_dim) + at, value, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                v[at / 2 * 2 * head_dim + d * 2 + at % 2] = codes[d];
}

/* What rotates the heads of a step. */
struct rotation {
        const struct step *s;
        rope_fn *fn;
        size_t half;
};

static void rotate_row(const struct rotation *r, uint32_t row, float *head) {
        const struct run_state *run = &r->s->e->run;

        r->fn(head, run->cosines + row * r->half, run->sines + row * r->half, r->half);
}

/* Heads [begin, end) of all rows, counted as rows of head 0, then of head 1 and so on. */
static void rotate_queries(const struct rotation *r, uint32_t begin, uint32_t end) {
        const struct hparams *hp = &r->s->e->model->hp;
        size_t stride = row_stride(hp->n_head * hp->head_dim);

        for (uint32_t unit = begin; unit < end; unit++) {
                uint32_t head = unit / r->s->n, row = unit % r->s->n;

                rotate_row(r, row, r->s->e->run.q + row * stride + head * hp->head_dim);
        }
}

/* The same for keys, which go into the cache with their values. */
static void store_keys(const struct rotation *r, uint32_t begin, uint32_t end, uint32_t layer) {
        const struct step *s = r->s;
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        size_t stride = row_stride(hp->n_head_kv * hp->head_dim);

        for (uint32_t unit = begin; unit < end; unit++) {
                uint32_t head = unit / s->n, row = unit % s->n;
                uint8_t *page = row_page(s, row, layer, head);
                float *k = e->run.k + row * stride + head * hp->head_dim,
                      *v = e->run.v + row * stride + head * hp->head_dim;

                rotate_row(r, row, k);
                if (e->kv.form == KV_S16)
                        store_s16(s, row, page, k, v);
                else if (e->kv.form == KV_S8)
                        store_s8(s, row, page, k, v);
                else
                        store_f16(s, row, page, k, v);
        }
}

/* Queries in place, keys in place and into the cache, values into the cache. The work is counted
 * in heads, all rows of a head together: neighbouring tokens share the cache lines of K. A key
 * costs many times what a query does, so each kind is split by itself. */
void rotate_and_store(struct step *s, unsigned thread, uint32_t layer) {
        const struct hparams *hp = &s->e->model->hp;
        const struct rotation r = {
                .s = s,
                .fn = hp->rope_neox ? s->e->ops->rope_neox : s->e->ops->rope_norm,
                .half = hp->rope_dim / 2,
        };
        unsigned threads = pool_threads(s->e->pool);
        uint32_t begin, end;

        pool_part(hp->n_head * s->n, thread, threads, &begin, &end);
        rotate_queries(&r, begin, end);
        pool_part(hp->n_head_kv * s->n, thread, threads, &begin, &end);
        store_keys(&r, begin, end, layer);
}
