/* Masks. Problem: a vocabulary has a hundred thousand tokens, a step of the model takes a few
 * milliseconds, and inside a string nearly every token may follow.
 *
 * So the walk over the token trie is split where a lexeme ends. What may follow inside the lexeme
 * depends on the lexeme's few numbers only; it is walked once with the lexeme alone and kept (or
 * taken from what the vocabulary knows of strings): the mask, and the exits, nodes of the trie at
 * which the lexeme is whole. Below the exits (few nodes:
 * what stands behind a quotation mark inside one token) the walk goes on with the whole reading,
 * each time anew. Counts that matter only beyond the longest token are cut, so that a long string
 * has one such entry, not one for each length.
 *
 * What is kept does not know which names an object has already. The few nodes at which a name would
 * become one of those, or could become no other, are looked for each time (find_repeats), and what
 * lies below them is taken out.
 *
 * A token may follow when it may after one of the readings. Readings are walked and accepted one by
 * one, with the same bound on how often each may branch, so that a mask never promises what
 * constraint_accept refuses. */
#include "engine/grammar/constraint.h"
#include "engine/grammar/reading.h"

enum { KEPT_MAX = 48 };

/* A node of the trie where the lexeme is whole, or (member names) where it is this name. */
struct exit {
        uint32_t node;
        uint32_t property;
};

struct kept {
        struct lexeme key;
        uint64_t *mask;
        uint64_t used;       /* when, for giving up the one not used for the longest time */
        VEC(struct exit) exits;
};

struct constraint {
        struct grammar *g;
        const struct token_trie *trie;
        uint32_t n_vocab, n_words;
        struct readings now, next, walk;
        struct names names;
        size_t n_text, n_names;          /* of the names, what belongs to the tokens taken */
        VEC(uint32_t) repeats;           /* nodes, of the reading at hand */
        uint64_t *mask, *some;
        uint64_t clock;
        struct kept kept[KEPT_MAX];
        struct lexeme path[TRIE_TOKEN_MAX + 1];
        size_t levels[TRIE_TOKEN_MAX + 2];
};

struct constraint *constraint_free(struct constraint *c) {
        if (!c)
                return NULL;
        grammar_free(c->g);
        readings_done(&c->now);
        readings_done(&c->next);
        readings_done(&c->walk);
        names_done(&c->names);
        VEC_DONE(&c->repeats);
        vec_wipe(c->some, c->n_words * sizeof(*c->some));
        vec_wipe(c->mask, c->n_words * sizeof(*c->mask));
        for (size_t i = 0; i < KEPT_MAX; i++) {
                vec_wipe(c->kept[i].mask, c->n_words * sizeof(*c->mask));
                VEC_DONE(&c->kept[i].exits);
        }
        vec_wipe(c, sizeof(*c));
        return NULL;
}

int constraint_new(struct constraint **ret, struct grammar *g, const struct token_trie *t,
                   uint32_t n_vocab) {
        struct constraint *c;
        int r = grammar_settle(g, t->usable);

        if (r < 0)
                return r;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->trie = t;
        c->n_vocab = MAX(n_vocab, t->n_vocab);
        c->n_words = (c->n_vocab + 63) / 64;
        c->mask = calloc(c->n_words, sizeof(*c->mask));
        c->some = calloc(c->n_words, sizeof(*c->some));
        c->now.names = c->next.names = c->walk.names = &c->names;
        r = c->mask && c->some ? readings_begin(&c->now, g) : -ENOMEM;
        if (r < 0) {
                constraint_free(c);
                return r;
        }
        c->g = g;
        *ret = c;
        return 0;
}

/* --- masks --- */

static void set_tokens(const struct constraint *c, uint64_t *mask, const struct trie_node *node) {
        for (int32_t t = node->token; t != TOKEN_NONE; t = c->trie->same[t])
                mask[t / 64] |= UINT64_C(1) << (t % 64);
}

static void set_all_below(const struct constraint *c, uint64_t *mask, uint32_t from, uint32_t to) {
        for (uint32_t i = from; i < to; i++)
                set_tokens(c, mask, &c->trie->nodes[i]);
}

/* What of a lexeme matters within one token. */
static struct lexeme key_of(const struct constraint *c, const struct lexeme *l) {
        struct lexeme key = *l;

