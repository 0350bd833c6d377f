/* Automata over bytes: the subset construction, products, and which states lead anywhere.
 *
 * Problem: expressions and enumerations come from users, and a short expression can need a million
 * states. So states are counted while they are made, and every edge that is looked at costs one
 * unit of a budget that all automata of one grammar share; beyond it -E2BIG ends the attempt.
 *
 * Edges of a state are ranges of bytes, sorted, so that a step is a short search; a table of 256
 * would be faster and forty times as large. */
#include "engine/grammar/automaton.h"

uint32_t nfa_state(struct nfa *n) {
        if (n->n_states == NFA_STATES_MAX && n->error == 0)
                n->error = -E2BIG;
        return n->error < 0 ? 0 : n->n_states++;
}

static void add_edge(struct nfa *n, struct nfa_edge e) {
        if (n->edges.n == NFA_EDGES_MAX && n->error == 0)
                n->error = -E2BIG;
        if (n->error == 0)
                n->error = VEC_PUSH(&n->edges, e);
}

void nfa_edge(struct nfa *n, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to) {
        add_edge(n, (struct nfa_edge){ .from = from, .to = to, .lo = lo, .hi = hi });
}

void nfa_empty(struct nfa *n, uint32_t from, uint32_t to) {
        add_edge(n, (struct nfa_edge){ .from = from, .to = to, .empty = true });
}

void nfa_text(struct nfa *n, uint32_t from, struct view text, uint32_t to) {
        for (size_t i = 0; i < text.n; i++) {
                uint32_t next = nfa_state(n);

                nfa_edge(n, from, text.p[i], text.p[i], next);
                from = next;
        }
        nfa_empty(n, from, to);
}

uint32_t nfa_copy(struct nfa *n, uint32_t from, uint32_t to, size_t first_edge,
                  size_t last_edge) {
        uint32_t shift = n->n_states - from;

        for (uint32_t i = from; i < to; i++)
                nfa_state(n);
        for (size_t i = first_edge; i < last_edge && n->error == 0; i++) {
                struct nfa_edge e = n->edges.p[i];

                e.from += shift;
                e.to += shift;
                add_edge(n, e);
        }
        return shift;
}

void nfa_done(struct nfa *n) {
        VEC_DONE(&n->edges);
        *n = (struct nfa){};
}

/* --- characters --- */

static unsigned utf8_size(uint32_t cp) {
        return cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
}

static uint8_t utf8_byte(uint32_t cp, unsigned size, unsigned i) {
        static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
        uint32_t bits = cp >> (6 * (size - 1 - i));

        return i == 0 ? (uint8_t)(lead[size] | bits) : (uint8_t)(0x80 | (bits & 0x3f));
}

/* A range whose ends differ only in the bits of whole trailing bytes is one chain of byte ranges;
 * any other range is cut in two until its parts are such. */
static void add_range(struct nfa *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to) {
        unsigned size = utf8_size(hi);

        for (unsigned i = 1; i < size; i++) {
                uint32_t mask = (1U << (6 * i)) - 1;

                if ((lo & ~mask) == (hi & ~mask))
                        continue;
                if (lo & mask) {
                        add_range(n, from, lo, lo | mask, to);
                        add_range(n, from, (lo | mask) + 1, hi, to);
                        return;
                }
                if ((hi & mask) != mask) {
                        add_range(n, from, lo, (hi & ~mask) - 1, to);
                        add_range(n, from, hi & ~mask, hi, to);
                        return;
                }
        }
        for (unsigned i = 0; i < size; i++) {
                uint32_t next = i + 1 == size ? to : nfa_state(n);

                nfa_edge(n, from, utf8_byte(lo, size, i), utf8_byte(hi, size, i), next);
                from = next;
        }
}

void nfa_characters(struct nfa *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to) {
        static const uint32_t parts[][2] = {
                { 0, 0x7f }, { 0x80, 0x7ff }, { 0x800, 0xd7ff }, { 0xe000, 0xffff },
                { 0x10000, 0x10ffff },
        };

        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (MAX(lo, parts[i][0]) <= MIN(hi, parts[i][1]))
                        add_range(n, from, MAX(lo, parts[i][0]), MIN(hi, parts[i][1]), to);
}

