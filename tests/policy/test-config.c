/* Good files, bad files with the line of the mistake, who gets what from which line, and the
 * installed example. */
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
#include "policy/name.h"
#include "policy/quota_key.h"

static const struct identity nobody = { .uid = 65534 };

static void add(struct config *c, const char *path, const char *text) {
        struct config_problem problem;

        if (config_add(c, path, text, &problem) != 0)
                fail_msg("%s:%u: %s", problem.path, problem.line, problem.reason);
}

static struct config *parse(const char *text) {
        struct config *c;

        assert_int_equal(config_new(&c), 0);
        add(c, "main", text);
        return c;
}

static void test_good(void **state) {
        struct config *c = parse("# a comment\n[Default]\nMaxConcurrentJobs = 2\n"
                                 "MaxQueuedJobs=0 ; another\n\nMaxInputBytes = 8M\nKVBytes=2G\r\n"
                                 "TokensPerMinute=10K\nTokensPerDay = infinity\n"
                                 "CPUTimePerDay=90min\nAllowVerbs=summarize  chat\n"
                                 "AllowPriority=none\nAllowModels=bitnet-* tiny\n"
                                 "DefaultModel = bitnet-2b-4t\n"
                                 "[Broker]\nThreads=6\nCPU = avx2\nKVType = s8\n"
                                 "IsolationDomain = group");
        struct limits l;

        config_resolve(c, &nobody, &l, NULL);
        assert_int_equal(l.v[QUOTA_MAX_CONCURRENT_JOBS], 2);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 0);
        assert_int_equal(l.v[QUOTA_MAX_INPUT_BYTES], 8 << 20);
        assert_int_equal(l.v[QUOTA_KV_BYTES], UINT64_C(2) << 30);
        assert_int_equal(l.v[QUOTA_MAX_CONNECTIONS], 32); /* untouched */
        assert_int_equal(l.v[QUOTA_TOKENS_PER_MINUTE], 10240);
        assert_int_equal(l.v[QUOTA_TOKENS_PER_DAY], QUOTA_INFINITY);
        assert_int_equal(l.v[QUOTA_CPU_TIME_PER_DAY], UINT64_C(5400000000));
        assert_int_equal(l.v[QUOTA_ALLOW_VERBS], 5);
        assert_int_equal(l.v[QUOTA_ALLOW_PRIORITY], 0);
        assert_string_equal(limits_text(&l, QUOTA_DEFAULT_MODEL), "bitnet-2b-4t");
        assert_true(limits_allow_model(&l, "bitnet-2b-4t"));
        assert_true(limits_allow_model(&l, "tiny"));
        assert_false(limits_allow_model(&l, "tiny2"));
        assert_int_equal(config_broker(c)->threads, 6);
        assert_int_equal(config_broker(c)->cpu, CPU_LEVEL_AVX2);
        assert_int_equal(config_broker(c)->kv, KV_TYPE_S8);
        assert_int_equal(config_broker(c)->isolation, ISOLATION_GROUP);
        assert_int_equal(config_broker(c)->isolation_line, 19);
        config_free(c);
}

static void test_empty_is_default(void **state) {
        struct config *c = parse("");
        struct config_origin origins[_QUOTA_MAX];
        struct limits l;

        config_resolve(c, &nobody, &l, origins);
        assert_int_equal(l.v[QUOTA_MAX_CONCURRENT_JOBS], 4);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 16);
        assert_int_equal(l.v[QUOTA_MAX_INPUT_BYTES], 64 << 20);
        assert_int_equal(l.v[QUOTA_MAX_OUTPUT_TOKENS], 4096);
        assert_int_equal(l.v[QUOTA_REQUESTS_PER_MINUTE], 120);
        assert_int_equal(l.v[QUOTA_TOKENS_PER_MINUTE], QUOTA_INFINITY);
        assert_int_equal(l.v[QUOTA_WEIGHT], 100);
        assert_int_equal(l.v[QUOTA_MAX_SESSION_KV], 256 << 20);
        assert_int_equal(l.v[QUOTA_ALLOW_VERBS], (1 << QUOTA_VERBS) - 1);
        assert_true(limits_allow_model(&l, "anything"));
        for (unsigned i = 0; i < _QUOTA_MAX; i++)
                assert_null(origins[i].path);
        config_free(c);
}

#define NOT_A_SLICE "not the name of a slice, such as user-1000.slice, of at most 39 bytes"
#define LONG "0123456789012345678901234567890123456789"