        if (key.kind == LEXEME_OTHER) {
                key.class = 0; /* matters afterwards only */
                if (key.state == GRAMMAR_NONE)
                        key = (struct lexeme){ .kind = LEXEME_STRING, .escape = l->escape,
                                               .utf8 = l->utf8, .closed = l->closed,
                                               .left = GRAMMAR_NONE };
        }
        if (key.kind == LEXEME_STRING) {
                if (key.left > c->trie->longest)
                        key.left = GRAMMAR_NONE;
                key.need = MIN(key.need, c->trie->longest);
        }
        return key;
}

static int add_exit(struct kept *k, uint32_t node, uint32_t property) {
        return VEC_PUSH(&k->exits, (struct exit){ .node = node, .property = property });
}

static int walk_lexeme(struct constraint *c, struct kept *k) {
        const struct token_trie *t = c->trie;

        c->path[0] = k->key;
        for (uint32_t i = 0; i < t->n_nodes;) {
                const struct trie_node *node = &t->nodes[i];
                struct lexeme *l = &c->path[node->depth];

                *l = c->path[node->depth - 1];
                if (!lexeme_step(c->g, l, node->byte)) {
                        i = node->end;
                        continue;
                }
                set_tokens(c, k->mask, node);
                if (node->end > i + 1 && lexeme_whole(c->g, l)) {
                        uint32_t property = l->kind == LEXEME_NAME ? lexeme_property(c->g, l)
                                                                   : GRAMMAR_NONE;
                        int r = add_exit(k, i, property);

                        if (r < 0)
                                return r;
                }
                i = l->closed ? node->end : i + 1;
        }
        return 0;
}

/* A string at the beginning of a character: what the vocabulary knows of it, less what is too long
 * or closes it too early. */
