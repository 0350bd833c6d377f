/* How likely the tokens of an answer were (sampler_odds says in which sense), from the scheduler's
 * records to JSON. Records come before the text that they belong to and may wait for it (a
 * character or a stop string that is not whole yet); those whose text is never shown are not shown
 * either. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/secure_buf.h"
#include "engine/run/sampler.h"
#include "engine/text/vocab.h"

struct logprobs {
        bool wanted;
        uint32_t n_top;
        const struct vocab *vocab; /* from the first record on */
        struct secure_buf records; /* of tokens not told yet, 1 + n_top for each */
        uint64_t text;             /* bytes of the answer given out so far, */
        uint64_t tokens;           /* and of the tokens told so far */
        uint64_t characters;       /* of those, for text_offset */
};
void logprobs_done(struct logprobs *l);

void logprobs_add(struct logprobs *l, const struct token_odds *records, size_t n);

/* Tell those that begin in text which was given out, or with `rest` all that are left. In the
 * shape of chats: an array of {token, logprob, bytes, top_logprobs}; NULL (no reference) when
 * nothing is wanted, or there is nothing to tell. */
json_t *logprobs_content(struct logprobs *l, bool rest);
/* In the shape of completions: {tokens, token_logprobs, top_logprobs, text_offset}, the offset in
 * characters of the answer. NULL as above. */
json_t *logprobs_lists(struct logprobs *l, bool rest);