static void test_bad(void **state) {
        static const struct {
                const char *text, *reason;
                unsigned line;
        } cases[] = {
                { "[Default]\nMaxConcurentJobs=1\n", "unknown key", 2 },
                { "[Limit]\nMaxConcurrentJobs=1\n", "unknown section", 1 },
                { "[Default]\n\n[Limit]\n", "unknown section", 3 }, /* an empty one */
                { "MaxConcurrentJobs=1\n", "outside of a section", 1 },
                { "[Default]\n\nMaxConcurrentJobs=0\n", "number out of range", 3 },
                { "[Default]\nMaxConcurrentJobs=65\n", "number out of range", 2 },
                { "[Default]\nMaxConcurrentJobs=-1\n", "not a number", 2 },
                { "[Default]\nMaxConcurrentJobs=\n", "not a number", 2 },
                { "[Default]\nMaxConcurrentJobs=4 jobs\n", "not a number", 2 },
                { "[Default]\nMaxConcurrentJobs=infinity\n", "this limit cannot be infinity", 2 },
                { "[Default]\nMaxInputBytes=8MB\n", "not a number", 2 },
                { "[Default]\nMaxInputBytes=99999999999999999999\n", "not a number", 2 },
                { "[Default]\nMaxInputBytes=18446744073709551615G\n", "not a number", 2 },
                { "[Default]\nTokensPerMinute=0\n", "number out of range", 2 },
                { "[Default]\nCPUTimePerDay=1 week\n", "not a time", 2 },
                { "[Default]\nCPUTimePerDay=2K\n", "not a time", 2 },
                { "[Default]\nWeight=10001\n", "number out of range", 2 },
                { "[Default]\nAllowVerbs=chat sing\n", "unknown word", 2 },
                { "[Default]\nAllowVerbs=\n", "not a list of words, all or none", 2 },
                { "[Default]\nAllowModels=../x\n", "not a pattern of model names", 2 },
                { "[Default]\nAllowModels=\n", "not a list of model names", 2 },
                { "[Default]\nMaxQueuedJobs=3\nno assignment\n",
                  "not an assignment or section", 3 },
                { "[Default]\nno assignment\nWhat=3\n", "not an assignment or section", 2 },
                { "[Default\nMaxQueuedJobs=3\n", "not an assignment or section", 1 },
                { "[Default]\nAllowVerbs=chat\n complete\n", "line begins with a space", 3 },
                { "[Default]\nAllowModels=" LONG LONG LONG LONG LONG "\n", "line is too long", 2 },
                { "[User " LONG LONG "]\n", "name of the section is too long", 1 },
                { "[User]\nMaxQueuedJobs=3\n", "unknown section", 1 },
                { "[User a b]\n", "not the name or number of a user or group", 1 },
                { "[User 4294967295]\n", "number out of range", 1 },
                { "[Slice]\n", "unknown section", 1 },
                { "[Slice user]\nWeight=1\n", NOT_A_SLICE, 1 },
                { "[Slice -.slice]\nWeight=1\n", NOT_A_SLICE, 1 },
                { "[Slice a/b.slice]\n", NOT_A_SLICE, 1 },
                { "[Slice user.slice ]\n", NOT_A_SLICE, 1 },
                { "[Slice aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.slice]\n", NOT_A_SLICE, 1 },
                { "[AppId org.example.App]\n",
                  "nothing proves the name of an application: it chooses it itself", 1 },
                { "[Default]\nDefaultModel=../../etc\n", "not a model name", 2 },
                { "[Default]\nThreads=2\n", "unknown key", 2 },
                { "[Broker]\nCPU=sse9\n", "not a CPU level", 2 },
                { "[Broker]\nKVType=s4\n", "not s16, f16 or s8", 2 },
                { "[Broker]\nIsolationDomain=user\n",
                  "IsolationDomain= is not uid, group or host: \"user\"", 2 },
                { "[Broker]\n\nIsolationDomain=\n",
                  "IsolationDomain= is not uid, group or host: \"\"", 3 },
                { "[Broker]\nIsolationDomain=\033[31mhost\n",
                  "IsolationDomain= is not uid, group or host", 2 },
                { "[Default]\nIsolationDomain=uid\n", "unknown key", 2 },
                { "[Broker]\nThreads=65\n", "number out of range", 2 },
                { "[Broker]\nThreads=2K\n", "not a number", 2 },
                { "[Broker]\nMaxQueuedJobs=3\n", "unknown key", 2 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config_problem problem = { .reason = "" };
                struct config *c;
                int r;

                assert_int_equal(config_new(&c), 0);
                add(c, "first", "[Default]\nMaxQueuedJobs=3\n");
                r = config_add(c, "second", cases[i].text, &problem);
                if (r != -EINVAL || problem.line != cases[i].line ||
                    strcmp(problem.reason, cases[i].reason) != 0)
                        fail_msg("case %zu: %d, line %u (%u), %s (%s)", i, r, problem.line,
                                 cases[i].line, problem.reason, cases[i].reason);
                assert_string_equal(problem.path, "second");
                config_free(c);
        }
}

static void assert_origin(const struct config_origin *o, enum config_match match,
                          const char *name, const char *path, unsigned line) {
        assert_int_equal(o->match, match);
        assert_string_equal(o->name, name);
        assert_string_equal(o->path, path);
        assert_int_equal(o->line, line);
}

/* User before group before default whatever the order of reading; the last one among equals. */
static void test_the_most_specific_counts(void **state) {
        struct identity_group groups[] = { { 100, "users" }, { 27, "staff" } };
        struct identity alice = { 1000, "alice", groups, 2 }, bob = { 1001, "bob", groups, 1 },
                        unknown = { .uid = 1000 };
        struct config_origin o[_QUOTA_MAX];
        struct limits l;
        struct config *c = parse("[User alice]\nMaxQueuedJobs = 1\n"
                                 "[Group staff]\nMaxQueuedJobs = 2\nWeight = 200\n"
                                 "[Group 100]\nMaxQueuedJobs = 3\nWeight = 300\n"
                                 "[Default]\nMaxQueuedJobs = 4\nWeight = 400\nMaxObjects=10\n");

        add(c, "second", "[Default]\nMaxObjects = 20\n[User 1000]\nMaxQueuedJobs = 5\n");
        assert_true(config_wants_names(c));
        config_resolve(c, &alice, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 5);
        assert_origin(&o[QUOTA_MAX_QUEUED_JOBS], CONFIG_USER, "1000", "second", 4);
        assert_int_equal(l.v[QUOTA_WEIGHT], 300);
        assert_origin(&o[QUOTA_WEIGHT], CONFIG_GROUP, "100", "main", 8);
        assert_int_equal(l.v[QUOTA_MAX_OBJECTS], 20);
        assert_origin(&o[QUOTA_MAX_OBJECTS], CONFIG_DEFAULT, "", "second", 2);
        assert_null(o[QUOTA_KV_BYTES].path);

        config_resolve(c, &bob, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 3);
        assert_int_equal(l.v[QUOTA_WEIGHT], 300);
        /* No entry in the user database: the number counts all the same, names do not. */
        config_resolve(c, &unknown, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 5);
        assert_int_equal(l.v[QUOTA_WEIGHT], 400);
        config_resolve(c, &nobody, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 4);
        config_free(c);

        c = parse("[User 1000]\nMaxQueuedJobs = 1\n");
        assert_false(config_wants_names(c));
        config_free(c);
}

/* Between default and group; of slices inside of one another the inner one. */
static void test_slices(void **state) {
        struct identity_group users = { 100, "users" };
        struct identity who = { .uid = 1000, .name = "alice", .groups = &users, .n_groups = 1 };
        struct config_origin o[_QUOTA_MAX];
        char rule[SLICE_RULE_SIZE];
        struct limits l;
        struct config *c = parse("[Slice user-1000.slice]\nMaxQueuedJobs = 1\nMaxObjects = 10\n"
                                 "[Slice user.slice]\nMaxQueuedJobs = 2\nWeight = 200\n"
                                 "[Default]\nMaxQueuedJobs = 3\nWeight = 300\nMaxSessions = 3\n"
                                 "[Slice user.slice]\nMaxSessions = 2\n"
                                 "[Slice system.slice]\nWeight = 400\n"
                                 "[Group users]\nMaxObjects = 20\n");

        assert_true(config_wants_slices(c, NULL));
        assert_true(config_wants_slices(c, &o[0]));
        assert_origin(&o[0], CONFIG_SLICE, "user-1000.slice", "main", 2);
        config_slice(c, "user-1000.slice", rule);
        assert_string_equal(rule, "user-1000.slice");
        config_slice(c, "user-1000-x.slice", rule);
        assert_string_equal(rule, "user-1000.slice");
        config_slice(c, "user-1001.slice", rule);
        assert_string_equal(rule, "user.slice");
        config_slice(c, "machine.slice", rule);
        assert_string_equal(rule, "");
        config_slice(c, "", rule);
        assert_string_equal(rule, "");

        who.slice = "user-1000.slice";
        config_resolve(c, &who, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 1);
        assert_origin(&o[QUOTA_MAX_QUEUED_JOBS], CONFIG_SLICE, "user-1000.slice", "main", 2);
        assert_int_equal(l.v[QUOTA_WEIGHT], 200);
        assert_origin(&o[QUOTA_WEIGHT], CONFIG_SLICE, "user.slice", "main", 6);
        assert_int_equal(l.v[QUOTA_MAX_SESSIONS], 2);
        assert_int_equal(l.v[QUOTA_MAX_OBJECTS], 20); /* the group */
        who.slice = "user.slice";
        config_resolve(c, &who, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 2);
        who.slice = "";
        config_resolve(c, &who, &l, o);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 3);
        assert_int_equal(l.v[QUOTA_WEIGHT], 300);
        config_free(c);

        c = parse("[Slice user.slice]\n[Default]\nWeight = 1\n");
        assert_false(config_wants_slices(c, NULL)); /* it says nothing */
        config_free(c);
}

