/* Matrix times rows: preparing the input the way the weights want it, choosing the kernel. */
#pragma once

#include "engine/model/shape.h"
#include "engine/run/state.h"

/* Rows as a matrix may want them; only the forms asked for are filled. */
struct input {
        const float *x; /* [n][x_stride] */
        size_t x_stride;
        uint32_t n;
        struct activations by_token, by_group;
};

enum {
        INPUT_TOKEN = 1, /* int8, one scale per token */
        INPUT_GROUP = 2, /* int8, one scale per 64 columns */
        INPUT_FLOAT = 4,
};

/* Which form a matrix of this model multiplies. */
unsigned input_form(const struct hparams *hp, const struct weight_matrix *w);

/* n rows src[t * stride + c], c < columns, normalised with weight `norm` (NULL: as they are),
 * in the given forms. All threads call it; when it returns, the input may be multiplied. */
struct input input_prepare(struct step *s, unsigned thread, const float *src, size_t stride,
                           uint32_t n, uint32_t columns, const float *norm, unsigned forms);

/* The tile at which two threads may divide a matrix, nearest below `tile`: what tiles share (slabs,
 * panels) stays whole. */
static inline uint32_t tile_cut(const struct weight_matrix *w, uint32_t tile) {
        if (tile == tiles_of(w->rows))
                return tile;
        return tile - tile % (matrix_tile_rows(w) / TILE_ROWS);
}

/* y[t * y_stride + r] = w * input, rows of the tiles [begin, end), which are cuts. */
void linear(const struct engine *e, float *y, size_t y_stride, const struct weight_matrix *w,
            const struct input *in, uint32_t begin, uint32_t end);

/* The same where only elements with a positive gate matter; what the others become is unspecified.
 * gate is [n][y_stride], like y. */
void linear_where(const struct engine *e, float *y, size_t y_stride, const struct weight_matrix *w,
                  const struct input *in, const float *gate, uint32_t begin, uint32_t end);