/* --- subset construction --- */

struct subset {
        uint32_t first, n;
};

/* The sets of states that were met; each is a state of the new automaton. Sets lie one after the
 * other in `members`, in ascending order, and are found by a hash of them. */
struct subsets {
        VEC(uint32_t) members;
        VEC(struct subset) list;
        uint32_t *slots;      /* number of the set + 1; 0: free */
        size_t n_slots;       /* a power of two */
};

static void subsets_done(struct subsets *s) {
        VEC_DONE(&s->members);
        VEC_DONE(&s->list);
        vec_wipe(s->slots, s->n_slots * sizeof(*s->slots));
}

static size_t hash_of(const uint32_t *p, uint32_t n) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (uint32_t i = 0; i < n; i++)
                h = (h ^ p[i]) * UINT64_C(0x100000001b3);
        return (size_t)(h ^ h >> 29);
}

static int grow_slots(struct subsets *s) {
        size_t n = s->n_slots ? s->n_slots * 2 : 256;
        uint32_t *slots = calloc(n, sizeof(*slots));

        if (!slots)
                return -ENOMEM;
        for (uint32_t i = 0; i < s->list.n; i++) {
                struct subset *x = &s->list.p[i];
                size_t at = hash_of(s->members.p + x->first, x->n) & (n - 1);

                while (slots[at])
                        at = (at + 1) & (n - 1);
                slots[at] = i + 1;
        }
        vec_wipe(s->slots, s->n_slots * sizeof(*s->slots));
        s->slots = slots;
        s->n_slots = n;
        return 0;
}

/* The number of the set that stands at the end of `members` from `first` on; a set that is known
 * already is taken off again. */
static int subsets_find(struct subsets *s, uint32_t first, uint32_t *ret) {
        uint32_t n = (uint32_t)s->members.n - first;
        size_t at;
        int r;

        if (s->list.n * 2 >= s->n_slots && (r = grow_slots(s)) < 0)
                return r;
        at = hash_of(s->members.p + first, n) & (s->n_slots - 1);
        for (; s->slots[at]; at = (at + 1) & (s->n_slots - 1)) {
                struct subset *x = &s->list.p[s->slots[at] - 1];

                if (x->n != n || memcmp(s->members.p + x->first, s->members.p + first,
                                        n * sizeof(uint32_t)) != 0)
                        continue;
                s->members.n = first;
                *ret = s->slots[at] - 1;
                return 0;
        }
        *ret = (uint32_t)s->list.n;
        s->slots[at] = *ret + 1;
        return VEC_PUSH(&s->list, (struct subset){ .first = first, .n = n });
}

struct builder {
        struct dfa *d;
        const struct nfa *n;
        struct nfa_edge *edges; /* sorted by where they start */
        uint32_t *first;        /* [n_states + 1] */
        bool *in;               /* [n_states] in the set that is being made, */
        uint32_t *set;          /* [n_states] and the same as a list */
        uint32_t n_set;
        struct subsets sets;
        uint32_t base;          /* state of the first set in the pool */
        uint32_t end;
        VEC(struct nfa_edge) out; /* all byte edges of the set at hand */
};

static void builder_done(struct builder *b) {
        vec_wipe(b->edges, b->n->edges.n * sizeof(*b->edges));
        free(b->first);
        free(b->in);
        free(b->set);
        subsets_done(&b->sets);
        VEC_DONE(&b->out);
}

