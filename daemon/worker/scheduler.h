/* Continuous batching: generations from the main thread, computed by an engine thread, one step at
 * a time while a lease lasts. Each step takes every decoding sequence plus a bounded chunk of
 * prefill, so that a step stays near 50 ms; cancel acts within one step.
 *
 * Order (policy/turns.h, on measured time): a step belongs to a class. While interactive
 * generations can go on, those in the background pause with their keys kept, but for one step in
 * some, so that they get a tenth; such a step takes interactive decoding along. What is read and
 * who is admitted next follows the counters of users, clients and jobs.
 *
 * All functions are called on the main thread; callbacks run on the main thread, inside
 * scheduler_dispatch, never inside scheduler_submit. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"
#include "engine/run/sampler.h"
#include "engine/text/vocab.h"

struct constraint;
struct scheduler;
struct generation;

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_FAILED };

struct generation_usage {
        uint32_t out;                  /* tokens made */
        uint32_t cached;               /* prompt tokens whose keys were there already */
        uint32_t guessed, right;       /* tokens tried beside the next one, and how many fitted */
        uint64_t kept;                 /* bytes of keys and values kept for the owner at the end, if
                                        * it is a lasting one (ENGINE_OWNER_LASTING) */
#define GENERATION_KEPT_UNKNOWN UINT64_MAX /* it never began */
};

/* Whose a generation is where several users share the scheduler. All zero: one user's, who has no
 * limits of his own. */
struct scheduler_user {
        uint64_t id;
        uint32_t weight;               /* beside the others (policy/turns.h) */
        uint32_t max_sequences;        /* of his that run at once; 0: no limit, like these: */
        uint32_t max_tokens;           /* prompt and answer of one generation together */
        uint64_t kv_bytes;             /* keys and values of all his that run */
};

struct generation_request {
        const struct model *model;     /* registered with scheduler_add_model */
        uint64_t owner;                /* reuses what its other generations computed; 0: nobody */
        struct scheduler_user user;    /* whose turn it is; and among those of this user: */
        uint64_t client, job;
        struct tokens prompt;          /* taken over */
        uint32_t max_tokens;           /* prompt.n + max_tokens <= context; 0 for a vector */
        struct sampling sampling;
        struct constraint *constraint; /* what the answer must be; taken over like the prompt, or
                                        * NULL. The answer ends where nothing may follow. */
        struct tokens forced;          /* what the answer is: nothing is chosen, end tokens are like
                                        * others; max_tokens of them. Taken over; usually empty */
        bool odds;                     /* tell how likely tokens were, and how likely others: */
        uint32_t n_top;                /* so many, ODDS_TOP_MAX at most */
        bool ignore_end;               /* benchmarks: do not stop at end tokens */
        bool background;               /* gives way to interactive ones */
        bool bulk;                     /* one of many of its job. Like background ones these leave
                                        * the last free sequence to others */
        /* Called with whole UTF-8 characters; n > 0. */
        void (*text)(void *userdata, const char *text, size_t n);
        /* With `odds`: n records of 1 + n_top each (sampler_odds) for as many tokens, in order, end
         * tokens left out (unless forced); before the text that they end up in. */
        void (*token_odds)(void *userdata, const struct token_odds *records, size_t n);
        /* A model that pools makes no text, but this, once, before the end: the outputs of the
         * prompt's tokens as one vector of n_embd floats and length 1 (0 where it has none). */
        void (*vector)(void *userdata, const float *v);
        /* Prompt tokens read so far changed, or the first token came (NULL: not wanted). */
        void (*progress)(void *userdata, uint32_t tokens_read, uint32_t tokens_out);
        /* It gives way to interactive ones from now on, or does not any more (NULL: not wanted).
         * The last word before the end is no. */
        void (*held)(void *userdata, bool held);
        /* Exactly once, last; the generation is freed after it returns. */
        void (*end)(void *userdata, enum finish finish, const struct generation_usage *usage);
        void *userdata;
};

enum { SCHEDULER_MAX_SEQUENCES = 256 };

/* Makes the engine thread and threads - 1 helpers (before the sandbox closes). cpu_flags: of
 * cpu_flags(). -EINVAL when max_sequences is not 1..SCHEDULER_MAX_SEQUENCES. */
