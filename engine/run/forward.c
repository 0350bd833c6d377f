/* The forward pass, in the order of the mathematics (formats-and-models 4.1, 4.2):
 *
 *   h = embedding[token]
 *   per layer:
 *     x = rms(h, attn_norm)
 *     q, k, v = Wq x, Wk x, Wv x;   q, k = rope(q), rope(k)
 *     a = softmax(q k^T / sqrt(head_dim)) v       per head, heads side by side
 *     h = h + Wo rms(a, attn_sub_norm)            (BitNet families; others: Wo a)
 *     y = rms(h, ffn_norm)
 *     f = act(Wgate y) * (Wup y)
 *     h = h + Wdown rms(f, ffn_sub_norm)          (others: Wdown f)
 *   logits = Wout rms(h, output_norm)           (models that pool: rms(h, output_norm) alone)
 *
 * Problem: all of this runs on every thread at once, with a barrier wherever a thread reads what
 * another wrote. Matrices are split by tiles of output rows, everything else by rows or heads; no
 * sum is ever split, so the number of threads cannot change a result. Each thread adds its own
 * tiles to h and applies the activation to its own tiles, which saves two barriers a layer.
 *
 * Every function here is called by all threads with the same step and ends, where its results are
 * needed by others, in a barrier. Scratch belongs to the engine.
 */
#include <math.h>
#include <string.h>

#include "engine/run/linear.h"
#include "engine/run/rope.h"
#include "engine/run/state.h"
#include "kernels/ref/fp16.h"

/* A matrix to multiply and where its rows go. */
struct product {
        const struct weight_matrix *w;
        float *y;
        size_t stride;
};

static unsigned threads_of(const struct step *s) {
        return pool_threads(s->e->pool);
}

/* Several matrices with the same input, their tiles split evenly as one list. */
static void multiply(struct step *s, unsigned thread, const struct input *in,
                     const struct product *products, size_t n_products) {
        uint32_t begin, end, total = 0, first = 0;

        for (size_t i = 0; i < n_products; i++)
                total += tiles_of(products[i].w->rows);
        pool_part(total, thread, threads_of(s), &begin, &end);
        for (size_t i = 0; i < n_products; i++) {
                const struct product *p = &products[i];
                uint32_t last = first + tiles_of(p->w->rows);
                uint32_t from = begin > first ? begin : first, to = end < last ? end : last;

                if (from < to)
                        linear(s->e, p->y, p->stride, p->w, in, tile_cut(p->w, from - first),
                               tile_cut(p->w, to - first));
                first = last;
        }
}

/* h = h + w * input, each thread its own tiles. */
static void multiply_add(struct step *s, unsigned thread, const struct input *in,
                         const struct weight_matrix *w) {
        const struct run_state *run = &s->e->run;
        size_t stride = row_stride(w->rows), from, count;
        uint32_t begin, end;

        pool_part(tiles_of(w->rows), thread, threads_of(s), &begin, &end);
        begin = tile_cut(w, begin);
        end = tile_cut(w, end);
        if (begin == end)
                return;
        linear(s->e, run->projected, stride, w, in, begin, end);
        from = (size_t)begin * TILE_ROWS;
        count = (end * (size_t)TILE_ROWS < w->rows ? end * (size_t)TILE_ROWS : w->rows) - from;
        for (uint32_t t = 0; t < s->n; t++)
                s->e->ops->add(run->h + t * stride + from, run->projected + t * stride + from,
                               count);
}

/* h [n, n_embd] and the rotations of each row's position. */
static void embed(struct step *s, unsigned thread) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        size_t half = hp->rope_dim / 2;
        uint32_t begin, end;

        pool_part(s->n, thread, threads_of(s), &begin, &end);
        for (uint32_t t = begin; t < end; t++) {
                matrix_row(&e->model->token_embd, (uint32_t)s->rows[t].token,
                           e->run.h + t * row_stride(hp->n_embd));
                rope_angles(e->run.cosines + t * half, e->run.sines + t * half, e->frequency,
                            half, s->positions[t]);
        }
        pool_barrier(e->pool);
}

static void attention_block(struct step *s, unsigned thread, uint32_t index) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        const struct layer *l = &e->model->layers[index];
        uint32_t heads = hp->n_head * hp->head_dim, heads_kv = hp->n_head_kv * hp->head_dim;
        const struct product qkv[] = {
                {&l->q, e->run.q, row_stride(heads)},
                {&l->k, e->run.k, row_stride(heads_kv)},
                {&l->v, e->run.v, row_stride(heads_kv)},
        };
        struct input in;

        in = input_prepare(s, thread, e->run.h, row_stride(hp->n_embd), s->n, hp->n_embd,
                           l->attn_norm,
                           input_form(hp, &l->q) | input_form(hp, &l->k) | input_form(hp, &l->v));
        multiply(s, thread, &in, qkv, 3);
        pool_barrier(e->pool);
        rotate_and_store(s, thread, index);
        pool_barrier(e->pool);
        attend(s, thread, index);
        pool_barrier(e->pool);
        in = input_prepare(s, thread, e->run.heads, row_stride(heads), s->n, heads,
                           l->attn_sub_norm, input_form(hp, &l->o));
        multiply_add(s, thread, &in, &l->o);
        if (thread == 0)
                atomic_store_explicit(&s->next_task, 0, memory_order_relaxed);
        pool_barrier(e->pool);
}