static int builder_init(struct builder *b) {
        const struct nfa *n = b->n;
        uint32_t *at;

        b->edges = calloc(MAX(n->edges.n, (size_t)1), sizeof(*b->edges));
        b->first = calloc((size_t)n->n_states + 1, sizeof(*b->first));
        b->in = calloc(n->n_states, sizeof(*b->in));
        b->set = calloc(n->n_states, sizeof(*b->set));
        at = calloc((size_t)n->n_states + 1, sizeof(*at));
        if (!b->edges || !b->first || !b->in || !b->set || !at) {
                free(at);
                return -ENOMEM;
        }
        for (size_t i = 0; i < n->edges.n; i++)
                b->first[n->edges.p[i].from + 1]++;
        for (uint32_t i = 0; i < n->n_states; i++)
                at[i] = b->first[i] += i ? b->first[i - 1] : 0;
        b->first[n->n_states] += n->n_states ? b->first[n->n_states - 1] : 0;
        for (size_t i = 0; i < n->edges.n; i++)
                b->edges[at[n->edges.p[i].from]++] = n->edges.p[i];
        free(at);
        return 0;
}

static void put_one(struct builder *b, uint32_t state) {
        if (b->in[state])
                return;
        b->in[state] = true;
        b->set[b->n_set++] = state;
}

/* Put the state and what can be reached from it without a byte into the set. */
static void put(struct builder *b, uint32_t state) {
        uint32_t done = b->n_set;

        put_one(b, state);
        for (; done < b->n_set; done++) {
                state = b->set[done];
                for (uint32_t i = b->first[state]; i < b->first[state + 1]; i++)
                        if (b->edges[i].empty)
                                put_one(b, b->edges[i].to);
                b->d->work += 1 + b->first[state + 1] - b->first[state];
        }
}

