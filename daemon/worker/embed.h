/* The texts of one request to vectors: all of them through the scheduler, some at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/scheduler.h"

struct embed;

struct embed_request {
        struct scheduler *scheduler;
        const struct model *model;  /* one that pools */
        struct tokens *inputs;      /* [n], malloc'd; taken over with what is in them */
        size_t n;
        struct scheduler_user user; /* as in struct generation_request, like these: */
        uint64_t client, job;
        bool background;
        void (*progress)(void *userdata, uint64_t tokens_read);
        /* Exactly once, last. error: enum error_code. vectors: [n][n_embd], valid for the call;
         * NULL after an error. */
        void (*end)(void *userdata, int error, const float *vectors);
        void *userdata;
};

/* Takes the request over on success. 0, -ENOMEM, or what scheduler_submit says of the first. */
int embed_start(struct embed **ret, struct embed_request *r);
/* end follows with ERROR_CANCELLED from a later scheduler_dispatch. */
void embed_cancel(struct embed *e);
void embed_set_background(struct embed *e, bool background);
/* A text as a model reads it for its vector: BOS and EOS where the vocabulary wants them. As
 * vocab_encode. */
int embed_encode(const struct vocab *v, const char *text, size_t n, size_t max, struct tokens *out);
void embed_inputs_free(struct tokens *inputs, size_t n);
