/* Quotas in the running broker: who is refused, with which numbers, what a restart remembers. */
#undef NDEBUG
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/error.h"
#include "tests/daemon/broker/harness.h"

#define SELF ((uid_t)-1)

/* One line said, one line heard. */
static const char *ask(int fd, const char *line, char buf[128]) {
        say(fd, line);
        return hear(fd, buf, 128);
}

static void admitted(int fd, const char *line) {
        char buf[128];

        if (strncmp(ask(fd, line, buf), "admitted ", 9) != 0)
                fail_msg("'%s' after '%s'", buf, line);
}

/* Returns when to try again, in milliseconds. */
static unsigned refused(int fd, const char *line, enum error_code code, uint64_t value,
                        uint64_t limit) {
        char buf[128], expected[64];
        unsigned retry;

        snprintf(expected, sizeof(expected), "refused %u %" PRIu64 " %" PRIu64 " ", code, value,
                 limit);
        if (strncmp(ask(fd, line, buf), expected, strlen(expected)) != 0)
                fail_msg("'%s' after '%s', not '%s'", buf, line, expected);
        assert_int_equal(sscanf(buf + strlen(expected), "%u", &retry), 1);
        return retry;
}

static void test_requests_of_a_minute(void **state) {
        struct daemon d;
        unsigned retry;
        int c;

        daemon_start(&d, NULL, "[Default]\nRequestsPerMinute = 3\n");
        c = api_connect(&d, SELF);
        for (unsigned i = 0; i < 3; i++) {
                admitted(c, "job\n");
                say(c, "end\n");
        }
        retry = refused(c, "job\n", ERROR_RATE_LIMITED, 4, 3);
        assert_in_range(retry, 10000, 20000); /* one every twenty seconds */
        close(c);
        daemon_stop(&d);
}

static void test_tokens_of_a_minute_come_back(void **state) {
        struct daemon d;
        int a, b;

        daemon_start(&d, NULL, "[Default]\nTokensPerMinute = 1000\n");
        a = api_connect(&d, SELF);
        b = api_connect(&d, SELF);
        admitted(a, "job 900\n");
        assert_in_range(refused(b, "job 400\n", ERROR_TOKENS_LIMITED, 1300, 1000), 10000, 18000);
        say(a, "end 100\n");
        admitted(a, "job 800\n"); /* it was reserved and not used */
        say(a, "end 800\n");
        refused(a, "job 300\n", ERROR_TOKENS_LIMITED, 1200, 1000);
        close(a);
        close(b);
        daemon_stop(&d);
}

static void test_who_may_what(void **state) {
        struct daemon d;
        int c;

        daemon_start(&d, NULL, "[Default]\nAllowPriority = interactive\n"
                               "[User 4]\nAllowVerbs = summarize complete\n"
                               "[User 5]\nAllowModels = beta* gamma\n"
                               "[User 6]\nAllowPriority = background\nMaxContextTokens = 64\n"
                               "[User 7]\nAllowPriority = none\n");
        chmod(d.api, 0666);
        c = api_connect(&d, 3);
        refused(c, "background\n", ERROR_NOT_AUTHORIZED, 0, 0);
        admitted(c, "job\n");
        close(c);
        for (uid_t uid = 4; uid < 8; uid++) {
                c = api_connect(&d, uid);
                if (uid == 6) {
                        admitted(c, "job 64\n"); /* in the background */
                        say(c, "end\n");
                        refused(c, "job 65\n", ERROR_CONTEXT_TOO_LONG, 65, 64);
                } else
                        assert_int_equal(refused(c, "job\n", ERROR_NOT_AUTHORIZED, 0, 0), 0);
                close(c);
        }
        daemon_stop(&d);
}

static void test_budget_survives_a_restart(void **state) {
        char path[128];
        struct daemon d;
        struct stat st;
        int c;

        daemon_start(&d, NULL, "[Default]\nTokensPerDay = 1000\n");
        c = api_connect(&d, SELF);
        admitted(c, "job 700\n");
        say(c, "end 600\n");
        assert_int_equal(refused(c, "job 1001\n", ERROR_BUDGET_TOKENS, 1601, 1000), 0);
        admitted(c, "job 400\n"); /* in the middle of it, nothing of it is lost */
        close(c);
        daemon_restart(&d);
        snprintf(path, sizeof(path), "%s/state/quota", d.dir);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 16 + 64);
        assert_int_equal(st.st_mode & 07777, 0600);
        c = api_connect(&d, SELF);
        assert_true(refused(c, "job 401\n", ERROR_BUDGET_TOKENS, 1001, 1000) > 0);
        admitted(c, "job 400\n");
        close(c);
        daemon_stop(&d);
}