int scheduler_new(struct scheduler **ret, unsigned threads, unsigned cpu_flags,
                  uint32_t max_sequences);
/* Stops the step that runs. Generations that are left are wiped and freed without callbacks. */
struct scheduler *scheduler_free(struct scheduler *s);
/* For the generations admitted from now on; 1..SCHEDULER_MAX_SEQUENCES, else nothing happens. */
void scheduler_set_max_sequences(struct scheduler *s, uint32_t max_sequences);

/* How models added from now on keep keys and values; KV_S16 otherwise. */
void scheduler_set_kv_form(struct scheduler *s, enum kv_form form);
/* Give a model an engine with a KV budget. The model is borrowed. */
int scheduler_add_model(struct scheduler *s, const struct model *model, size_t kv_bytes);
/* Wipe and free the engine of a model; nothing borrows the model then. -EBUSY while a generation
 * has it, -ENOENT when it was not added. */
int scheduler_remove_model(struct scheduler *s, const struct model *model);

/* Bytes of all engines together, as of the last pause (engine.h). */
struct scheduler_memory {
        size_t private_bytes, kv_bytes, kept_bytes;
};
struct scheduler_memory scheduler_memory(struct scheduler *s);

/* Prompt and answer of one generation together: what context, KV budget and the limits of the user
 * (NULL: of nobody) allow. 0: the model has not been added. */
uint32_t scheduler_max_tokens(const struct scheduler *s, const struct model *model,
                              const struct scheduler_user *user);

/* For whom steps were run since the last call: up to n entries. Returns how many; call until it
 * returns less than n. */
struct scheduler_share {
        uint64_t user;
        uint64_t usec;
};
size_t scheduler_shares(struct scheduler *s, struct scheduler_share *ret, size_t n);

/* 0, or -E2BIG (over the context), -ENOMEM (over the whole KV budget, or no memory), -ENOENT
 * (model not added), -EINVAL (empty prompt, no tokens wanted, a token id that is none, too many
 * odds). On success the request's prompt, forced tokens and constraint belong to the scheduler.
 * Waits inside for a sequence and KV pages when all are taken, or all that its user may have:
 * interactive before background, the least served first, generations of one job in order. Of two
 * or more sequences one goes to waiting background work when it is its turn. */
int scheduler_submit(struct scheduler *s, struct generation_request *request,
                     struct generation **ret);
/* Ends with FINISH_CANCELLED soon (unless it ended already: then nothing happens). */
void scheduler_cancel(struct scheduler *s, struct generation *g);
/* Another class, from the next step on; one that still waits goes to the end of it. Without memory
 * for its place there it stays where it is. */
void scheduler_set_background(struct scheduler *s, struct generation *g, bool background);
/* When guesses of repeated text are tried; for comparisons and tests: texts are the same. */
enum guessing { GUESSING_NEVER, GUESSING_WHERE_IT_PAYS, GUESSING_ALWAYS };
void scheduler_set_guessing(struct scheduler *s, enum guessing guessing);
/* Forget what is kept for reuse, soon: what no generation uses is wiped. */
void scheduler_drop_caches(struct scheduler *s);
/* The same for one owner. */
void scheduler_forget(struct scheduler *s, uint64_t owner);
/* A reader that does not read pauses its own generation: no tokens are made while paused. */
void scheduler_pause(struct scheduler *s, struct generation *g, bool pause);

/* Readable when there is something to dispatch. */
int scheduler_fd(const struct scheduler *s);
void scheduler_dispatch(struct scheduler *s);

/* May compute until this time (CLOCK_MONOTONIC, microseconds). A later call moves it; 0 takes the
 * lease back (a running step still ends). The lease also ends by itself, before its time, when
 * nothing is left to do or no further step would fit: until_usec is 0 then. */
void scheduler_grant(struct scheduler *s, uint64_t until_usec);

struct scheduler_state {
        bool has_work;       /* some generation could take a step now */
        bool computing;      /* a step is running, or may start under the present lease */
        bool renew;          /* half of the lease will be used when the present step ends, and there
                              * is work left */
        uint64_t until_usec; /* end of the present lease, 0 = none */
};
/* scheduler_fd becomes readable when this changes, and when half of a lease is used with work
 * left (so that it can be renewed before it ends). */
struct scheduler_state scheduler_state(struct scheduler *s);
