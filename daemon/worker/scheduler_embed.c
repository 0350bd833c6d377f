/* Texts to vectors. Problem: a text is read in chunks whose sizes depend on time and company, and
 * its vector must not. So the states of its tokens are added one by one, in order, in double, and
 * what is read is never taken from others (whose states are gone). Mean and sum have one direction,
 * so the sum is normalised at once. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/scheduler_internal.h"

static uint32_t width(const struct generation *g) {
        return g->lane->model->hp.n_embd;
}

int embed_begin(struct generation *g) {
        g->sum = calloc(width(g), sizeof(*g->sum));
        return g->sum ? 0 : -ENOMEM;
}

void embed_end(struct generation *g) {
        if (g->sum)
                explicit_bzero(g->sum, width(g) * sizeof(*g->sum));
        free(g->sum);
        g->sum = NULL;
}

bool embed_wants(const struct generation *g, uint32_t position) {
        switch (g->lane->model->hp.pooling) {
        case POOLING_NONE:
                return false;
        case POOLING_MEAN:
                return true;
        case POOLING_CLS:
                return position == 0;
        case POOLING_LAST:
                return position + 1 == g->prompt_n;
        }
        return false;
}

static void finish(struct generation *g) {
        uint32_t n = width(g);
        float *to = (float *)(void *)secure_buf_reserve(&g->fresh, n * sizeof(float));
        double squares = 0, length;

        if (!to)
                return;
        for (uint32_t i = 0; i < n; i++)
                squares += g->sum[i] * g->sum[i];
        length = sqrt(squares);
        for (uint32_t i = 0; i < n; i++)
                to[i] = length > 0 ? (float)(g->sum[i] / length) : 0;
        g->fresh.n += n * sizeof(float);
}

void embed_rows(struct generation *g, const float ***states) {
        for (uint32_t row = 0; row < g->rows; row++) {
                const float *state;

                if (!embed_wants(g, g->read + row))
                        continue;
                state = *(*states)++;
                for (uint32_t i = 0; i < width(g); i++)
                        g->sum[i] += (double)state[i];
        }
        g->read += g->rows;
        if (g->read == g->prompt_n)
                finish(g);
}
