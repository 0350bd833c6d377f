/* Building the trie: tokens sorted by their bytes come in depth-first order by themselves; each
 * adds the nodes that it does not share with the one before. */
#include "engine/grammar/token-trie.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct token_trie *token_trie_free(struct token_trie *t) {
        if (!t)
                return NULL;
        free(t->nodes);
        free(t->same);
        free(t->ends);
        string_tokens_done(&t->strings);
        free(t);
        return NULL;
}

struct entry {
        struct view bytes;
        int32_t token;
};

static int compare_entries(const void *a, const void *b) {
        const struct entry *x = a, *y = b;
        int r = memcmp(x->bytes.p, y->bytes.p, MIN(x->bytes.n, y->bytes.n));

        if (r == 0)
                r = x->bytes.n < y->bytes.n ? -1 : x->bytes.n > y->bytes.n;
        return r ? r : x->token < y->token ? -1 : 1;
}

static size_t common_prefix(struct view a, struct view b) {
        size_t n = 0;

        while (n < a.n && n < b.n && a.p[n] == b.p[n])
                n++;
        return n;
}

/* path: the nodes from the root to the last token's; all that the new token leaves end here. */
static void add_token(struct token_trie *t, uint32_t *path, size_t left, size_t shared,
                      const struct entry *e) {
        for (size_t i = left; i > shared; i--)
                t->nodes[path[i - 1]].end = t->n_nodes;
        for (size_t i = shared; i < e->bytes.n; i++) {
                path[i] = t->n_nodes;
                t->nodes[t->n_nodes++] = (struct trie_node){ .token = TOKEN_NONE,
                                                             .parent = i ? path[i - 1] : 0,
                                                             .depth = (uint16_t)(i + 1),
                                                             .byte = e->bytes.p[i] };
        }
}

static void build(struct token_trie *t, const struct entry *entries, size_t n) {
        uint32_t path[TRIE_TOKEN_MAX];
        struct view before = { 0 };

        for (size_t i = 0; i < n; i++) {
                const struct entry *e = &entries[i];
                struct trie_node *node;

                add_token(t, path, before.n, common_prefix(before, e->bytes), e);
                before = e->bytes;
                node = &t->nodes[path[e->bytes.n - 1]];
                t->same[e->token] = node->token;
                node->token = e->token;
                t->longest = MAX(t->longest, (uint32_t)e->bytes.n);
                if (e->bytes.n == 1)
                        t->usable[e->bytes.p[0]] = true;
        }
        for (size_t i = before.n; i > 0; i--)
                t->nodes[path[i - 1]].end = t->n_nodes;
}

static int collect(struct token_trie *t, const struct vocab *v, struct entry *entries,
                   size_t *ret_n) {
        size_t n = 0, bytes = 0;

        for (uint32_t i = 0; i < t->n_vocab; i++) {
                struct view text = vocab_bytes(v, (int32_t)i, false);

                t->same[i] = TOKEN_NONE;
                if (vocab_is_end(v, (int32_t)i))
                        t->ends[t->n_ends++] = (int32_t)i;
                else if (text.n > 0 && text.n <= TRIE_TOKEN_MAX)
                        entries[n++] = (struct entry){ .bytes = text, .token = (int32_t)i };
        }
        for (size_t i = 0; i < n; i++)
                bytes += entries[i].bytes.n;
        t->nodes = calloc(MAX(bytes, (size_t)1), sizeof(*t->nodes));
        *ret_n = n;
        return t->nodes ? 0 : -ENOMEM;
}

/* Most bytes are shared. */
static void shrink(struct token_trie *t) {
        struct trie_node *smaller = reallocarray(t->nodes, MAX(t->n_nodes, 1U), sizeof(*t->nodes));

        if (smaller)
                t->nodes = smaller;
}

int token_trie_new(struct token_trie **ret, const struct vocab *v) {
        struct token_trie *t = calloc(1, sizeof(*t));
        uint32_t n_vocab = vocab_size(v);
        struct entry *entries;
        size_t n = 0;
        int r = -ENOMEM;

        if (!t)
                return -ENOMEM;
        t->vocab = v;
        t->n_vocab = n_vocab;
        t->same = calloc(MAX(n_vocab, 1U), sizeof(*t->same));
        t->ends = calloc(MAX(n_vocab, 1U), sizeof(*t->ends));
        entries = calloc(MAX(n_vocab, 1U), sizeof(*entries));
        if (t->same && t->ends && entries)
                r = collect(t, v, entries, &n);
        if (r >= 0) {
                qsort(entries, n, sizeof(*entries), compare_entries);
                build(t, entries, n);
                shrink(t);
                r = string_tokens_init(&t->strings, t);
        }
        free(entries);
        if (r < 0)
                token_trie_free(t);
        else
                *ret = t;
        return r;
}
