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
        float *x; /* [rows][widest]; shared by all threads, only where a matrix multiplies floats */
        struct quantized by_token, by_group;
};

/* Scratch of one thread. */
struct thread_state {
        struct input_buffer input; /* one row: every thread prepares a single row for itself */
        float *scratch;            /* [ATTENTION_SCRATCH] */
        float *known;              /* [task_queries][attention_partial] of a whole task */
        float *fresh;              /* [ATTENTION_QUERIES][attention_partial] */
};

/* Scratch of a step, shared by all threads; R = ENGINE_MAX_ROWS. Row lengths are rounded up to
 * whole tiles. */
struct run_state {
        float *h;           /* [R][n_embd] the residual stream */
        float *q;           /* [R][n_head * head_dim] */
        float *k, *v;       /* [R][n_head_kv * head_dim] */
        float *heads;       /* [R][n_head * head_dim] attention output */
        float *partials;    /* [split_slots][n_head][attention_partial], split tasks only */
        atomic_uint *arrived; /* [SPLIT_BELOW * threads], all zero between layers */
        float *projected;   /* [R][n_embd] output of o and down; where up is */
        float *gate, *up;   /* [R][n_ff]; gate where q, k, v and heads are */
        float *logits;      /* [R][n_outputs] */
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
        int32_t *ids;     /* [room] its tokens */
        size_t n_pages;
        uint8_t *pages[]; /* [n_pages], and as many places for sequence_catch_up */
};

/* Rows of one sequence that stand together and meet its keys together. */
struct row_group {
        uint32_t row, n;  /* rows [row, row + n) of the step */
        uint32_t keys;    /* that the last of them sees */
};

/* How the attention of a step is cut into tasks (attention.c). */
struct attention_plan {
        uint32_t n_groups, blocks; /* blocks of keys: most of any group */
        uint64_t keys;             /* of all groups, counted once for each row */
        bool split;                /* a task is a few blocks of keys, not all of them */
        struct row_group groups[ENGINE_MAX_ROWS];
};

/* One call of engine_step. */
struct step {
        struct engine *e;
        const struct engine_row *rows;
        uint32_t n;
        uint32_t positions[ENGINE_MAX_ROWS];
        uint32_t logit_rows[ENGINE_MAX_ROWS], n_logits;
        struct attention_plan attention;
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

/* Floats that a row gives: logits, or the state that is pooled. */
static inline uint32_t n_outputs(const struct hparams *hp) {
        return hp->pooling != POOLING_NONE ? hp->n_embd : hp->n_vocab;
}

static inline uint32_t widest_input(const struct hparams *hp) {
        uint32_t heads = hp->n_head * hp->head_dim;
        uint32_t others = hp->n_embd > hp->n_ff ? hp->n_embd : hp->n_ff;

        return heads > others ? heads : others;
}

/* forward.c: the whole pass, run by every thread of the pool. ctx is a struct step. */
void forward(void *ctx, unsigned thread);

/* rotate.c: queries and keys of one layer in place, keys and values into the cache. */
void rotate_and_store(struct step *s, unsigned thread, uint32_t layer);

enum { SPLIT_BELOW = 8 }; /* fewer tasks per thread than this are worth splitting */

/* attention.c: how the rows placed in s are cut up; then, for one layer, from queries and the cache
 * to the heads' outputs. */
uint32_t task_queries(const struct hparams *hp);
uint32_t split_slots(const struct hparams *hp);
void plan_attention(struct step *s);
void attend(struct step *s, unsigned thread, uint32_t layer);