/* gate = act(gate) * up on the tiles this thread has just computed of both. */
static void activate(struct step *s, uint32_t begin, uint32_t end) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        size_t stride = row_stride(hp->n_ff), from = (size_t)begin * TILE_ROWS,
               to = (size_t)end * TILE_ROWS < hp->n_ff ? (size_t)end * TILE_ROWS : hp->n_ff;

        for (uint32_t t = 0; t < s->n; t++) {
                float *gate = e->run.gate + t * stride + from;
                const float *up = e->run.up + t * stride + from;

                if (hp->activation == ACTIVATION_RELU2)
                        e->ops->relu2_mul(gate, gate, up, to - from);
                else
                        e->ops->silu_mul(gate, gate, up, to - from);
        }
}

static void ffn_block(struct step *s, unsigned thread, uint32_t index) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        const struct layer *l = &e->model->layers[index];
        size_t stride = row_stride(hp->n_ff);
        uint32_t begin, end;
        struct input in;

        in = input_prepare(s, thread, e->run.h, row_stride(hp->n_embd), s->n, hp->n_embd,
                           l->ffn_norm, input_form(hp, &l->gate) | input_form(hp, &l->up));
        pool_part(tiles_of(hp->n_ff), thread, threads_of(s), &begin, &end);
        begin = tile_cut(&l->gate, tile_cut(&l->up, begin));
        end = tile_cut(&l->gate, tile_cut(&l->up, end));
        if (begin < end) {
                linear(e, e->run.gate, stride, &l->gate, &in, begin, end);
                if (hp->activation == ACTIVATION_RELU2)
                        linear_where(e, e->run.up, stride, &l->up, &in, e->run.gate, begin, end);
                else
                        linear(e, e->run.up, stride, &l->up, &in, begin, end);
                activate(s, begin, end);
        }
        pool_barrier(e->pool);
        in = input_prepare(s, thread, e->run.gate, stride, s->n, hp->n_ff, l->ffn_sub_norm,
                           input_form(hp, &l->down));
        multiply_add(s, thread, &in, &l->down);
}

/* The rows that want logits move to the front of the residual stream, in order. They keep their
 * values, so nothing is lost that is still needed. */
static void gather_wanted(struct step *s, unsigned thread) {
        const struct engine *e = s->e;
        size_t stride = row_stride(e->model->hp.n_embd);

        if (thread == 0)
                for (uint32_t i = 0; i < s->n_logits; i++)
                        if (s->logit_rows[i] != i)
                                memcpy(e->run.h + i * stride, e->run.h + s->logit_rows[i] * stride,
                                       stride * sizeof(float));
        pool_barrier(e->pool);
}

/* x = rms(h, w) rounded to half precision, once: through float32 a value near the middle of two
 * neighbours would fall on the wrong side. Scalar, so that the sum has one order everywhere. */
static void half_norm(float *x, const float *h, const float *w, uint32_t n, float eps) {
        double sum = 0, s;

        for (uint32_t i = 0; i < n; i++)
                sum += (double)h[i] * (double)h[i];
        s = 1 / sqrt(sum / n + (double)eps);
        for (uint32_t i = 0; i < n; i++)
                x[i] = f16_to_f32(f64_to_f16((double)h[i] * s * (double)w[i]));
}

/* A 16-bit head multiplies 16-bit activations (formats-and-models 4.4). */
static void half_input(struct step *s, unsigned thread, const struct input *in) {
        const struct engine *e = s->e;
        uint32_t n = e->model->hp.n_embd, begin = 0, end = in->n;
        float *x = (float *)in->x;

        if (in->n > 1)
                pool_part(in->n, thread, threads_of(s), &begin, &end);
        for (uint32_t t = begin; t < end; t++)
                half_norm(x + t * in->x_stride, e->run.h + t * row_stride(n),
                          e->model->output_norm, n, e->model->hp.rms_eps);
        if (in->n > 1)
                pool_barrier(e->pool);
}

/* logits [n_logits, n_vocab] */
static void head(struct step *s, unsigned thread) {
        const struct model *m = s->e->model;
        const struct run_state *run = &s->e->run;
        const struct product logits = {&m->output, run->logits, row_stride(m->hp.n_vocab)};
        struct input in;

        if (s->n_logits == 0)
                return;
        gather_wanted(s, thread);
        in = input_prepare(s, thread, run->h, row_stride(m->hp.n_embd), s->n_logits, m->hp.n_embd,
                           m->output_norm, input_form(&m->hp, &m->output));
        if (m->output.form == WEIGHT_F16)
                half_input(s, thread, &in);
        multiply(s, thread, &in, &logits, 1);
}

/* What is pooled: the normalised residual stream [n_logits, n_embd], each thread some rows. */
static void states(struct step *s, unsigned thread) {
        const struct engine *e = s->e;
        const struct hparams *hp = &e->model->hp;
        size_t stride = row_stride(hp->n_embd);
        uint32_t begin, end;

        pool_part(s->n_logits, thread, threads_of(s), &begin, &end);
        for (uint32_t i = begin; i < end; i++)
                e->ops->rms_norm(e->run.logits + i * stride, e->run.h + s->logit_rows[i] * stride,
                                 e->model->output_norm, hp->n_embd, hp->rms_eps);
}

/* Thread 0 looks, the barrier tells the others: all stop at the same layer. */
static bool cancelled(struct step *s, unsigned thread) {
        if (thread == 0 && s->cancel && *s->cancel)
                s->stop = true;
        pool_barrier(s->e->pool);
        return s->stop;
}

void forward(void *ctx, unsigned thread) {
        struct step *s = ctx;

        embed(s, thread);
        for (uint32_t i = 0; i < s->e->model->hp.n_layer; i++) {
                attention_block(s, thread, i);
                ffn_block(s, thread, i);
                if (cancelled(s, thread)) /* also the barrier after ffn_block */
                        return;
        }
        if (s->e->model->hp.pooling != POOLING_NONE)
                states(s, thread);
        else
                head(s, thread);
}