/* A worker that dies is charged for what it told last, here nothing, and reserves nothing. */
static void test_a_dead_worker_reserves_nothing(void **state) {
        struct daemon d;
        char buf[64];
        pid_t pid;
        int a, b;

        daemon_start(&d, NULL, "[Default]\nTokensPerDay = 1000\nTokensPerMinute = 1000\n");
        a = api_connect(&d, SELF);
        b = api_connect(&d, SELF);
        pid = worker_pid(b, NULL, NULL);
        admitted(a, "job 1000\n");
        say(b, "exit\n");
        hear_all(a, buf, sizeof(buf));
        wait_until_gone(pid);
        close(a);
        close(b);
        a = api_connect(&d, SELF);
        admitted(a, "job 1000\n");
        close(a);
        daemon_stop(&d);
}

static void test_a_bad_file_is_left_out(void **state) {
        static const struct account_file {
                char magic[8];
                uint32_t count, reserved;
        } bad[] = { { "bnquota2", 3, 0 }, { "bnquota2", 0, 1 }, { "bnquota1", 0, 0 } };
        char path[128], log[4096];
        struct daemon d;
        FILE *f;

        daemon_start(&d, NULL, "[Default]\nTokensPerDay = 1000\n");
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                int c;

                daemon_pause(&d);
                snprintf(path, sizeof(path), "%s/log", d.dir);
                assert_int_equal(truncate(path, 0), 0);
                snprintf(path, sizeof(path), "%s/state/quota", d.dir);
                f = fopen(path, "we");
                assert_int_equal(fwrite(&bad[i], sizeof(bad[i]), 1, f), 1);
                fclose(f);
                daemon_resume(&d);
                c = api_connect(&d, SELF);
                admitted(c, "job 1000\n");
                close(c);
                snprintf(path, sizeof(path), "%s/log", d.dir);
                f = fopen(path, "re");
                log[fread(log, 1, sizeof(log) - 1, f)] = '\0';
                fclose(f);
                assert_non_null(strstr(log, "cannot keep what was used today errno=74"));
        }
        daemon_stop(&d);
}

/* New limits count for what comes; what was admitted goes on. */
static void test_reload_keeps_what_was_admitted(void **state) {
        char path[128];
        struct daemon d;
        FILE *f;
        int a, b;

        daemon_start(&d, NULL, "[Default]\nMaxConcurrentJobs = 2\nTokensPerDay = 1000\n");
        a = api_connect(&d, SELF);
        b = api_connect(&d, SELF);
        admitted(a, "job 500\n");
        admitted(b, "job 500\n");
        snprintf(path, sizeof(path), "%s/conf.d", d.dir);
        assert_int_equal(mkdir(path, 0700), 0);
        strcat(path, "/less.conf");
        f = fopen(path, "we");
        fputs("[User 0]\nMaxConcurrentJobs = 1\nMaxQueuedJobs = 0\nTokensPerDay = 600\n", f);
        fclose(f);
        kill(d.pid, SIGHUP);
        wait_for_log(&d, "configuration reloaded");
        say(a, "end 500\n");
        say(b, "end 50\n");
        refused(b, "job 51\n", ERROR_BUDGET_TOKENS, 601, 600);
        admitted(b, "job 50\n");
        refused(a, "job 0\n", ERROR_QUEUE_FULL, 1, 1);
        close(a);
        close(b);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_requests_of_a_minute),
                cmocka_unit_test(test_tokens_of_a_minute_come_back),
                cmocka_unit_test(test_who_may_what),
                cmocka_unit_test(test_budget_survives_a_restart),
                cmocka_unit_test(test_a_dead_worker_reserves_nothing),
                cmocka_unit_test(test_a_bad_file_is_left_out),
                cmocka_unit_test(test_reload_keeps_what_was_admitted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
