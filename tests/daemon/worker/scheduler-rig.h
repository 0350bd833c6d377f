/* What tests of the scheduler share: one model, generations that remember what they were told, and
 * granting until something has happened. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/scheduler_internal.h"

enum { MAX_N = 16, LEASE = 200000, SHORT_LEASE = 2000, PATIENCE_MS = 60000, BEGINNINGS = 12 };

extern struct model *model; /* set by main */
extern const char *const beginnings[BEGINNINGS];

struct result {
        struct generation *g; /* NULL: ended */
        struct secure_buf text;
        enum finish finish;
        uint32_t read, out, cached, prompt_n, ends, order;
        uint64_t owner;
        uint32_t *ended_before; /* counts ends */
        uint32_t cancel_at_out; /* cancel inside the callback at so many tokens; 0: never */
        struct scheduler *s;
        uint64_t client;
        struct scheduler_user user;
        uint32_t held, freed;   /* how often it had to give way, and no more */
        bool constrained, bulk;
};

/* The end of a generation whose userdata is a result. */
void on_end(void *userdata, enum finish finish, const struct generation_usage *usage);
/* Two threads, and the model with room for so many tokens. */
struct scheduler *new_scheduler(uint32_t max_sequences, size_t kv_tokens);
/* Greedy and as long as wanted; what scheduler_submit says. */
int submit(struct scheduler *s, struct result *r, const char *text, uint32_t max_tokens,
           bool background);
/* Wait for the scheduler's descriptor, without granting anything. */
bool wait_event(struct scheduler *s, int ms);
void must_wait_event(struct scheduler *s);
/* However late this thread is, the engine does not get further than its lease. */
void few_steps(struct scheduler *s);
/* Grant and dispatch until the result has ended. */
void finish(struct scheduler *s, const struct result *r);
/* The same, and when this returns the engine has done little beyond it. */
void finish_slowly(struct scheduler *s, const struct result *r);
void done(struct result *r);
