/* One walk over the trie with an unlimited string that counts its characters upwards: `left` starts
 * at a number that no token reaches. */
#include "engine/grammar/string-tokens.h"

#include "engine/grammar/lexeme.h"
#include "engine/grammar/token-trie.h"

enum { COUNT_FROM = 1 << 16 };

void string_tokens_done(struct string_tokens *s) {
        free(s->mask);
        free(s->closing);
        free(s->characters);
        VEC_DONE(&s->exits);
        *s = (struct string_tokens){ 0 };
}

static int take_node(struct string_tokens *s, const struct token_trie *t, uint32_t node,
                     const struct lexeme *l) {
        const struct trie_node *n = &t->nodes[node];
        uint32_t characters = COUNT_FROM - l->left + (l->escape != ESCAPE_NONE);

        for (int32_t token = n->token; token != TOKEN_NONE; token = t->same[token]) {
                uint64_t bit = UINT64_C(1) << (token % 64);

                s->mask[token / 64] |= bit;
                s->characters[token] = (uint8_t)characters;
                if (l->closed)
                        s->closing[token / 64] |= bit;
        }
        if (!l->closed || n->end == node + 1)
                return 0;
        return VEC_PUSH(&s->exits, (struct string_exit){ .node = node, .characters = characters });
}

int string_tokens_init(struct string_tokens *s, const struct token_trie *t) {
        struct lexeme path[TRIE_TOKEN_MAX + 1] = {
                { .kind = LEXEME_STRING, .utf8 = UTF8_NONE, .left = COUNT_FROM },
        };
        struct grammar empty = { .settled = false };
        size_t words = (t->n_vocab + 63) / 64;
        int r;

        grammar_settle_utf8(&empty, t->usable);
        s->mask = calloc(words + 1, sizeof(*s->mask));
        s->closing = calloc(words + 1, sizeof(*s->closing));
        s->characters = calloc((size_t)t->n_vocab + 1, sizeof(*s->characters));
        r = s->mask && s->closing && s->characters ? 0 : -ENOMEM;
        for (uint32_t i = 0; i < t->n_nodes && r >= 0;) {
                const struct trie_node *node = &t->nodes[i];
                struct lexeme *l = &path[node->depth];

                *l = path[node->depth - 1];
                if (!lexeme_step(&empty, l, node->byte)) {
                        i = node->end;
                        continue;
                }
                r = take_node(s, t, i, l);
                i = l->closed ? node->end : i + 1;
        }
        return r;
}
