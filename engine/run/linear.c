/* One linear layer: rows are normalised and quantised once, then multiplied tile by tile.
 *
 * Problem: what a matrix multiplies depends on how it is stored, and preparing rows is small work
 * next to multiplying them. Many rows are split over the threads into shared scratch; one row
 * is prepared by every thread for itself, which costs less than meeting at a barrier.
 *
 * Invariant: the value of a prepared row depends on that row alone.
 */
#include "engine/run/linear.h"

unsigned input_form(const struct hparams *hp, const struct weight_matrix *w) {
        switch (w->form) {
        case WEIGHT_T2:
                if (w->scale == SCALE_ROW)
                        return INPUT_TOKEN;
                return w->scale == SCALE_GROUP && hp->token_quant ? INPUT_TOKEN : INPUT_GROUP;
        case WEIGHT_T5:
        case WEIGHT_T2_BY_ROW:
        case WEIGHT_T2_BY_COL:
        case WEIGHT_T5_BY_ROW:
        case WEIGHT_T5_BY_COL:
                return INPUT_TOKEN;
        case WEIGHT_S8:
        case WEIGHT_S6:
        case WEIGHT_S4:
                return INPUT_GROUP;
        default:
                return INPUT_FLOAT;
        }
}

/* The rows of a buffer as kernels take them. */
static struct activations view_of(const struct quantized *b, uint32_t n, uint32_t columns,
                                  bool by_token) {
        return (struct activations){
                .n = n,
                .cols = columns,
                .stride = GROUP_COLS * groups_of(columns),
                .q = b->q,
                .scale = b->scale,
                .sum = b->sum,
                .inverse = by_token ? b->inverse : NULL,
        };
}

static void quantize_row(const struct kernel_ops *ops, struct input_buffer *b, uint32_t row,
                         const float *x, uint32_t columns, unsigned forms) {
        size_t groups = groups_of(columns), at = row * groups;

        if (forms & INPUT_TOKEN) {
                struct quantized *t = &b->by_token;

                ops->quantize_token(t->q + at * GROUP_COLS, t->scale + at, t->sum + at,
                                    t->inverse + row, x, columns);
        }
        if (forms & INPUT_GROUP) {
                struct quantized *g = &b->by_group;

                ops->quantize_group(g->q + at * GROUP_COLS, g->scale + at, g->sum + at, x,
                                    columns);
        }
}

struct input input_prepare(struct step *s, unsigned thread, const float *src, size_t stride,
                           uint32_t n, uint32_t columns, const float *norm, unsigned forms) {
        const struct engine *e = s->e;
        struct input_buffer *b = n == 1 ? &e->threads[thread].input : &s->e->run.input;
        size_t x_stride = norm ? row_stride(columns) : stride;
        float *one = e->threads[thread].input.x;
        const float *x = norm ? b->x : src;
        uint32_t begin = 0, end = n;

        if (n > 1)
                pool_part(n, thread, pool_threads(e->pool), &begin, &end);
        for (uint32_t t = begin; t < end; t++) {
                const float *row = src + t * stride;

                if (norm) { /* kept where it is multiplied as it is, else only until quantised */
                        float *to = forms & INPUT_FLOAT ? b->x + t * x_stride : one;

                        e->ops->rms_norm(to, row, norm, columns, e->model->hp.rms_eps);
                        row = to;
                }
                quantize_row(e->ops, b, t, row, columns, forms);
        }
        if (n > 1)
                pool_barrier(e->pool);
        return (struct input){
                .x = x,
                .x_stride = x_stride,
                .n = n,
                .by_token = view_of(&b->by_token, n, columns, true),
                .by_group = view_of(&b->by_group, n, columns, false),
        };
}

static matmul_q_fn *quantized_kernel(const struct kernel_ops *ops, const struct weight_matrix *w) {
        if (w->form == WEIGHT_T5)
                return ops->t5_row;
        if (w->form == WEIGHT_S8)
                return w->scale == SCALE_ROW ? ops->s8_row : ops->s8_group;
        if (w->form == WEIGHT_S6 || w->form == WEIGHT_S4)
                return w->form == WEIGHT_S6 ? ops->s6_group : ops->s4_group;
        if (w->form == WEIGHT_T2_BY_ROW || w->form == WEIGHT_T2_BY_COL)
                return w->form == WEIGHT_T2_BY_ROW ? ops->t2_by_row : ops->t2_by_col;
        if (w->form == WEIGHT_T5_BY_ROW || w->form == WEIGHT_T5_BY_COL)
                return w->form == WEIGHT_T5_BY_ROW ? ops->t5_by_row : ops->t5_by_col;
        switch (w->scale) {
        case SCALE_ROW:
                return ops->t2_row;
        case SCALE_MANTISSA:
                return ops->t2_mantissa;
        default:
                return ops->t2_group;
        }
}

static matmul_f_fn *float_kernel(const struct kernel_ops *ops, const struct weight_matrix *w) {
        if (w->form == WEIGHT_F16)
                return ops->f16;
        return w->form == WEIGHT_BF16 ? ops->bf16 : ops->f32;
}

void linear(const struct engine *e, float *y, size_t y_stride, const struct weight_matrix *w,
            const struct input *in, uint32_t begin, uint32_t end) {
        unsigned form = input_form(&e->model->hp, w);

        if (begin >= end)
                return;
        if (form == INPUT_FLOAT)
                float_kernel(e->ops, w)(y, y_stride, w, in->x, in->x_stride, in->n, begin, end);
        else
                quantized_kernel(e->ops, w)(y, y_stride, w,
                                            form == INPUT_TOKEN ? &in->by_token : &in->by_group,
                                            begin, end);
}

void linear_where(const struct engine *e, float *y, size_t y_stride, const struct weight_matrix *w,
                  const struct input *in, const float *gate, uint32_t begin, uint32_t end) {
        if (w->form == WEIGHT_T2_BY_ROW && in->n == 1 && begin < end)
                e->ops->t2_by_row_where(y, w, &in->by_token, gate, begin, end);
        else if (w->form == WEIGHT_T5_BY_ROW && in->n == 1 && begin < end)
                e->ops->t5_by_row_where(y, w, &in->by_token, gate, begin, end);
        else
                linear(e, y, y_stride, w, in, begin, end);
}
