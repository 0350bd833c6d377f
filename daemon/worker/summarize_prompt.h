/* What the model is asked for a summary: the text, then the wish, as one user message. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/vocab.h"

enum summary_step {
        SUMMARY_MAP,    /* notes about one piece of the document */
        SUMMARY_REDUCE, /* shorter notes about some of the notes */
        SUMMARY_FINAL,  /* the answer */
};

struct summary_prompt {
        enum summary_step step;
        bool whole;            /* final: the text is the document itself, not notes about it */
        uint32_t type, length; /* enum wire_summary_type, enum wire_summary_length */
        const char *context;   /* what the reader wants to know, or NULL; not owned */
};

/* Sentences, bullets or words that a type and length mean. */
uint32_t summary_count(uint32_t type, uint32_t length);
/* Most tokens an answer of that type and length should need. */
uint32_t summary_tokens(uint32_t type, uint32_t length);

/* Append the whole prompt to out. text: UTF-8 of a user, never control tokens. Returns as
 * chat_encode. */
int summary_prompt_encode(const struct vocab *v, const struct summary_prompt *p, const char *text,
                          size_t n, size_t max, struct tokens *out);
