/* Prompt-lookup decoding. Problem: summaries, corrections and code repeat what they were given, and
 * a step of a few rows takes hardly longer than one of a single row; but where nothing is
 * repeated, every row too many is lost. So how often guesses are right is counted, for each
 * generation and by the length of the match, also while none is tried: a guess costs nothing to
 * look up and compare. A guess is tried when measured step times say that it should pay.
 *
 * The odds of a chain are the product of the odds of its tokens, whose matches grow by one each. */
#include <stdbool.h>

#include "daemon/worker/scheduler_guess.h"
#include "engine/base/macro.h"

enum { LEAST_MATCH = 2, LONGEST_MATCH = 16 };
#define LEAST_GAIN 1.08 /* expected, before anything is tried: estimates are not that exact */

/* Tokens that agree before position `end` and at the very end of the text. */
static uint32_t match_at(const int32_t *ids, size_t n, int32_t last, size_t end) {
        uint32_t match = 1;

        if (ids[end - 1] != last)
                return 0;
        while (match < LONGEST_MATCH && match < end && ids[end - 1 - match] == ids[n - match])
                match++;
        return match;
}

void guess_find(struct guess *g, const int32_t *ids, size_t n, int32_t last, uint32_t most) {
        size_t at = 0;

        *g = (struct guess){.match = LEAST_MATCH - 1};
        for (size_t end = n; end > 0 && g->match < LONGEST_MATCH; end--) {
                uint32_t match = match_at(ids, n, last, end);

                if (match > g->match) {
                        g->match = match;
                        at = end;
                }
        }
        if (at == 0)
                return;
        g->n = (uint32_t)MIN((size_t)most, n + 1 - at);
        for (uint32_t i = 0; i < g->n; i++)
                g->ids[i] = at + i < n ? ids[at + i] : last;
}

static unsigned class_of(uint32_t match) {
        return match < 4 ? match - LEAST_MATCH : match < 6 ? 2 : match < 10 ? 3 : 4;
}

double guess_expected(const struct guess *g, const struct guess_odds *odds) {
        double chain = 1, expected = 0;

        for (uint32_t i = 0; i < g->rows; i++) {
                chain *= odds->right[class_of(g->match + i)];
                expected += chain;
        }
        return expected;
}

void guess_choose(struct guess *g, const struct guess_odds *odds, const struct step_costs *costs,
                  uint32_t rows, double tokens, double usec) {
        double none = step_cost(costs, rows), best = LEAST_GAIN * tokens / none;
        uint32_t chosen = 0;

        if (none <= 0)
                return;
        for (g->rows = 1; g->rows <= g->n; g->rows++) {
                double cost = step_cost(costs, rows + g->rows);
                double speed = (tokens + guess_expected(g, odds)) / cost;

                if (cost <= usec && speed > best) {
                        best = speed;
                        chosen = g->rows;
                }
        }
        g->rows = chosen;
}

void guess_learn(const struct guess *g, struct guess_odds *odds, const int32_t *made, size_t n,
                 double weight) {
        size_t tried = MIN(MAX(g->rows, 1U), g->n);

        for (size_t i = 0; i < MIN(n, tried); i++) {
                double *right = &odds->right[class_of(g->match + (uint32_t)i)];
                bool hit = made[i] == g->ids[i];

                *right += ((hit ? 1 : 0) - *right) * weight;
                if (!hit)
                        return;
        }
}
