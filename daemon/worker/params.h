/* Fields of a JSON request that steer generation, and the rule what is honoured, ignored and
 * refused: a field whose silent loss would change the meaning of the answer is refused by name;
 * everything else that is not known is ignored. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/keep.h"
#include "daemon/worker/request_error.h"
#include "daemon/worker/stop.h"
#include "daemon/worker/tools.h"
#include "engine/grammar/grammar.h"
#include "engine/run/sampler.h"

enum { JSON_VALUES_MAX = 65536, LOGPROBS_MAX = 20 };

struct gen_params {
        struct sampling sampling;
        uint32_t max_tokens;     /* 0: default of the verb */
        uint32_t priority;       /* enum wire_priority */
        uint64_t deadline_usec;  /* from now; 0: none */
        struct stop_list stops;
        struct grammar *grammar; /* what the answer must be, or NULL; owned */
        struct tools tools;
        bool receipt;            /* the answer comes with one (receipt.h), */
        struct secure_buf shape; /* for which this is its schema and tools, as JSON; or empty */
        struct keep keep;        /* how long the model stays loaded after it */
        bool stream, include_usage;
        bool logprobs;           /* how likely each token was, and how likely the likeliest: */
        uint32_t top_logprobs;   /* so many, LOGPROBS_MAX at most */
};

/* Parse JSON text. Bounded: at most JSON_VALUES_MAX values. The error names the byte. Returns a
 * new reference, or NULL with *e filled. */
json_t *params_load(const char *text, size_t n, struct request_error *e);

/* Read root into *p, which holds the defaults. 0, -ENOMEM, or -EBADMSG with *e filled. */
int params_parse(const json_t *root, struct gen_params *p, struct request_error *e);
void params_done(struct gen_params *p);
/* 0..1 as the sampler wants it. */
float params_top_p(double v);

/* The model name into name (room for WIRE_NAME_MAX): "" when absent, null or "default". */
int params_model(const json_t *root, char *name, struct request_error *e);
