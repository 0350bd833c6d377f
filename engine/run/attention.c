/* Attention of one layer: rotate, store keys and values, then every query head over its keys.
 *
 * Problem: a row may look at the rows before it in the same step, so all keys are stored before
 * anybody looks; and a late row of a long prompt costs many times what an early one does, so the
 * threads draw small tasks from a counter instead of taking equal shares. Who computes a task
 * changes nothing: a head of a row is one kernel call with an order of its own.
 *
 * Query head i reads KV head i / (n_head / n_head_kv). Keys at and past the row's own position
 * are never read, so what a cancelled step left there does not matter.
 */
#include <math.h>

#include "engine/run/state.h"

enum {
        TASK_ROWS = 8,       /* rows of one head in a task */
        MAX_HEAD_DIM = 256,
};

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

static void attend_head(struct step *s, struct thread_state *ts, uint32_t layer, uint32_t row,
                        uint32_t head) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        const struct sequence *seq = s->rows[row].seq;
        size_t n_keys = (size_t)s->positions[row] + 1, n_pages = kv_pages_of(n_keys),
               offset = kv_offset(&e->kv, layer, head / (hp->n_head / hp->n_head_kv)),
               at = row * row_stride(hp->n_head * hp->head_dim) + head * hp->head_dim;

        for (size_t i = 0; i < n_pages; i++) {
                ts->k[i] = seq->pages[i] + offset;
                ts->v[i] = seq->pages[i] + offset + e->kv.head_values;
        }
        e->ops->attention(e->run.heads + at, e->run.q + at, ts->k, ts->v, n_keys, hp->head_dim,
                          (float)(1 / sqrt((double)hp->head_dim)), ts->scores);
}

void attend(struct step *s, unsigned thread, uint32_t layer) {
        struct thread_state *ts = &s->e->threads[thread];
        uint32_t blocks = (s->n + TASK_ROWS - 1) / TASK_ROWS,
                 n_tasks = s->e->model->hp.n_head * blocks;

        for (;;) {
                uint32_t task = atomic_fetch_add_explicit(&s->next_task, 1, memory_order_relaxed);
                uint32_t head = task / blocks, first = task % blocks * TASK_ROWS;

                if (task >= n_tasks)
                        return;
                for (uint32_t row = first; row < s->n && row < first + TASK_ROWS; row++)
                        attend_head(s, ts, layer, row, head);
        }
}
