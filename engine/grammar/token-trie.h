/* The tokens of a vocabulary by their bytes: a trie in depth-first order, so that a walk that asks
 * an automaton at each byte skips whatever cannot follow. Immutable, safe from any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/grammar/string-tokens.h"
#include "engine/text/vocab.h"

enum { TRIE_TOKEN_MAX = 255 }; /* bytes; longer tokens are left out */

struct trie_node {
        uint32_t end;      /* the first node that is not below this one */
        int32_t token;     /* that ends here, or TOKEN_NONE */
        uint32_t parent;   /* void at depth 1 */
        uint16_t depth;    /* bytes up to and with this one */
        uint8_t byte;
};

struct token_trie {
        const struct vocab *vocab;
        struct trie_node *nodes;
        uint32_t n_nodes;
        int32_t *same;     /* [n_vocab] another token of the same bytes, or TOKEN_NONE */
        int32_t *ends;     /* tokens that end a generation */
        uint32_t n_ends, n_vocab;
        uint32_t longest;  /* bytes of the longest token in it */
        bool usable[256];  /* bytes that are a token of their own */
        struct string_tokens strings;
};

/* Tokens that stand for no text are not in it. The vocabulary is borrowed. 0 or -ENOMEM. */
int token_trie_new(struct token_trie **ret, const struct vocab *v);
struct token_trie *token_trie_free(struct token_trie *t);
