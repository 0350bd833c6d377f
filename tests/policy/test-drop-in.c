/* Texts of drop-ins before and after a change, and that the configuration reads them as meant. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/config.h"
#include "policy/drop_in.h"

static void test_texts(void **state) {
        static const struct {
                const char *old, *value, *new;
        } cases[] = {
                { "", "3", "[User 7]\nWeight = 3\n" },
                { "", "", "" },
                { "[User 7]\nWeight = 3\n", "4", "[User 7]\nWeight = 4\n" },
                { "[User 7]\nWeight=3\nMaxObjects = 5\nWeight\t= 9\n", "4",
                  "[User 7]\nWeight = 4\nMaxObjects = 5\n" },
                { "[User 7]\nWeight = 3\nMaxObjects = 5", "", "[User 7]\nMaxObjects = 5\n" },
                { "# Weight = 1\n\n[User 7]\n[Default]\nWeight = 3\n", "4",
                  "# Weight = 1\n\n[User 7]\nWeight = 4\n[Default]\nWeight = 3\n" },
                { "[User 77]\nWeight = 3\n", "4", "[User 77]\nWeight = 3\n[User 7]\nWeight = 4\n" },
                { "[User 7]\nWeight = 1\n[Group x]\nWeight = 2\n[User 7]\nWeight = 3\n", "4",
                  "[User 7]\nWeight = 4\n[Group x]\nWeight = 2\n[User 7]\n" },
                { "[User 7]\nWeights = 3\n", "", "[User 7]\nWeights = 3\n" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *new;

                assert_int_equal(drop_in_set(cases[i].old, 7, QUOTA_WEIGHT, cases[i].value, &new),
                                 0);
                assert_string_equal(new, cases[i].new);
                free(new);
        }
}

static void test_it_counts(void **state) {
        struct identity who = { .uid = 4294967294 };
        struct config_problem problem;
        struct config *c;
        struct limits l;
        char *text;

        assert_int_equal(drop_in_set("[Default]\nWeight = 1\n", who.uid, QUOTA_WEIGHT, "77", &text),
                         0);
        assert_int_equal(config_new(&c), 0);
        assert_int_equal(config_add(c, "x", text, &problem), 0);
        config_resolve(c, &who, &l, NULL);
        assert_int_equal(l.v[QUOTA_WEIGHT], 77);
        config_free(c);
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_texts),
                cmocka_unit_test(test_it_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