static void test_cpu_levels(void **state) {
        static const char *const names[] = { "c", "avx2", "avxvnni", "avx512vl", "avx512vnni",
                                             "avx512vbmi", "all" };
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

/* What is printed is read back as the same value. */
static void test_values_print_as_they_are_read(void **state) {
        static const struct {
                enum quota_key key;
                uint64_t value;
                const char *text;
        } cases[] = {
                { QUOTA_MAX_INPUT_BYTES, 64 << 20, "64M" },
                { QUOTA_MAX_INPUT_BYTES, 1025, "1025" },
                { QUOTA_MAX_SESSION_KV, 0, "0" },
                { QUOTA_MAX_QUEUED_JOBS, 1024, "1024" },
                { QUOTA_CPU_TIME_PER_DAY, UINT64_C(7200000000), "2h" },
                { QUOTA_CPU_TIME_PER_DAY, 90000000, "90s" },
                { QUOTA_CPU_TIME_PER_DAY, 1000001, "1000001us" },
                { QUOTA_CPU_TIME_PER_DAY, UINT64_C(172800000000), "2d" },
                { QUOTA_TOKENS_PER_DAY, QUOTA_INFINITY, "infinity" },
                { QUOTA_ALLOW_VERBS, 3, "chat complete" },
                { QUOTA_ALLOW_VERBS, 0, "none" },
                { QUOTA_ALLOW_PRIORITY, 3, "all" },
                { QUOTA_ALLOW_PRIORITY, 2, "background" },
        };
        char buf[QUOTA_PRINT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint64_t back = 12345;

                assert_string_equal(quota_print(cases[i].key, cases[i].value, buf),
                                    cases[i].text);
                assert_null(quota_parse(cases[i].key, buf, &back));
                assert_int_equal(back, cases[i].value);
        }
}

/* Every commented line of the example is accepted and is the default, and none is missing. */
static void test_example(void **state) {
        struct limits l, d = limits_default();
        struct config_origin o[_QUOTA_MAX];
        char text[8192] = "", line[256];
        FILE *f = fopen(CONFIG_EXAMPLE, "re");
        struct config *c;

        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                bool setting = line[0] == '#' && line[1] >= 'A' && line[1] <= 'Z' &&
                               strstr(line, " = ");

                if (setting || line[0] == '[')
                        strcat(text, line + setting);
        }
        fclose(f);
        c = parse(text);
        config_resolve(c, &nobody, &l, o);
        assert_memory_equal(l.v, d.v, sizeof(l.v));
        assert_string_equal(limits_text(&l, QUOTA_ALLOW_MODELS),
                            limits_text(&d, QUOTA_ALLOW_MODELS));
        assert_string_equal(limits_text(&l, QUOTA_DEFAULT_MODEL), "smollm2-135m-instruct-trit");
        for (unsigned i = 0; i < _QUOTA_MAX; i++)
                if (!o[i].path)
                        fail_msg("%s is missing in the example",
                                 quota_row((enum quota_key)i)->name);
        assert_int_equal(config_broker(c)->threads, 0);
        assert_int_equal(config_broker(c)->cpu, CPU_LEVEL_ALL);
        assert_int_equal(config_broker(c)->kv, KV_TYPE_S16);
        assert_int_equal(config_broker(c)->isolation, ISOLATION_UID);
        config_free(c);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_empty_is_default),
                cmocka_unit_test(test_bad),
                cmocka_unit_test(test_the_most_specific_counts),
                cmocka_unit_test(test_slices),
                cmocka_unit_test(test_cpu_levels),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_values_print_as_they_are_read),
                cmocka_unit_test(test_example),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
