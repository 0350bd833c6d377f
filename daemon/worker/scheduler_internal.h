/* The inside of the scheduler, shared by its files only. Who may touch what:
 *
 *   const   set before the engine thread can see it, never changed
 *   lock    under scheduler.lock
 *   engine  the engine thread only (a generation: from admission until it has ended) */
#pragma once

#include <pthread.h>
#include <sys/queue.h>

#include "daemon/worker/scheduler.h"
#include "daemon/worker/scheduler_cost.h"
#include "daemon/worker/scheduler_guess.h"
#include "daemon/worker/secure_buf.h"
#include "engine/run/engine.h"
#include "engine/run/pool.h"
#include "policy/turns.h"

enum {
        STEP_USEC = 50000,        /* how long a step may take that somebody waits for */
        LONE_STEP_USEC = 80000,   /* when nobody decodes */
        FIRST_CHUNK = 16,         /* rows of prefill before anything was measured */
        GUESS_BATCH = 8,          /* with more generations decoding none guesses */
        LEAST_CHUNK = 3,          /* a prompt gets on, however long the step takes */
        CHUNK_UNIT = 4,           /* the kernels take rows by four */
        FORGET_MOST = 16,         /* owners at once; of more, everything is forgotten */
        SHARES_MOST = 256,        /* users whose time is counted until somebody asks */
        MAILBOX_BYTES = 64 << 10, /* text and odds for the main thread; then tokens wait, too */
};

enum stage { STAGE_WAITING, STAGE_RUNNING, STAGE_ENDED };

struct lane;

struct generation {
        TAILQ_ENTRY(generation) in_stage; /* lock: scheduler.waiting[] or lane.running */
        TAILQ_ENTRY(generation) in_dirty; /* lock */
        TAILQ_ENTRY(generation) in_all;   /* main thread */
        struct lane *lane;                /* const */
        struct generation_request request; /* const; prompt: engine, background: lock */
        uint32_t prompt_n;                /* const */
        enum stage stage;                 /* lock, as are these: */
        struct turn *turn;
        bool cancel, pause, dirty;
        bool held, told_held;             /* gives way; that was delivered */
        struct secure_buf text, records;  /* the mailbox: what callbacks will be given */
        uint32_t seen_read;
        struct generation_usage usage;
        bool progressed;
        enum finish finish;

        struct sequence *sequence;        /* engine, as are these: */
        struct sampler *sampler;
        uint32_t read, out;               /* prompt tokens read, tokens made */
        uint32_t rows;                    /* in the present step (lock: written there) */
        int32_t token;                    /* the last one made */
        struct secure_buf fresh;          /* odds of tokens that are not taken yet */
        double *sum;                      /* [n_embd] of a model that pools: of what was read */
        struct guess guess;               /* of what follows it */
        struct guess_odds odds;
        struct utf8_stream utf8;
};

TAILQ_HEAD(generation_list, generation);

/* One model and what its steps were seen to cost. */
struct lane {
        const struct model *model;        /* const */
        struct engine *engine;            /* const; used by the engine thread */
        uint32_t max_tokens;              /* const: context and KV budget */
        struct generation_list running;   /* lock, in order of admission */
        struct engine_memory memory;      /* lock: when the engine thread last went to sleep */
        struct step_costs decode;         /* engine: steps whose rows all give a token */
        struct guess_odds odds;           /* engine: of all generations; new ones begin with it */
        struct step_costs mixed;          /* engine: steps with rows of prefill */
        bool passed;                      /* engine: looked at for the present plan */
};

struct scheduler {
        pthread_mutex_t lock;
        pthread_cond_t wake;              /* the engine thread waits here */
        pthread_t thread;
        bool thread_started;
        struct pool *pool;
        struct kernel_ops ops;
        int event_fd;

