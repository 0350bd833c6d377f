/* What a request wants of its text beyond a generation's numbers: rewrite, proofread, extract,
 * classify. Read out of JSON, the same on HTTP and in the input of a bus job. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/messages.h"
#include "daemon/worker/params.h"
#include "daemon/worker/request_error.h"

enum {
        LABELS_MAX = 64,
        LABEL_BYTES_MAX = 256,
        INSTRUCTIONS_BYTES_MAX = 16384,
        SCHEMA_BYTES_MAX = 65536, /* as the prompt says it */
};

struct task_options {
        uint32_t tone, length, format; /* rewrite: enum wire_rewrite_tone, _length, _format */
        char *instructions;            /* what else is wanted, or NULL */
        char *schema;                  /* extract: for the prompt, as names or as JSON */
        struct messages labels;        /* classify: 2 to LABELS_MAX different ones */
};
void task_options_done(struct task_options *o);

/* Is it one of the four verbs? And does its answer come in pieces of text? */
bool task_verb(uint32_t verb);
bool task_rewrites(uint32_t verb);

/* Read the fields that a verb has, into *o and (the grammar of a schema) *p, which holds what
 * params_parse has read. Fields of generation that the verb would not honour are refused. 0,
 * -ENOMEM, or -EBADMSG with *e. */
int task_options_parse(const json_t *root, uint32_t verb, struct task_options *o,
                       struct gen_params *p, struct request_error *e);
