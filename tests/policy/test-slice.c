/* Names of slices, and what paths of control groups prove, hostile ones included. */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "policy/slice.h"

static void test_names(void **state) {
        static const char *const good[] = { "user.slice", "user-1000.slice", "a.slice.slice",
                                            "machine.slice", "x:y_z.slice", "A-b-C9.slice",
                                            "user-dom\\x2dain.slice" };
        static const char *const bad[] = { "", ".slice", "-.slice", "user", "user.service",
                                           "-user.slice", "user-.slice", "a--b.slice", "a b.slice",
                                           "a/b.slice", "user@.slice", "user.slice ", "user.slicE",
                                           "\xc3\xa4.slice", "a\n.slice", "*.slice" };
        char longest[SLICE_NAME_SIZE + 1];

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (!slice_name_valid(good[i]))
                        fail_msg("%s was refused", good[i]);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (slice_name_valid(bad[i]))
                        fail_msg("%s was accepted", bad[i]);
        memset(longest, 'a', sizeof(longest));
        strcpy(longest + SLICE_NAME_SIZE - sizeof(".slice"), ".slice");
        assert_true(slice_name_valid(longest));
        strcpy(longest + SLICE_NAME_SIZE - sizeof(".slice") + 1, ".slice");
        assert_false(slice_name_valid(longest));
}

static void test_within(void **state) {
        assert_true(slice_within("user.slice", "user.slice"));
        assert_true(slice_within("user-1000.slice", "user.slice"));
        assert_true(slice_within("a-b-c.slice", "a.slice"));
        assert_true(slice_within("a-b-c.slice", "a-b.slice"));
        assert_false(slice_within("user.slice", "user-1000.slice"));
        assert_false(slice_within("user-10000.slice", "user-1000.slice"));
        assert_false(slice_within("username.slice", "user.slice"));
        assert_false(slice_within("user_1.slice", "user.slice"));
        assert_false(slice_within("a.slice.slice", "a.slice"));
}

static void test_paths(void **state) {
        static const struct {
                const char *path, *slice;
        } cases[] = {
                { "/", "" },
                { "", "" },
                { "/init.scope", "" },
                { "/system.slice/cron.service", "system.slice" },
                { "/system.slice", "system.slice" },
                { "/user.slice/user-1000.slice/session-3.scope", "user-1000.slice" },
                { "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/y.scope",
                  "user-1000.slice" },
                { "/machine.slice/systemd-nspawn@x.service/payload/system.slice/a.service",
                  "machine.slice" },
                { "/a.slice/a-b.slice/a-b-c.slice/x.service", "a-b-c.slice" },
                { "/a.slice.slice/x.service", "a.slice.slice" },
                /* systemd puts a '_' before names that the kernel could mean */
                { "/_cpu.slice/_cpu-batch.slice/x.service", "cpu-batch.slice" },
                { "/__x.slice/x.service", "_x.slice" },
                { "/user-dom\\x2dain.slice/x.service", "" },
                { "/user.slice/user-dom\\x2dain.slice/x.service", "user-dom\\x2dain.slice" },
                /* names that are not made there */
                { "/user.slice/evil.slice/../system.slice/x.service", "user.slice" },
                { "/user.slice/evil.slice/x.service", "user.slice" },
                { "/user.slice/system.slice/x.service", "user.slice" },
                { "/user.slice/user.slice/x.service", "user.slice" },
                { "/user.slice/user-1-2.slice/x.service", "user.slice" },
                { "/user-1000.slice/x.service", "" },
                { "/user.service/user.slice", "" },
                { "/../system.slice/x.service", "" },
                { "/..", "" },
                { "//system.slice/x.service", "" },
                { "/-.slice/system.slice/x.service", "" },
                { "/.slice/x.service", "" },
                { "/system.slice (deleted)", "" },
                { "/system.slice/x.service (deleted)", "system.slice" },
                { "system.slice/x.service", "" },
                { "/system.slice/", "system.slice" },
        };
        char text[512], slice[SLICE_NAME_SIZE];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (unsigned end = 0; end < 2; end++) {
                        snprintf(text, sizeof(text), "0::%s%s", cases[i].path, end ? "\n" : "");
                        assert_int_equal(slice_from_cgroup(text, slice), 0);
                        assert_string_equal(slice, cases[i].slice);
                }
}

static void test_lines(void **state) {
        char slice[SLICE_NAME_SIZE];

        assert_int_equal(slice_from_cgroup("2:cpu:/system.slice/0::/machine.slice/x\n"
                                           "1:name=systemd:/system.slice/x.service\n"
                                           "0::/user.slice/x.service\n",
                                           slice),
                         0);
        assert_string_equal(slice, "user.slice");
        /* the first element of the next line is not part of the path */
        assert_int_equal(slice_from_cgroup("0::/a.slice\n/a-b.slice\n", slice), 0);
        assert_string_equal(slice, "a.slice");
        assert_int_equal(slice_from_cgroup("", slice), -ENODATA);
        assert_string_equal(slice, "");
        assert_int_equal(slice_from_cgroup("1:name=systemd:/system.slice/x.service\n", slice),
                         -ENODATA);
        assert_int_equal(slice_from_cgroup("10::/system.slice/x\n", slice), -ENODATA);
        assert_int_equal(slice_from_cgroup("\n", slice), -ENODATA);
}

static void test_long(void **state) {
        static char text[70000];
        char slice[SLICE_NAME_SIZE];

        strcpy(text, "0::/a.slice/");
        memset(text + strlen(text), 'b', 60000);
        assert_int_equal(slice_from_cgroup(text, slice), 0);
        assert_string_equal(slice, "a.slice");
        strcat(text, ".slice/x.service\n");
        assert_int_equal(slice_from_cgroup(text, slice), 0);
        assert_string_equal(slice, "a.slice");

        /* as deep as names allow: each element is one part longer */
        strcpy(text, "0::");
        for (unsigned n = 1; n <= 140; n++) {
                strcat(text, "/");
                for (unsigned i = 0; i < n; i++)
                        strcat(text, i == 0 ? "a" : "-a");
                strcat(text, ".slice");
        }
        assert_int_equal(slice_from_cgroup(text, slice), 0);
        assert_int_equal(strlen(slice), SLICE_NAME_SIZE - 1);
}

static void test_managed(void **state) {
        assert_true(slice_managed("0::/init.scope\n"));
        assert_true(slice_managed("1:name=systemd:/init.scope\n0::/init.scope\n"));
        assert_true(slice_managed("0::/machine.slice/x.scope/payload/init.scope\n"));
        assert_false(slice_managed("0::/\n"));
        assert_false(slice_managed("0::/init.scope/x\n"));
        assert_false(slice_managed("1:name=systemd:/init.scope\n0::/\n"));
        assert_false(slice_managed("1:name=systemd:/init.scope\n"));
        assert_false(slice_managed("0::init.scope\n"));
        assert_false(slice_managed(""));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),  cmocka_unit_test(test_within),
                cmocka_unit_test(test_paths),  cmocka_unit_test(test_lines),
                cmocka_unit_test(test_long),   cmocka_unit_test(test_managed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
