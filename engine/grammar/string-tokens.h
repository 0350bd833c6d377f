/* What every token does inside a string without limits: found once for a vocabulary, because nearly
 * all tokens may follow there, and most of an answer is strings. */
#pragma once

#include <stdint.h>

#include "engine/grammar/vec.h"

struct token_trie;

/* A node of the trie at which a string that began before the token has just been closed. */
struct string_exit {
        uint32_t node;
        uint32_t characters;
};

struct string_tokens {
        uint64_t *mask;        /* tokens that stay inside, or close it with their last byte; */
        uint64_t *closing;     /* the latter; bit t % 64 of word t / 64 */
        uint8_t *characters;   /* [n_vocab] that begin within the token, also as an escape */
        VEC(struct string_exit) exits; /* in the order of the trie */
};

/* 0 or -ENOMEM; done is for the caller in any case. */
int string_tokens_init(struct string_tokens *s, const struct token_trie *t);
void string_tokens_done(struct string_tokens *s);