static int compare_states(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

/* Give the set that was put together a number. */
static int close_set(struct builder *b, uint32_t *ret) {
        uint32_t first = (uint32_t)b->sets.members.n;
        int r = 0;

        qsort(b->set, b->n_set, sizeof(*b->set), compare_states);
        for (uint32_t i = 0; i < b->n_set && r >= 0; i++) {
                b->in[b->set[i]] = false;
                r = VEC_PUSH(&b->sets.members, b->set[i]);
        }
        b->n_set = 0;
        return r < 0 ? r : subsets_find(&b->sets, first, ret);
}

/* One range of bytes that no edge divides. */
static int add_step(struct builder *b, uint8_t lo, uint8_t hi, struct dfa_state *state) {
        uint32_t to;
        int r;

        for (size_t i = 0; i < b->out.n; i++)
                if (b->out.p[i].lo <= lo && b->out.p[i].hi >= hi)
                        put(b, b->out.p[i].to);
        b->d->work += b->out.n;
        r = close_set(b, &to);
        if (r < 0)
                return r;
        to += b->base;
        if (state->n > 0) {
                struct dfa_edge *last = &b->d->edges.p[b->d->edges.n - 1];

                if (last->to == to && last->hi + 1 == lo) {
                        last->hi = hi;
                        return 0;
                }
        }
        state->n++;
        return VEC_PUSH(&b->d->edges, (struct dfa_edge){ .lo = lo, .hi = hi, .to = to });
}

static int gather_edges(struct builder *b, const struct subset *set, bool begins[257],
                        bool *ret_accept) {
        b->out.n = 0;
        *ret_accept = false;
        for (uint32_t i = 0; i < set->n; i++) {
                uint32_t state = b->sets.members.p[set->first + i];

                *ret_accept |= state == b->end;
                for (uint32_t j = b->first[state]; j < b->first[state + 1]; j++) {
                        const struct nfa_edge *e = &b->edges[j];
                        int r = e->empty ? 0 : VEC_PUSH(&b->out, *e);

                        if (r < 0)
                                return r;
                        if (!e->empty)
                                begins[e->lo] = begins[e->hi + 1] = true;
                }
        }
        return 0;
}

static bool any_edge(const struct builder *b, unsigned byte) {
        for (size_t i = 0; i < b->out.n; i++)
                if (b->out.p[i].lo <= byte && b->out.p[i].hi >= byte)
                        return true;
        return false;
}

/* All edges of one set. */
static int expand(struct builder *b, uint32_t number) {
        struct subset set = b->sets.list.p[number];
        struct dfa_state state = { .first = (uint32_t)b->d->edges.n };
        bool begins[257] = { false };
        int r = gather_edges(b, &set, begins, &state.accept);

        for (unsigned lo = 0, hi; r >= 0 && b->out.n > 0 && lo < 256; lo = hi) {
                for (hi = lo + 1; hi < 256 && !begins[hi]; hi++)
                        ;
                if (any_edge(b, lo))
                        r = add_step(b, (uint8_t)lo, (uint8_t)(hi - 1), &state);
        }
        return r < 0 ? r : VEC_PUSH(&b->d->states, state);
}

static int determinize(struct builder *b, uint32_t start) {
        uint32_t number;
        int r = builder_init(b);

        if (r < 0)
                return r;
        put(b, start);
        r = close_set(b, &number);
        for (uint32_t i = 0; r >= 0 && i < b->sets.list.n; i++) {
                r = expand(b, i);
                if (b->d->work > DFA_WORK_MAX || b->d->states.n > DFA_STATES_MAX)
                        r = -E2BIG;
        }
        return r;
}

int dfa_add(struct dfa *d, const struct nfa *n, uint32_t start, uint32_t end, uint32_t *ret) {
        static const bool all[256] = { [0 ... 255] = true };
        struct builder b = { .d = d, .n = n, .base = (uint32_t)d->states.n, .end = end };
        int r = n->error;

        if (r >= 0)
                r = determinize(&b, start);
        builder_done(&b);
        if (r < 0)
                return r;
        *ret = b.base;
        return dfa_revive(d, b.base, (uint32_t)d->states.n, all);
}

/* --- what is known of a finished one --- */

static uint32_t count_usable(const struct dfa_edge *e, const bool usable[256]) {
        uint32_t n = 0;

        for (unsigned b = e->lo; b <= e->hi; b++)
                n += usable[b];
        return n;
}

/* For every state, the edges that lead to it. */
struct reverse {
        uint32_t *first;  /* [n + 1] */
        uint32_t *from;   /* the state that the edge leaves */
        uint16_t *ways;   /* usable bytes of the edge */
        uint32_t *queue;  /* [n] */
        uint32_t *left;   /* [n] edges to live states that are not counted yet */
};

static void reverse_done(struct reverse *r) {
        free(r->first);
        free(r->from);
        free(r->ways);
        free(r->queue);
        free(r->left);
}

static int reverse_init(struct reverse *r, const struct dfa *d, uint32_t first, uint32_t n,
                        const bool usable[256]) {
        uint32_t edges = 0, *at;

        for (uint32_t i = 0; i < n; i++)
                edges += d->states.p[first + i].n;
        r->first = calloc((size_t)n + 2, sizeof(*r->first));
        r->from = calloc((size_t)edges + 1, sizeof(*r->from));
        r->ways = calloc((size_t)edges + 1, sizeof(*r->ways));
        r->queue = calloc((size_t)n + 1, sizeof(*r->queue));
        r->left = calloc((size_t)n + 1, sizeof(*r->left));
        if (!r->first || !r->from || !r->ways || !r->queue || !r->left)
                return -ENOMEM;
        at = r->first + 1; /* shifted by one: filling moves every beginning to its place */
        for (uint32_t i = 0; i < n; i++)
                for (uint32_t j = 0; j < d->states.p[first + i].n; j++)
                        at[d->edges.p[d->states.p[first + i].first + j].to - first + 1]++;
        for (uint32_t i = 0; i < n; i++)
                at[i + 1] += at[i];
        for (uint32_t i = 0; i < n; i++)
                for (uint32_t j = 0; j < d->states.p[first + i].n; j++) {
                        const struct dfa_edge *e = &d->edges.p[d->states.p[first + i].first + j];
                        uint32_t place = at[e->to - first]++;

                        r->from[place] = i;
                        r->ways[place] = (uint16_t)count_usable(e, usable);
                }
        return 0;
}

/* The state has been counted: those that lead to it, and to no other that is left, are next. */
static uint32_t count_before(struct dfa *d, struct reverse *back, uint32_t first, uint32_t to,
                             uint32_t n_queue) {
        uint64_t texts = d->states.p[first + to].texts;

        for (uint32_t j = back->first[to]; j < back->first[to + 1]; j++) {
                uint32_t from = back->from[j];
                struct dfa_state *s = &d->states.p[first + from];

                if (back->ways[j] == 0)
                        continue;
                s->texts = (uint32_t)MIN(s->texts + back->ways[j] * texts, DFA_ENDLESS);
                if (--back->left[from] == 0)
                        back->queue[n_queue++] = from;
        }
        return n_queue;
}

/* How many texts lead from each state to acceptance: known when it is for all live states after it.
 * It never is in a circle and before one, where there is no end of them. */
static void count_texts(struct dfa *d, struct reverse *back, uint32_t first, uint32_t n) {
        uint32_t n_queue = 0;

        for (uint32_t to = 0; to < n; to++) {
                d->states.p[first + to].texts = d->states.p[first + to].accept;
                for (uint32_t j = back->first[to]; j < back->first[to + 1]; j++)
                        back->left[back->from[j]] += d->states.p[first + to].live &&
                                                     back->ways[j] > 0;
        }
        for (uint32_t i = 0; i < n; i++)
                if (d->states.p[first + i].live && back->left[i] == 0)
                        back->queue[n_queue++] = i;
        for (uint32_t i = 0; i < n_queue; i++)
                n_queue = count_before(d, back, first, back->queue[i], n_queue);
        for (uint32_t i = 0; i < n; i++)
                if (back->left[i] > 0)
                        d->states.p[first + i].texts = DFA_ENDLESS;
}

/* From the accepting states backwards. */
int dfa_revive(struct dfa *d, uint32_t first, uint32_t last, const bool usable[256]) {
        struct reverse back = {};
        uint32_t n = last - first, n_queue = 0;
        int r = reverse_init(&back, d, first, n, usable);

        for (uint32_t i = 0; i < n && r >= 0; i++) {
                d->states.p[first + i].live = d->states.p[first + i].accept;
                if (d->states.p[first + i].live)
                        back.queue[n_queue++] = i;
        }
        for (uint32_t i = 0; i < n_queue && r >= 0; i++) {
                uint32_t to = back.queue[i];

                for (uint32_t j = back.first[to]; j < back.first[to + 1]; j++) {
                        struct dfa_state *s = &d->states.p[first + back.from[j]];

                        if (s->live || back.ways[j] == 0)
                                continue;
                        s->live = true;
                        back.queue[n_queue++] = back.from[j];
                }
        }
        if (r >= 0)
                count_texts(d, &back, first, n);
        reverse_done(&back);
        return r;
}

int32_t dfa_step(const struct dfa *d, uint32_t state, uint8_t byte) {
        const struct dfa_state *s = &d->states.p[state];
        const struct dfa_edge *e = d->edges.p + s->first;
        uint32_t lo = 0, hi = s->n;

        while (lo < hi) {
                uint32_t middle = (lo + hi) / 2;

                if (e[middle].hi < byte)
                        lo = middle + 1;
                else
                        hi = middle;
        }
        if (lo == s->n || e[lo].lo > byte || !d->states.p[e[lo].to].live)
                return -1;
        return (int32_t)e[lo].to;
}

bool dfa_accepts(const struct dfa *d, uint32_t state, struct view text) {
        for (size_t i = 0; i < text.n; i++) {
                int32_t next = dfa_step(d, state, text.p[i]);

                if (next < 0)
                        return false;
                state = (uint32_t)next;
        }
        return d->states.p[state].accept;
}

void dfa_done(struct dfa *d) {
        VEC_DONE(&d->states);
        VEC_DONE(&d->edges);
        *d = (struct dfa){};
}

/* --- products --- */

/* Pairs of states that were met: their number is their place in the list, as with subsets. */
static int pair_number(struct subsets *s, uint32_t a, uint32_t b, uint32_t *ret) {
        uint32_t first = (uint32_t)s->members.n;
        int r = VEC_PUSH(&s->members, a);

        if (r >= 0)
                r = VEC_PUSH(&s->members, b);
        return r < 0 ? r : subsets_find(s, first, ret);
}

#define NOWHERE UINT32_MAX

/* A product at work. Of b, what the texts must not be in when subtracting, NOWHERE is a state: it
 * has no edges and accepts nothing. */
struct product {
        struct dfa *d;
        struct subsets pairs;
        uint32_t base;
        bool subtract;
};

static int add_pair_edge(struct product *p, uint8_t lo, uint8_t hi, uint32_t a, uint32_t b,
                         struct dfa_state *state) {
        uint32_t to;
        int r = pair_number(&p->pairs, a, b, &to);

        p->d->work++;
        if (r < 0)
                return r;
        state->n++;
        return VEC_PUSH(&p->d->edges, (struct dfa_edge){ lo, hi, p->base + to });
}

/* One edge of a against all of b's: where they overlap, and (subtracting) where b has none. */
static int add_edge_pairs(struct product *p, const struct dfa_edge *e, const struct dfa_state *b,
                          struct dfa_state *state) {
        unsigned at = e->lo;
        int r = 0;

        for (uint32_t j = 0; j < b->n && r >= 0; j++) {
                struct dfa_edge f = p->d->edges.p[b->first + j];
                unsigned lo = MAX((unsigned)f.lo, at), hi = MIN(f.hi, e->hi);

                p->d->work++;
                if (lo > hi)
                        continue;
                if (p->subtract && lo > at)
                        r = add_pair_edge(p, (uint8_t)at, (uint8_t)(lo - 1), e->to, NOWHERE, state);
                if (r >= 0)
                        r = add_pair_edge(p, (uint8_t)lo, (uint8_t)hi, e->to, f.to, state);
                at = hi + 1;
        }
        if (r >= 0 && p->subtract && at <= e->hi)
                r = add_pair_edge(p, (uint8_t)at, e->hi, e->to, NOWHERE, state);
        return r;
}

static int expand_pair(struct product *p, uint32_t number) {
        const uint32_t *pair = p->pairs.members.p + p->pairs.list.p[number].first;
        struct dfa_state a = p->d->states.p[pair[0]], b = { 0 };
        struct dfa_state state = { .first = (uint32_t)p->d->edges.n };
        int r = 0;

        if (pair[1] != NOWHERE)
                b = p->d->states.p[pair[1]];
        state.accept = a.accept && b.accept != p->subtract;
        for (uint32_t i = 0; i < a.n && r >= 0; i++) {
                struct dfa_edge e = p->d->edges.p[a.first + i];

                r = add_edge_pairs(p, &e, &b, &state);
        }
        return r < 0 ? r : VEC_PUSH(&p->d->states, state);
}

static int multiply(struct dfa *d, uint32_t a, uint32_t b, bool subtract, uint32_t *ret) {
        static const bool all[256] = { [0 ... 255] = true };
        struct product p = { .d = d, .base = (uint32_t)d->states.n, .subtract = subtract };
        uint32_t number;
        int r = pair_number(&p.pairs, a, b, &number);

        for (uint32_t i = 0; r >= 0 && i < p.pairs.list.n; i++) {
                r = expand_pair(&p, i);
                if (d->work > DFA_WORK_MAX || d->states.n > DFA_STATES_MAX)
                        r = -E2BIG;
        }
        subsets_done(&p.pairs);
        if (r < 0)
                return r;
        *ret = p.base;
        return dfa_revive(d, p.base, (uint32_t)d->states.n, all);
}

int dfa_intersect(struct dfa *d, uint32_t a, uint32_t b, uint32_t *ret) {
        return multiply(d, a, b, false, ret);
}

int dfa_subtract(struct dfa *d, uint32_t a, uint32_t b, uint32_t *ret) {
        return multiply(d, a, b, true, ret);
}
