/* Automata over bytes: pieces are put together as a non-deterministic one, from which a
 * deterministic one is made. All sizes are bounded, and so is the work of making them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"
#include "engine/grammar/vec.h"

enum {
        NFA_STATES_MAX = 1 << 14,
        NFA_EDGES_MAX = 1 << 17,
        DFA_STATES_MAX = 1 << 16,  /* of all automata of one grammar together */
        DFA_WORK_MAX = 1 << 26,    /* edges looked at while they are made */
};

struct nfa_edge {
        uint32_t from, to;
        uint8_t lo, hi;
        bool empty;     /* taken without a byte */
};

/* While one is built, the first error sticks, later calls do nothing, and the states that they
 * return exist. */
struct nfa {
        VEC(struct nfa_edge) edges;
        uint32_t n_states;
        int error;              /* 0, -ENOMEM or -E2BIG */
};

uint32_t nfa_state(struct nfa *n);
void nfa_edge(struct nfa *n, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void nfa_empty(struct nfa *n, uint32_t from, uint32_t to);
void nfa_text(struct nfa *n, uint32_t from, struct view text, uint32_t to);
/* The characters lo..hi (code points without surrogates) in UTF-8. */
void nfa_characters(struct nfa *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
/* Append a copy of the states from..n_states and of the edges from first_edge on, up to the given
 * ends. Returns what has to be added to a state's number to get its copy. */
uint32_t nfa_copy(struct nfa *n, uint32_t from, uint32_t to, size_t first_edge, size_t last_edge);
void nfa_done(struct nfa *n);

struct dfa_edge {
        uint8_t lo, hi;
        uint32_t to;
};

struct dfa_state {
        uint32_t first;  /* edge; sorted by byte, without overlap */
        uint16_t n;
        bool accept;
        bool live;       /* some text leads from here to acceptance */
        uint32_t texts;  /* how many do, or DFA_ENDLESS */
};

#define DFA_ENDLESS UINT32_MAX  /* no end of them, or so many */

/* Many automata in one pool; each is known by its first state. */
struct dfa {
        VEC(struct dfa_state) states; /* an automaton's are together, its first one first */
        VEC(struct dfa_edge) edges;
        size_t work;
};

/* 0, -ENOMEM, -E2BIG. */
int dfa_add(struct dfa *d, const struct nfa *n, uint32_t start, uint32_t end, uint32_t *ret);
/* What both accept; what a accepts and b does not. */
int dfa_intersect(struct dfa *d, uint32_t a, uint32_t b, uint32_t *ret);
int dfa_subtract(struct dfa *d, uint32_t a, uint32_t b, uint32_t *ret);
/* Set `live` and `texts` of the states first to last - 1, which are one automaton or several, for
 * the case that only these bytes can be had. 0 or -ENOMEM. */
int dfa_revive(struct dfa *d, uint32_t first, uint32_t last, const bool usable[256]);
/* The next live state, or -1. */
int32_t dfa_step(const struct dfa *d, uint32_t state, uint8_t byte);
/* Whether the whole text is accepted. */
bool dfa_accepts(const struct dfa *d, uint32_t state, struct view text);
void dfa_done(struct dfa *d);