        struct lane **lanes;              /* lock */
        size_t n_lanes;
        uint32_t max_sequences;           /* lock, as all of these: */
        uint32_t n_running, n_background; /* the second: of the first */
        struct generation_list waiting[_TURN_CLASS_MAX];
        struct turns turns;
        struct generation_list dirty;
        struct scheduler_share shares[SHARES_MOST]; /* of the time since they were asked for */
        size_t n_shares;
        struct scheduler_state state;     /* as published */
        uint64_t until, half;             /* the lease; 0: none */
        bool fresh;                       /* no step was started under this grant yet */
        bool look;                        /* something changed: the engine thread must look */
        enum guessing guessing;
        bool drop;                        /* forget what is kept for reuse, */
        uint64_t forget[FORGET_MOST];     /* or what is kept for these owners */
        unsigned n_forget;
        bool quit;
        struct generation *members[SCHEDULER_MAX_SEQUENCES]; /* of the step that runs, */
        uint32_t n_members;               /* in the order of its rows; 0: no step runs */
        volatile int interrupt;           /* read inside the step */

        struct generation_list all;       /* main thread, as this: */
        enum kv_form kv_form;

        struct engine_row rows[ENGINE_MAX_ROWS]; /* engine, as this: */
        const float *logits[ENGINE_MAX_ROWS];
};

/* A step to be run. */
struct plan {
        struct lane *lane;
        enum turn_class class;            /* whose step it is */
        bool contended;                   /* the other class could use it, too */
        uint32_t decode_rows, guess_rows, prefill_rows;
        double expected_usec;
};

uint64_t scheduler_now(void); /* CLOCK_MONOTONIC, microseconds */

/* With the lock held: something in the mailbox. */
void mailbox_mark(struct scheduler *s, struct generation *g);
void scheduler_signal(struct scheduler *s);
static inline size_t odds_bytes(const struct generation_request *r) {
        return (1 + r->n_top) * sizeof(struct token_odds);
}
static inline bool mailbox_full(const struct generation *g) {
        return g->text.n + g->records.n >= MAILBOX_BYTES;
}

/* scheduler_order.c, lock held. Who wants to compute now; tell those that begin or cease to give
 * way. */
void order_look(struct scheduler *s);
/* The class whose step is next, among generations that run. False: nobody could take a step. */
bool order_class(struct scheduler *s, enum turn_class *ret, bool *ret_contended);
/* Who is to be admitted next, if there is room for its sequence; NULL: nobody. */
struct generation *order_waiting(struct scheduler *s);
/* Divide what a step took among its members, by rows, to the microsecond. */
void order_charge(struct scheduler *s, uint64_t usec);

/* scheduler_step.c, lock held: could the generation take part in a step? */
bool generation_runnable(const struct generation *g);
/* Choose the lane and the rows of the next step, which should end within usec_left; must: a small
 * step is chosen even if it will not. False: there is nothing to do, or (*ret_work is true then)
 * nothing that fits. */
bool plan_step(struct scheduler *s, uint64_t usec_left, bool must, struct plan *ret,
               bool *ret_work);
/* Fill rows, members and the `rows` of the generations that take part. Returns the rows. */
size_t plan_rows(struct scheduler *s, const struct plan *plan);
/* Learn from a step that took so long. */
void plan_measured(const struct plan *plan, uint64_t usec);

static inline enum turn_class class_of_generation(const struct generation *g) {
        return g->request.background ? TURN_BACKGROUND : TURN_INTERACTIVE;
}

/* What its sequence takes, or would take. */
static inline uint64_t generation_kv_bytes(const struct generation *g) {
        return engine_kv_bytes(g->lane->engine, (size_t)g->prompt_n + g->request.max_tokens);
}

/* scheduler_embed.c: a prompt that becomes a vector. 0 or -ENOMEM. */
static inline bool makes_vector(const struct generation *g) {
        return g->lane->model->hp.pooling != POOLING_NONE;
}
int embed_begin(struct generation *g);
void embed_end(struct generation *g);
bool embed_wants(const struct generation *g, uint32_t position);
/* The g->rows of a step were read; *states: those not used yet. The vector goes to g->fresh with
 * the last of them. */
void embed_rows(struct generation *g, const float ***states);

/* scheduler_engine.c */
void *engine_thread(void *scheduler);
