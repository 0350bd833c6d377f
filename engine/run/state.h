/* What a step works on. Private to engine/run. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/run/arena.h"
#include "engine/run/engine.h"
#include "engine/run/kv.h"
#include "engine/run/prefix.h"

/* Room for quantised rows: int8 [rows][64 * groups], scale and sum [rows][groups], inverse [rows]
 * (struct activations), groups being those of the widest input of the model. */
struct quantized {
        int8_t *q;
        float *scale;
        int32_t *sum;
        float *inverse;
};

/* Room for the input of a matrix: normalised rows and both quantised forms of them. */
struct input_buffer {
        float *x; /* [rows][widest] */
        struct quantized by_token, by_group;
};

/* Scratch of one thread. */
struct thread_state {
        struct input_buffer input; /* one row: every thread prepares a single row for itself */
        float *scores;             /* [n_ctx rounded up to whole pages] */
        const uint16_t **k, **v;   /* [pages of n_ctx] */
};

/* Scratch of a step, shared by all threads; R = ENGINE_MAX_ROWS. Row lengths are rounded up to
 * whole tiles. */
struct run_state {
        float *h;           /* [R][n_embd] the residual stream */
        float *q;           /* [R][n_head * head_dim] */
        float *k, *v;       /* [R][n_head_kv * head_dim] */
        float *heads;       /* [R][n_head * head_dim] attention output */
        float *projected;   /* [R][n_embd] output of o and down */
        float *gate, *up;   /* [R][n_ff] */
        float *logits;      /* [R][n_vocab] */
        float *cosines, *sines; /* [R][rope_dim / 2] */
        struct input_buffer input;
};

struct engine {
        const struct model *model;
        const struct kernel_ops *ops;
        struct pool *pool;
        double *frequency; /* [rope_dim / 2] */
        struct arena arena;
        size_t dirty; /* bytes from the start of the arena that steps have written */
        struct run_state run;
        struct thread_state *threads; /* [pool_threads] */
        struct kv_pool kv;
        struct prefixes prefixes;
};

struct sequence {
        struct engine *engine;
        size_t length;    /* positions that are there */
        size_t pending;   /* rows of the step being run */
        size_t written;   /* positions ever written, for wiping */
        size_t room;      /* positions that fit */
        uint64_t owner;   /* who may share its pages; 0: nobody */
        size_t n_shared;  /* pages that others may read: they are not written any more */
        int32_t *ids;     /* [room] its tokens; NULL: nobody shares */
        size_t n_pages;
        uint16_t *pages[]; /* [n_pages] */
};

/* One call of engine_step. */
struct step {
        struct engine *e;
        const struct engine_row *rows;
        uint32_t n;
        uint32_t positions[ENGINE_MAX_ROWS];
        uint32_t logit_rows[ENGINE_MAX_ROWS], n_logits;
        const volatile int *cancel;
        bool stop;              /* written by thread 0 before a barrier, read by all after it */
        atomic_uint next_task;  /* attention tasks handed out */
};

static inline size_t round_up(size_t n, size_t unit) {
        return (n + unit - 1) / unit * unit;
}

/* Floats from one row to the next. */
static inline size_t row_stride(uint32_t columns) {
        return round_up(columns, TILE_ROWS);
}

static inline uint32_t widest_input(const struct hparams *hp) {
        uint32_t heads = hp->n_head * hp->head_dim;
        uint32_t others = hp->n_embd > hp->n_ff ? hp->n_embd : hp->n_ff;

        return heads > others ? heads : others;
}

/* forward.c: the whole pass, run by every thread of the pool. ctx is a struct step. */
void forward(void *ctx, unsigned thread);

/* attention.c: from normed queries, keys and values to the heads' outputs, one layer. */
void rotate_and_store(struct step *s, unsigned thread, uint32_t layer);
void attend(struct step *s, unsigned thread, uint32_t layer);