static int limit_string(struct constraint *c, struct kept *k) {
        const struct string_tokens *s = &c->trie->strings;
        uint32_t left = k->key.left, need = k->key.need;

        memcpy(k->mask, s->mask, (c->trie->n_vocab + 63) / 64 * sizeof(*s->mask));
        for (uint32_t t = 0; t < c->trie->n_vocab && (need > 0 || left != GRAMMAR_NONE); t++)
                if (s->characters[t] > left ||
                    (s->characters[t] < need && mask_has(s->closing, (int32_t)t)))
                        k->mask[t / 64] &= ~(UINT64_C(1) << (t % 64));
        for (size_t i = 0; i < s->exits.n; i++) {
                const struct string_exit *e = &s->exits.p[i];
                bool fits = e->characters <= left && e->characters >= need;
                int r = fits ? add_exit(k, e->node, GRAMMAR_NONE) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static void clear_below(const struct constraint *c, uint64_t *mask, uint32_t from, uint32_t to) {
        for (uint32_t i = from; i < to; i++)
                for (int32_t t = c->trie->nodes[i].token; t != TOKEN_NONE; t = c->trie->same[t])
                        mask[t / 64] &= ~(UINT64_C(1) << (t % 64));
}

/* Where a name has become different from all properties', it is any string, and what the
 * vocabulary knows of these stands already; only the few ways along the names are walked. */
static int correct_names(struct constraint *c, struct kept *k) {
        const struct string_tokens *s = &c->trie->strings;
        const struct token_trie *t = c->trie;
        size_t next = 0;
        int r = 0;

        memcpy(k->mask, s->mask, (t->n_vocab + 63) / 64 * sizeof(*s->mask));
        c->path[0] = k->key;
        for (uint32_t i = 0; i < t->n_nodes && r >= 0;) {
                const struct trie_node *node = &t->nodes[i];
                struct lexeme *l = &c->path[node->depth];

                *l = c->path[node->depth - 1];
                if (!lexeme_step(c->g, l, node->byte)) {
                        clear_below(c, k->mask, i, node->end);
                        i = node->end;
                } else if (l->kind == LEXEME_OTHER) {
                        while (next < s->exits.n && s->exits.p[next].node < i)
                                next++;
                        for (; next < s->exits.n && s->exits.p[next].node < node->end; next++)
                                if ((r = add_exit(k, s->exits.p[next].node, GRAMMAR_NONE)) < 0)
                                        return r;
                        i = node->end;
                } else if (l->closed) {
                        set_tokens(c, k->mask, node);
                        clear_below(c, k->mask, i + 1, node->end);
                        r = add_exit(k, i, lexeme_property(c->g, l));
                        i = node->end;
                } else {
                        set_tokens(c, k->mask, node);
                        i++;
                }
        }
        return r;
}

static int fill(struct constraint *c, struct kept *k) {
        const struct lexeme *l = &k->key;
        bool begins = l->utf8 == UTF8_NONE && l->escape == ESCAPE_NONE && !l->closed;

        if (l->kind == LEXEME_STRING && begins)
                return limit_string(c, k);
        if (l->kind == LEXEME_NAME && begins && lexeme_may_be_other(c->g, l))
                return correct_names(c, k);
        return walk_lexeme(c, k);
}

/* The entry of a lexeme, made now if it is not there. */
static int kept_get(struct constraint *c, const struct lexeme *l, struct kept **ret) {
        struct lexeme key = key_of(c, l);
        struct kept *oldest = &c->kept[0];
        int r;

        for (size_t i = 0; i < KEPT_MAX; i++) {
                struct kept *k = &c->kept[i];

                if (k->used && memcmp(&k->key, &key, sizeof(key)) == 0) {
                        k->used = ++c->clock;
                        *ret = k;
                        return 0;
                }
                if (k->used < oldest->used)
                        oldest = k;
        }
        oldest->used = 0;
        if (!oldest->mask)
                oldest->mask = calloc(c->n_words, sizeof(*c->mask));
        if (!oldest->mask)
                return -ENOMEM;
        memset(oldest->mask, 0, c->n_words * sizeof(*c->mask));
        oldest->exits.n = 0;
        oldest->key = key;
        r = fill(c, oldest);
        if (r < 0)
                return r;
        oldest->used = ++c->clock;
        *ret = oldest;
        return 0;
}

/* The readings of one level of the walk, one byte further, as the next level. depth: the bytes
 * after those taken, with this one. */
static int step_level(struct constraint *c, size_t from, size_t to, size_t depth, uint8_t byte) {
        int r = names_put(&c->names, c->n_text + depth - 1, byte);

        for (size_t i = from; i < to && r >= 0; i++) {
                r = reading_step(&c->walk, c->g, &c->walk.list.p[i], byte);

                if (r < 0)
                        return r;
        }
        c->walk.list.n = MIN(c->walk.list.n, to + READINGS_MAX);
        return 0;
}

static bool is_text(const struct reading *r, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (r[i].phase == PHASE_TEXT)
                        return true;
        return false;
}

/* What may follow the reading in c->walk.list.p[0], along the nodes from..to of the trie, which lie
 * below `depth` bytes. */
static int walk_readings(struct constraint *c, uint32_t from, uint32_t to, uint32_t depth) {
        size_t *levels = c->levels; /* [i]: where the readings after i bytes begin */

        levels[0] = 0;
        levels[1] = c->walk.list.n;
        for (uint32_t i = from; i < to;) {
                const struct trie_node *node = &c->trie->nodes[i];
                uint32_t level = node->depth - depth;
                int r;

                c->walk.list.n = levels[level];
                r = step_level(c, levels[level - 1], levels[level], node->depth, node->byte);
                if (r < 0)
                        return r;
                levels[level + 1] = c->walk.list.n;
                if (levels[level + 1] == levels[level]) {
                        i = node->end;
                } else if (is_text(&c->walk.list.p[levels[level]],
                                   levels[level + 1] - levels[level])) {
                        set_all_below(c, c->mask, i, node->end);
                        i = node->end;
                } else {
                        set_tokens(c, c->mask, node);
                        i++;
                }
        }
        return 0;
}

static int begin_walk(struct constraint *c, const struct reading *r) {
        c->walk.list.n = 0;
        return readings_add(&c->walk, r);
}

/* The bytes of the node, behind those taken. */
static int put_path(struct constraint *c, uint32_t node) {
        const struct trie_node *n = &c->trie->nodes[node];
        size_t end = c->n_text + n->depth;
        int r = names_put(&c->names, end - 1, n->byte);

        for (; n->depth > 1 && r >= 0; n = &c->trie->nodes[n->parent])
                c->names.text.p[c->n_text + n->depth - 2] = c->trie->nodes[n->parent].byte;
        return r;
}

/* What stands behind the end of a lexeme within one token. */
static int walk_exit(struct constraint *c, const struct reading *from, const struct exit *exit) {
        const struct trie_node *node = &c->trie->nodes[exit->node];
        struct reading *r;
        int error = begin_walk(c, from);

        if (error < 0)
                return error;
        r = &c->walk.list.p[0];
        error = put_path(c, exit->node);
        if (error >= 0)
                error = r->phase == PHASE_NAME
                                ? reading_leave_name(c->g, &c->names, r, exit->property)
                                : reading_leave(c->g, &c->names, r);
        return error < 0 ? error : walk_readings(c, exit->node + 1, node->end, node->depth);
}

/* The names that the object has and that begin as the text does, on every level of a walk, and the
 * bytes with which they go on. */
struct like {
        VEC(struct used_name) names;
        size_t levels[TRIE_TOKEN_MAX + 2];      /* where those of a depth begin */
        bool next[TRIE_TOKEN_MAX + 1][256];
};

static void like_done(struct like *k) {
        VEC_DONE(&k->names);
}

static int like_begin(struct like *k, const struct names *s, uint32_t last, uint32_t first) {
        const struct used_name *one;
        int r = 0;

        while (r >= 0 && (one = names_next(s, &last, first)))
                r = VEC_PUSH(&k->names, *one);
        k->levels[1] = k->names.n;
        return r;
}

static void like_bytes(struct like *k, const struct names *s, uint32_t depth, size_t n) {
        memset(k->next[depth], 0, sizeof(k->next[depth]));
        for (size_t i = k->levels[depth]; i < k->levels[depth + 1]; i++)
                if (k->names.p[i].n > n)
                        k->next[depth][s->text.p[k->names.p[i].first + n]] = true;
}

/* n: bytes of the name, the last one is that of the depth. */
static int like_step(struct like *k, const struct names *s, uint32_t depth, size_t n,
                     uint8_t byte) {
        int r = 0;

        k->names.n = k->levels[depth];
        for (size_t i = k->levels[depth - 1]; i < k->levels[depth] && r >= 0; i++) {
                struct used_name one = k->names.p[i];

                if (one.n >= n && s->text.p[one.first + n - 1] == byte)
                        r = VEC_PUSH(&k->names, one);
        }
        k->levels[depth + 1] = k->names.n;
        return r;
}

/* Only along the names that the object has. */
static int walk_repeats(struct constraint *c, const struct reading *r, struct like *k) {
        const struct token_trie *t = c->trie;
        uint32_t used = r->frames[r->depth - 1].used;
        size_t n = c->n_text - r->name;
        int error = like_begin(k, &c->names, used, r->name);

        c->path[0] = r->lexeme;
        like_bytes(k, &c->names, 0, n);
        for (uint32_t i = 0; i < t->n_nodes && error >= 0;) {
                const struct trie_node *node = &t->nodes[i];
                struct lexeme *l = &c->path[node->depth];

                *l = c->path[node->depth - 1];
                if (!k->next[node->depth - 1][node->byte] || !lexeme_step(c->g, l, node->byte)) {
                        i = node->end;
                        continue;
                }
                error = names_put(&c->names, c->n_text + node->depth - 1, node->byte);
                if (error >= 0 && !names_avoidable(&c->names, c->g, used, r->name, l)) {
                        error = VEC_PUSH(&c->repeats, i);
                        i = node->end;
                } else if (error >= 0) {
                        error = like_step(k, &c->names, node->depth, n + node->depth, node->byte);
                        like_bytes(k, &c->names, node->depth, n + node->depth);
                        i++;
                }
        }
        return error;
}

static int find_repeats(struct constraint *c, const struct reading *r) {
        _cleanup_(like_done) struct like k = { .levels = { 0 } };

        if (r->lexeme.closed ||
            !names_begin(&c->names, r->frames[r->depth - 1].used, r->name))
                return 0;
        return walk_repeats(c, r, &k);
}

/* All that is kept for the lexeme, less the repeats. */
static void add_kept(struct constraint *c, const struct kept *k) {
        const uint64_t *mask = k->mask;

        if (c->repeats.n > 0) {
                memcpy(c->some, k->mask, c->n_words * sizeof(*c->some));
                mask = c->some;
        }
        for (size_t i = 0; i < c->repeats.n; i++)
                clear_below(c, c->some, c->repeats.p[i], c->trie->nodes[c->repeats.p[i]].end);
        for (size_t i = 0; i < c->n_words; i++)
                c->mask[i] |= mask[i];
}

static bool is_repeat(const struct constraint *c, uint32_t node) {
        for (size_t i = 0; i < c->repeats.n; i++)
                if (node >= c->repeats.p[i] && node < c->trie->nodes[c->repeats.p[i]].end)
                        return true;
        return false;
}

static int add_reading(struct constraint *c, const struct reading *r) {
        bool inside = r->phase == PHASE_INSIDE || r->phase == PHASE_NAME;
        struct kept *k;
        int error;

        if (!inside) {
                error = begin_walk(c, r);
                return error < 0 ? error : walk_readings(c, 0, c->trie->n_nodes, 0);
        }
        c->repeats.n = 0;
        error = kept_get(c, &r->lexeme, &k);
        if (error >= 0 && r->phase == PHASE_NAME)
                error = find_repeats(c, r);
        if (error >= 0)
                add_kept(c, k);
        for (size_t i = 0; error >= 0 && i < k->exits.n; i++)
                if (!is_repeat(c, k->exits.p[i].node))
                        error = walk_exit(c, r, &k->exits.p[i]);
        if (error >= 0 && lexeme_whole(c->g, &r->lexeme)) {
                error = begin_walk(c, r);
                if (error < 0)
                        return error;
                error = reading_leave(c->g, &c->names, &c->walk.list.p[0]);
                if (error >= 0)
                        error = walk_readings(c, 0, c->trie->n_nodes, 0);
        }
        return error;
}

/* What stands behind the tokens taken. */
static void forget(struct constraint *c) {
        c->names.text.n = c->n_text;
        c->names.list.n = c->n_names;
}

int constraint_mask(struct constraint *c, const uint64_t **ret) {
        memset(c->mask, 0, c->n_words * sizeof(*c->mask));
        *ret = NULL;
        if (is_text(c->now.list.p, c->now.list.n))
                return 0;
        for (size_t i = 0; i < c->now.list.n; i++) {
                int r;

                forget(c);
                r = add_reading(c, &c->now.list.p[i]);
                if (r < 0)
                        return r;
        }
        if (constraint_whole(c))
                for (uint32_t i = 0; i < c->trie->n_ends; i++)
                        c->mask[c->trie->ends[i] / 64] |= UINT64_C(1) << (c->trie->ends[i] % 64);
        *ret = c->mask;
        return 0;
}

/* --- taking tokens --- */

/* The readings after the bytes that come from one reading, appended to c->next. */
static int accept_one(struct constraint *c, const struct reading *from, struct view bytes) {
        size_t begin = 0, end = 1;
        int r = begin_walk(c, from);

        for (size_t i = 0; i < bytes.n && r >= 0 && begin < end; i++) {
                r = step_level(c, begin, end, i + 1, bytes.p[i]);
                begin = end;
                end = c->walk.list.n;
        }
        for (size_t i = begin; i < end && r >= 0; i++) {
                bool known = c->next.list.n >= READINGS_MAX;

                for (size_t j = 0; j < c->next.list.n && !known; j++)
                        known = reading_equal(&c->next.list.p[j], &c->walk.list.p[i]);
                if (!known)
                        r = readings_add(&c->next, &c->walk.list.p[i]);
        }
        return r;
}

int constraint_accept(struct constraint *c, int32_t token) {
        struct view bytes = vocab_bytes(c->trie->vocab, token, false);

        for (uint32_t i = 0; i < c->trie->n_ends; i++)
                if (c->trie->ends[i] == token)
                        return constraint_whole(c) ? 0 : -EINVAL;
        return bytes.n > 0 && bytes.n <= TRIE_TOKEN_MAX ? constraint_accept_bytes(c, bytes)
                                                        : -EINVAL;
}

int constraint_allows(struct constraint *c, struct view bytes) {
        c->next.list.n = 0;
        forget(c);
        for (size_t i = 0; i < c->now.list.n; i++) {
                int r = accept_one(c, &c->now.list.p[i], bytes);

                if (r < 0)
                        return r;
        }
        return c->next.list.n > 0;
}

int constraint_accept_bytes(struct constraint *c, struct view bytes) {
        struct readings before = c->now;
        int r = constraint_allows(c, bytes);

        if (r <= 0)
                return r < 0 ? r : -EINVAL;
        c->now = c->next;
        c->next = before;
        c->n_text += bytes.n;
        c->n_names = c->names.list.n;
        return 0;
}

bool constraint_whole(const struct constraint *c) {
        for (size_t i = 0; i < c->now.list.n; i++)
                if (reading_whole(c->g, &c->now.list.p[i]))
                        return true;
        return false;
}

bool constraint_over(const struct constraint *c) {
        for (size_t i = 0; i < c->now.list.n; i++)
                if (reading_extends(c->g, &c->now.list.p[i]))
                        return false;
        return true;
}
