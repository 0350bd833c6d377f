/* What a request gets when it does not say: the one place to tune by measurement. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/run/sampler.h"

enum {
        DEFAULT_CHAT_TOKENS = 1024,     /* max_tokens of a chat */
        DEFAULT_COMPLETE_TOKENS = 256,  /* of a completion */
        LOOP_CYCLE_MIN = 96,            /* bytes */
        LOOP_CYCLE_MAX = 1024,
        LOOP_REPEATS = 3,
        LOOP_WINDOW = LOOP_CYCLE_MAX * LOOP_REPEATS,
};

/* verb: enum wire_verb. Greedy: the small embedded model answers best with the likeliest token,
 * and the same question gets the same answer. The seed (of use once the request sets a
 * temperature) is the next number of a sequence that started from the kernel's generator. */
struct sampling default_sampling(uint32_t verb, uint64_t *seed_state);
uint32_t default_max_tokens(uint32_t verb);

/* The rule against endless repetition: true when text[0..n) ends with LOOP_REPEATS identical
 * blocks of LOOP_CYCLE_MIN..LOOP_CYCLE_MAX bytes, one after the other (a shorter cycle shows as a
 * multiple of itself). Such a generation is ended with finish_reason "length". */
bool loop_guard(const char *text, size_t n);
