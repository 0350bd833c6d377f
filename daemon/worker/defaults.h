/* What a request gets when it does not say: the one place to tune by measurement. */
#pragma once

#include <stdint.h>

#include "engine/run/sampler.h"

enum {
        DEFAULT_CHAT_TOKENS = 1024,     /* max_tokens of a chat */
        DEFAULT_COMPLETE_TOKENS = 256,  /* of a completion */
};

/* verb: enum wire_verb. Greedy: the small embedded model answers best with the likeliest token,
 * and the same question gets the same answer; a DRY penalty keeps it out of loops. The seed (of use
 * once the request sets a temperature) is the next number of a sequence that started from the
 * kernel's generator. */
struct sampling default_sampling(uint32_t verb, uint64_t *seed_state);
uint32_t default_max_tokens(uint32_t verb);
