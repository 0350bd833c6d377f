/* The cost model against machines that are made up: it must come to the truth, also when the truth
 * changes, when a step is disturbed, and when it has only looked at small steps so far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "daemon/worker/scheduler_cost.h"
#include "engine/base/macro.h"

enum { BUDGET = 50000, MOST = 512 };
#define WEIGHT 0.5

/* Microseconds of a step: a fixed part (the weights are read) and one for each row. */
struct machine {
        double fixed, row;
};

static const struct machine machines[] = {
        {3800, 1300}, {25000, 6500}, {28000, 500}, {100, 20}, {200000, 90000}, {0.5, 0.5},
};

static double truth(const struct machine *m, uint32_t rows) {
        return m->fixed + m->row * rows;
}

static uint32_t best(const struct machine *m) {
        uint32_t rows = 1;

        while (rows < MOST && truth(m, rows + 1) <= BUDGET)
                rows++;
        return rows;
}

/* Choose and run some steps. Returns the rows of the last one. */
static uint32_t work(struct step_costs *c, const struct machine *m, unsigned steps) {
        uint32_t rows = 1;

        while (steps-- > 0) {
                rows = MAX(step_rows(c, BUDGET, MOST), 1U);
                step_cost_learn(c, rows, truth(m, rows), WEIGHT);
        }
        return rows;
}

/* The law: more rows take no less time. */
static void check_shape(const struct step_costs *c) {
        for (uint32_t rows = 2; rows <= MOST; rows++) {
                double one = step_cost(c, rows - 1), two = step_cost(c, rows);

                assert_true(two >= one * 0.999999);
        }
}

static void check_near(const struct machine *m, uint32_t rows) {
        uint32_t right = best(m);

        assert_true(rows <= right + right / 4 && rows + rows / 4 + 1 >= right);
}

static void comes_to_the_truth(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
                struct step_costs c = {0};

                assert_int_equal(step_rows(&c, BUDGET, MOST), 0);
                assert_true(step_cost(&c, 5) == 0);
                check_near(&machines[i], work(&c, &machines[i], 30));
                check_shape(&c);
        }
}

/* From any machine to any other, as when texts get long or another program starts. */
static void follows_changes(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
                for (size_t j = 0; j < ARRAY_SIZE(machines); j++) {
                        struct step_costs c = {0};

                        work(&c, &machines[i], 40);
                        check_near(&machines[j], work(&c, &machines[j], 80));
                        check_shape(&c);
                }
        }
}

static void forgets_disturbances(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
                struct step_costs c = {0};
                uint32_t rows = work(&c, &machines[i], 40);

                step_cost_learn(&c, rows, 100 * truth(&machines[i], rows), WEIGHT);
                step_cost_learn(&c, 1, 100 * truth(&machines[i], 1), WEIGHT);
                check_shape(&c);
                check_near(&machines[i], work(&c, &machines[i], 40));
        }
}

static void never_too_long_on_the_way(void **state) {
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
                const struct machine *m = &machines[i];
                struct step_costs c = {0};

                step_cost_learn(&c, 1, truth(m, 1), WEIGHT);
                for (unsigned step = 0; step < 50; step++) {
                        uint32_t rows = step_rows(&c, BUDGET, MOST);

                        assert_true(rows == 1 || truth(m, rows) <= 2 * BUDGET);
                        step_cost_learn(&c, rows, truth(m, rows), WEIGHT);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(comes_to_the_truth),
                cmocka_unit_test(follows_changes),
                cmocka_unit_test(forgets_disturbances),
                cmocka_unit_test(never_too_long_on_the_way),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
