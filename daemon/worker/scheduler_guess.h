/* Guessing what a generation will say next: where its last tokens stand earlier in its prompt or
 * answer, what followed them there may follow again. Guesses are checked by the model itself, in
 * one step with the next token, so they cost or save time and change nothing. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/scheduler_cost.h"

enum {
        GUESS_MOST = 11,       /* with the next token itself a step of 12 rows */
        GUESS_CLASSES = 5,     /* matches of 2, 3, 4-5, 6-9 and more tokens */
};

struct guess {
        int32_t ids[GUESS_MOST];
        uint32_t n;            /* ids found */
        uint32_t match;        /* tokens before them that agree */
        uint32_t rows;         /* ids that take part in the present step */
};

/* How likely a guessed token is right, by the length of its match. */
struct guess_odds {
        double right[GUESS_CLASSES];
};

/* What may follow ids[0..n), last: after the longest match, the latest of several. At most `most`
 * ids (GUESS_MOST at most). rows is 0. */
void guess_find(struct guess *g, const int32_t *ids, size_t n, int32_t last, uint32_t most);
/* Choose g->rows: what makes most tokens in a time, beside so many rows that give
 * so many tokens, in a step that must not take longer than usec. */
void guess_choose(struct guess *g, const struct guess_odds *odds, const struct step_costs *costs,
                  uint32_t rows, double tokens, double usec);
/* Tokens to be expected of g->rows guesses. */
double guess_expected(const struct guess *g, const struct guess_odds *odds);
/* What was made in the place of the guesses. Of one that was not tried, the first token counts.
 * `weight` of 1: how much of the new. */
void guess_learn(const struct guess *g, struct guess_odds *odds, const int32_t *made, size_t n,
                 double weight);
