/* The cost of a step. Problem: how many rows fit into a given time depends on machine, model, other
 * programs and on how far the texts have come, and a wrong guess must neither last (nobody tries
 * what he believes to be too slow) nor make one step very long.
 *
 * Each class of row numbers has one point that follows what is measured. Two laws hold on every
 * machine: more rows never take less time, and never (much) more time for each. Invariant: after a
 * step was learnt, all points agree with it by these laws; so a point that was wrong, or is out of
 * date, is corrected by measurements of other row numbers, and costs only rise with rows. Beyond
 * the last point they are guessed to rise as between the last two, but by half of the average of a
 * row at least. */
#include "daemon/worker/scheduler_cost.h"
#include "engine/base/macro.h"

#define STAIRS 1.25 /* kernels take rows in blocks: one row more may cost as much as four */

/* The point at or after i; NULL: none. */
static const struct cost_point *next_point(const struct step_costs *c, unsigned i) {
        for (; i < COST_CLASSES; i++)
                if (c->points[i].rows > 0)
                        return &c->points[i];
        return NULL;
}

static double beyond(const struct cost_point *before, const struct cost_point *last, double rows) {
        double slope = last->usec / last->rows / 2;

        if (before)
                slope = MAX(slope, (last->usec - before->usec) / (last->rows - before->rows));
        return last->usec + (rows - last->rows) * slope;
}

double step_cost(const struct step_costs *c, uint32_t rows) {
        const struct cost_point *low = NULL, *before = NULL, *p = next_point(c, 0);

        while (p && p->rows < rows) {
                before = low;
                low = p;
                p = next_point(c, (unsigned)(p - c->points) + 1);
        }
        if (!low)
                return p ? p->usec : 0;
        if (!p)
                return beyond(before, low, rows);
        return low->usec + (p->usec - low->usec) * (rows - low->rows) / (p->rows - low->rows);
}

uint32_t step_rows(const struct step_costs *c, double usec, uint32_t max) {
        uint32_t low = 1, high = max;

        if (!next_point(c, 0))
                return 0;
        while (low < high) {
                uint32_t rows = low + (high - low + 1) / 2;

                if (step_cost(c, rows) <= usec)
                        low = rows;
                else
                        high = rows - 1;
        }
        return low;
}

static unsigned class_of(uint32_t rows) {
        return rows <= 8 ? rows - 1 : MIN(36U - (unsigned)__builtin_clz(rows), COST_CLASSES - 1U);
}

void step_cost_learn(struct step_costs *c, uint32_t rows, double usec, double weight) {
        struct cost_point *p = &c->points[class_of(rows)];

        if (p->rows <= 0)
                *p = (struct cost_point){rows, usec};
        /* Twice what is known at most: some steps are disturbed. */
        p->usec += (MIN(usec, 2 * p->usec) - p->usec) * weight;
        p->rows += (rows - p->rows) * weight;
        for (unsigned i = 0; i < COST_CLASSES; i++) {
                struct cost_point *q = &c->points[i];
                double slack = q->rows > p->rows ? STAIRS : 1 / STAIRS,
                       same_each = p->usec * q->rows / p->rows * slack;

                if (q->rows > 0)
                        q->usec = MIN(MAX(q->usec, MIN(p->usec, same_each)),
                                      MAX(p->usec, same_each));
        }
}
