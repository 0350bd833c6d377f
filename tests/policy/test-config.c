/* Good files, bad files with the line of the mistake, and the installed example. */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/config.h"

static void test_good(void **state) {
        struct config c = CONFIG_DEFAULT;
        const char *reason;
        unsigned line;

        assert_int_equal(config_parse("# a comment\n[Limits]\nMaxConcurrentJobs = 2\n"
                                      "MaxQueuedJobs=0\nMaxInputBytes = 8M\nKVBytes=2G\n"
                                      "[Broker]\nDefaultModel = bitnet-2b-4t\nThreads=6\n"
                                      "CPU = avx2\n",
                                      &c, &line, &reason),
                         0);
        assert_int_equal(c.limits.max_concurrent_jobs, 2);
        assert_int_equal(c.limits.max_queued_jobs, 0);
        assert_int_equal(c.limits.max_input_bytes, 8 << 20);
        assert_int_equal(c.limits.kv_bytes, UINT64_C(2) << 30);
        assert_int_equal(c.limits.max_connections, 32); /* untouched */
        assert_string_equal(c.default_model, "bitnet-2b-4t");
        assert_int_equal(c.threads, 6);
        assert_int_equal(c.cpu, CPU_LEVEL_AVX2);
}

static void test_empty_is_default(void **state) {
        struct config c = CONFIG_DEFAULT, d = CONFIG_DEFAULT;
        const char *reason;
        unsigned line;

        assert_int_equal(config_parse("", &c, &line, &reason), 0);
        assert_memory_equal(&c, &d, sizeof(c));
        assert_int_equal(c.limits.max_concurrent_jobs, 4);
        assert_int_equal(c.limits.max_queued_jobs, 16);
        assert_int_equal(c.limits.max_input_bytes, 64 << 20);
        assert_int_equal(c.limits.max_output_tokens, 4096);
}

static void test_bad(void **state) {
        static const struct {
                const char *text, *reason;
                unsigned line;
        } cases[] = {
                { "[Limits]\nMaxConcurentJobs=1\n", "unknown key", 2 },
                { "[Limit]\nMaxConcurrentJobs=1\n", "unknown section", 2 },
                { "MaxConcurrentJobs=1\n", "unknown section", 1 },
                { "[Limits]\n\nMaxConcurrentJobs=0\n", "number out of range", 3 },
                { "[Limits]\nMaxConcurrentJobs=65\n", "number out of range", 2 },
                { "[Limits]\nMaxConcurrentJobs=-1\n", "not a number", 2 },
                { "[Limits]\nMaxConcurrentJobs=\n", "not a number", 2 },
                { "[Limits]\nMaxConcurrentJobs=4 jobs\n", "not a number", 2 },
                { "[Limits]\nMaxInputBytes=8MB\n", "not a number", 2 },
                { "[Limits]\nMaxInputBytes=99999999999999999999\n", "not a number", 2 },
                { "[Limits]\nMaxInputBytes=18446744073709551615G\n", "not a number", 2 },
                { "[Limits]\nMaxQueuedJobs=3\nno assignment\n",
                  "not an assignment or section", 3 },
                { "[Broker]\nDefaultModel=../../etc\n", "not a model name", 2 },
                { "[Broker]\nCPU=sse9\n", "not a CPU level", 2 },
                { "[Broker]\nMaxQueuedJobs=3\n", "unknown key", 2 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config c = CONFIG_DEFAULT, d = CONFIG_DEFAULT;
                const char *reason = NULL;
                unsigned line = 0;

                if (config_parse(cases[i].text, &c, &line, &reason) != -EINVAL ||
                    line != cases[i].line || strcmp(reason, cases[i].reason) != 0)
                        fail_msg("case %zu: line %u (%u), %s (%s)", i, line, cases[i].line,
                                 reason ? reason : "accepted", cases[i].reason);
                assert_memory_equal(&c, &d, sizeof(c));
        }
}

static void test_cpu_levels(void **state) {
        static const char *const names[] = { "c", "avx2", "avxvnni", "avx512vl", "avx512vnni",
                                             "all" };
        enum cpu_level level;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_int_equal(config_cpu_level(names[i], &level), 0);
                assert_int_equal(level, i);
        }
        assert_int_equal(config_cpu_level("", &level), -EINVAL);
        assert_int_equal(config_cpu_level("AVX2", &level), -EINVAL);
}

static void test_names(void **state) {
        static const char *const good[] = { "a", "0", "bitnet-2b_4t.v1", "a..b" };
        static const char *const bad[] = { "",    ".a",  "_a",   "-a",      "A",
                                           "a/b", "a b", "a\n", "\xc3\xa4" };
        char name[MODEL_NAME_SIZE];

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(model_name_valid(good[i]), 1);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (model_name_valid(bad[i]))
                        fail_msg("name %zu was accepted", i);
        memset(name, 'a', sizeof(name)); /* not terminated */
        assert_int_equal(model_name_valid(name), 0);
        name[sizeof(name) - 1] = '\0';
        assert_int_equal(model_name_valid(name), 1);
}

/* Every commented line of the example is accepted and is the default. */
static void test_example(void **state) {
        struct config c = CONFIG_DEFAULT, d = CONFIG_DEFAULT;
        char text[8192] = "", line[256];
        FILE *f = fopen(CONFIG_EXAMPLE, "re");
        const char *reason = "";
        unsigned number = 0, settings = 0;

        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                bool setting = line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' &&
                               strstr(line, " = ");

                settings += setting;
                if (setting || line[0] == '[')
                        strcat(text, line + setting);
        }
        fclose(f);
        assert_true(settings >= 12);
        if (config_parse(text, &c, &number, &reason) != 0)
                fail_msg("line %u: %s", number, reason);
        assert_string_equal(c.default_model, "smollm2-135m-instruct-trit");
        memset(c.default_model, 0, sizeof(c.default_model));
        assert_memory_equal(&c, &d, sizeof(c));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),       cmocka_unit_test(test_empty_is_default),
                cmocka_unit_test(test_bad),        cmocka_unit_test(test_cpu_levels),
                cmocka_unit_test(test_names),      cmocka_unit_test(test_example),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
