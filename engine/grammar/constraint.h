/* Which tokens may come next, so that an answer becomes one JSON value of a grammar and then ends.
 * One per generation; used by one thread at a time. */
#pragma once

#include "engine/grammar/grammar.h"
#include "engine/grammar/token-trie.h"

struct constraint;

/* Takes the grammar over when it succeeds. The trie is borrowed. n_vocab: logits of the model.
 * -EDOM: the vocabulary cannot spell any value; -ENOMEM. */
int constraint_new(struct constraint **ret, struct grammar *g, const struct token_trie *t,
                   uint32_t n_vocab);
struct constraint *constraint_free(struct constraint *c);

/* The tokens that may follow: bit t % 64 of word t / 64. *ret is NULL when every token may; it is
 * valid until the next call. 0 or -ENOMEM. */
int constraint_mask(struct constraint *c, const uint64_t **ret);
/* Take a token. -EINVAL: it may not follow, nothing has changed; -ENOMEM. */
int constraint_accept(struct constraint *c, int32_t token);
/* The same with any bytes. */
int constraint_accept_bytes(struct constraint *c, struct view bytes);
/* May the bytes follow? 1, 0 or -ENOMEM. */
int constraint_allows(struct constraint *c, struct view bytes);
/* Is the text a whole value? And may nothing follow, so that the answer is over? */
bool constraint_whole(const struct constraint *c);
bool constraint_over(const struct constraint *c);

static inline bool mask_has(const uint64_t *mask, int32_t token) {
        return mask[token / 64] >> (token % 64) & 1;
}
