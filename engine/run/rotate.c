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

enum { MAX_HEAD_DIM = 256 };

static void store_key(struct step *s, uint32_t row, uint32_t layer, uint32_t head, float *key) {
        const struct engine *e = s->e;
        size_t head_dim = e->model->hp.head_dim, position = s->positions[row];
        uint16_t half[MAX_HEAD_DIM];
        uint16_t *page = s->rows[row].seq->pages[position / KV_PAGE] +
                         kv_offset(&e->kv, layer, head) + position % KV_PAGE;

        e->ops->f32_to_f16(half, key, head_dim);
        for (size_t d = 0; d < head_dim; d++)
                page[d * KV_PAGE] = half[d];
}

static void store_value(struct step *s, uint32_t row, uint32_t layer, uint32_t head,
                        const float *value) {
        const struct engine *e = s->e;
        size_t head_dim = e->model->hp.head_dim, position = s->positions[row];
        uint16_t *page = s->rows[row].seq->pages[position / KV_PAGE] +
                         kv_offset(&e->kv, layer, head) + e->kv.head_values;

        e->ops->f32_to_f16(page + position % KV_PAGE * head_dim, value, head_dim);
}

/* Queries in place, keys in place and into the cache, values into the cache. The work is counted
 * in heads, all rows of a head together: neighbouring tokens share the cache lines of K. */
void rotate_and_store(struct step *s, unsigned thread, uint32_t layer) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        const struct run_state *run = &e->run;
        rope_fn *rotate = hp->rope_neox ? e->ops->rope_neox : e->ops->rope_norm;
        size_t half = hp->rope_dim / 2, q_stride = row_stride(hp->n_head * hp->head_dim),
               kv_stride = row_stride(hp->n_head_kv * hp->head_dim);
        uint32_t begin, end;

        pool_part((hp->n_head + hp->n_head_kv) * s->n, thread, pool_threads(e->pool), &begin,
                  &end);
        for (uint32_t unit = begin; unit < end; unit++) {
                uint32_t head = unit / s->n, row = unit % s->n;
                const float *c = run->cosines + row * half, *sn = run->sines + row * half;

                if (head < hp->n_head) {
                        rotate(run->q + row * q_stride + head * hp->head_dim, c, sn, half);
                        continue;
                }
                head -= hp->n_head;
                rotate(run->k + row * kv_stride + head * hp->head_dim, c, sn, half);
                store_key(s, row, layer, head, run->k + row * kv_stride + head * hp->head_dim);
                store_value(s, row, layer, head, run->v + row * kv_stride + head * hp->head_dim);
        }
}
