/* How long a step takes by its number of rows, learnt from steps that were run. Pure. */
#pragma once

#include <stdint.h>

enum { COST_CLASSES = 15 }; /* each number up to 8, then by logarithm: 9-15, 16-31, … 512 */

/* One point for each class: what was seen there lately, on average. rows 0: nothing yet. */
struct step_costs {
        struct cost_point {
                double rows, usec;
        } points[COST_CLASSES];
};

/* 0 when nothing was seen yet. */
double step_cost(const struct step_costs *c, uint32_t rows);
/* The most rows, 1..max, that should take no longer; 1 when that will, too. 0: nothing seen yet. */
uint32_t step_rows(const struct step_costs *c, double usec, uint32_t max);
/* weight, at most 1: how much of the new; the first one of a class counts whole. */
void step_cost_learn(struct step_costs *c, uint32_t rows, double usec, double weight);
