/* Which files are read, in which order, and what is said of a bad one. */
#undef NDEBUG
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/broker/settings.h"
#include "tests/daemon/broker/harness.h"

#define ID(number) (&(struct account_id){ .uid = (number) })

/* What the tests of the user database remember. */
static struct identities identities;

struct place {
        char dir[64];
        struct settings settings;
};

static void put(const struct place *p, const char *name, const char *text) {
        char path[160];
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", p->dir, name);
        f = fopen(path, "we");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

static void make_place(struct place *p) {
        static const char *const dirs[] = { "usr", "run", "etc", "missing" };

        *p = (struct place){ .settings.n_dirs = 4 };
        snprintf(p->dir, sizeof(p->dir), "/tmp/bitnetd-test-XXXXXX");
        assert_non_null(mkdtemp(p->dir));
        snprintf(p->settings.main, sizeof(p->settings.main), "%s/main.conf", p->dir);
        for (unsigned i = 0; i < 4; i++) {
                snprintf(p->settings.dirs[i], sizeof(p->settings.dirs[i]), "%s/%s/", p->dir,
                         dirs[i]);
                if (i < 3)
                        assert_int_equal(mkdir(p->settings.dirs[i], 0700), 0);
        }
}

static struct config *read_all(const struct place *p) {
        struct config_problem problem;
        struct config *c;

        if (settings_read(&p->settings, &c, &problem) != 0)
                fail_msg("%s:%u: %s", problem.path, problem.line, problem.reason);
        return c;
}

static uint64_t queued(const struct place *p, struct config_origin *ret) {
        struct config_origin origins[_QUOTA_MAX];
        struct config *c = read_all(p);
        struct limits l;

        settings_resolve(c, &identities, ID(4711), &l, origins);
        *ret = origins[QUOTA_MAX_QUEUED_JOBS];
        config_free(c); /* numbers stay valid */
        return l.v[QUOTA_MAX_QUEUED_JOBS];
}

static void test_order(void **state) {
        struct config_origin o;
        struct place p;
        char path[160];

        make_place(&p);
        assert_int_equal(queued(&p, &o), 16);
        put(&p, "main.conf", "[Default]\nMaxQueuedJobs=1\n");
        assert_int_equal(queued(&p, &o), 1);
        put(&p, "usr/50-a.conf", "[Default]\nMaxQueuedJobs=2\n");
        assert_int_equal(queued(&p, &o), 2);
        put(&p, "etc/40-b.conf", "[Default]\nMaxQueuedJobs=3\n"); /* an earlier name */
        assert_int_equal(queued(&p, &o), 2);
        put(&p, "run/50-a.conf", "\n[Default]\nMaxQueuedJobs=4\n"); /* instead of usr's */
        assert_int_equal(queued(&p, &o), 4);
        assert_int_equal(o.line, 3);
        put(&p, "etc/50-a.conf", ""); /* masks both */
        assert_int_equal(queued(&p, &o), 3);
        snprintf(path, sizeof(path), "%s/etc/50-a.conf", p.dir);
        unlink(path);
        assert_int_equal(symlink("/dev/null", path), 0);
        assert_int_equal(queued(&p, &o), 3);
        put(&p, "etc/.hidden.conf", "rubbish");
        put(&p, "etc/60-editor.conf~", "rubbish");
        assert_int_equal(queued(&p, &o), 3);
        remove_tree(p.dir);
}

static void expect_problem(const struct place *p, const char *name, unsigned line,
                           const char *reason) {
        struct config_problem problem;
        struct config *c;
        char path[160];

        assert_int_equal(settings_read(&p->settings, &c, &problem), -EINVAL);
        snprintf(path, sizeof(path), "%s/%s", p->dir, name);
        assert_string_equal(problem.path, path);
        assert_int_equal(problem.line, line);
        assert_string_equal(problem.reason, reason);
}

static void test_problems_name_the_file(void **state) {
        char *big = malloc(70000);
        struct place p;
        char path[160];

        make_place(&p);
        p.settings.required = true;
        expect_problem(&p, "main.conf", 0, "No such file or directory");
        put(&p, "main.conf", "[Default]\nMaxQueuedJobs=1\n");
        put(&p, "etc/x.conf", "[Default]\nMaxQueuedJobs=2\nMaxObjects=many\n");
        expect_problem(&p, "etc/x.conf", 3, "not a number");
        assert_non_null(big);
        memset(big, '\n', 70000);
        big[69999] = '\0';
        put(&p, "etc/x.conf", big);
        expect_problem(&p, "etc/x.conf", 0, "File too large");
        free(big);
        snprintf(path, sizeof(path), "%s/etc/x.conf", p.dir);
        unlink(path);
        assert_int_equal(mkdir(path, 0700), 0);
        expect_problem(&p, "etc/x.conf", 0, "Is a directory");
        remove_tree(p.dir);
}

/* By name and by group, as the user database of this machine says. */
static void test_user_database(void **state) {
        const struct passwd *me = getpwuid(getuid());
        const struct group *group = me ? getgrgid(me->pw_gid) : NULL;
        struct config *c;
        struct limits l;
        struct place p;
        char text[256];

        if (!group)
                fail_msg("uid %u has no entry in the user database", getuid());
        make_place(&p);
        snprintf(text, sizeof(text), "[Group %s]\nWeight=7\nMaxQueuedJobs=7\n", group->gr_name);
        put(&p, "main.conf", text);
        snprintf(text, sizeof(text), "[User %s]\nWeight=8\n", me->pw_name);
        put(&p, "etc/user.conf", text);
        c = read_all(&p);
        settings_resolve(c, &identities, ID(getuid()), &l, NULL);
        assert_int_equal(l.v[QUOTA_WEIGHT], 8);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 7);
        settings_resolve(c, &identities, ID(4000000000), &l, NULL); /* nobody has that one */
        assert_int_equal(l.v[QUOTA_WEIGHT], 100);
        assert_int_equal(l.v[QUOTA_MAX_QUEUED_JOBS], 16);
        config_free(c);
        remove_tree(p.dir);
}

static uint64_t limit_of(const struct config *c, uid_t uid, enum quota_key key) {
        struct limits l;

        settings_resolve(c, &identities, ID(uid), &l, NULL);
        return l.v[key];
}

static struct config *change(struct place *p, uid_t uid, enum quota_key key, const char *value,
                             bool persistent) {
        const struct settings_change changes[] = { { key, value }, { QUOTA_WEIGHT, "9" } };
        struct config_problem problem;
        struct config *c;

        if (settings_change(&p->settings, uid, changes, 2, persistent, &c, &problem) != 0)
                fail_msg("%s: %s", problem.path, problem.reason);
        assert_int_equal(limit_of(c, uid, QUOTA_WEIGHT), 9);
        assert_int_equal(limit_of(c, 99, QUOTA_WEIGHT), 100);
        return c;
}

static void test_changes(void **state) {
        const struct settings_change one = { QUOTA_WEIGHT, "5" };
        struct config_problem problem;
        struct config *c;
        struct place p;
        struct stat st;
        char path[160], text[256];
        FILE *f;

        make_place(&p);
        put(&p, "main.conf", "[User 7]\nMaxQueuedJobs=1\nMaxObjects=10\n");
        c = change(&p, 7, QUOTA_MAX_QUEUED_JOBS, "2", false);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_QUEUED_JOBS), 2);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_OBJECTS), 10);
        config_free(c);
        config_free(change(&p, 8, QUOTA_MAX_QUEUED_JOBS, "3", false));
        c = change(&p, 7, QUOTA_MAX_OBJECTS, "20", false); /* the other one stays */
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_QUEUED_JOBS), 2);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_OBJECTS), 20);
        assert_int_equal(limit_of(c, 8, QUOTA_MAX_QUEUED_JOBS), 3);
        config_free(c);
        c = change(&p, 7, QUOTA_MAX_QUEUED_JOBS, "", false);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_QUEUED_JOBS), 1);
        config_free(c);
        settings_done(&p.settings); /* the next start */
        c = read_all(&p);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_OBJECTS), 10);
        config_free(c);

        /* The last folder is made. */
        c = change(&p, 7, QUOTA_MAX_QUEUED_JOBS, "4", true);
        assert_int_equal(limit_of(c, 7, QUOTA_MAX_QUEUED_JOBS), 4);
        config_free(c);
        snprintf(path, sizeof(path), "%s/missing/90-quota-7.conf", p.dir);
        f = fopen(path, "re");
        assert_non_null(f);
        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
        fclose(f);
        assert_string_equal(text, "[User 7]\nWeight = 9\nMaxQueuedJobs = 4\n");
        config_free(change(&p, 7, QUOTA_MAX_QUEUED_JOBS, "", true));
        assert_int_equal(settings_change(&p.settings, 7,
                                         &(struct settings_change){ QUOTA_WEIGHT, "" }, 1, true, &c,
                                         &problem),
                         0);
        config_free(c);
        assert_int_equal(stat(path, &st), -1); /* nothing left to say */

        put(&p, "etc/x.conf", "rubbish");
        assert_int_equal(settings_change(&p.settings, 7, &one, 1, true, &c, &problem), -EINVAL);
        assert_int_equal(stat(path, &st), -1);
        settings_done(&p.settings);
        remove_tree(p.dir);
}

static int try_change(struct place *p, uid_t uid, enum quota_key key, const char *value,
                      bool persistent, struct config_problem *ret) {
        struct config *c;
        int r = settings_change(&p->settings, uid, &(struct settings_change){ key, value }, 1,
                                persistent, &c, ret);

        return r == 0 ? (config_free(c), 0) : r;
}

/* A change that would make the configuration wrong leaves no trace. */
static void test_bad_changes_change_nothing(void **state) {
        struct config_problem problem;
        char patterns[188];
        struct place p;

        make_place(&p);
        memset(patterns, 'a', sizeof(patterns) - 1);
        patterns[sizeof(patterns) - 1] = '\0';
        for (size_t i = 60; i < sizeof(patterns) - 1; i += 61)
                patterns[i] = ' ';
        for (int persistent = 0; persistent < 2; persistent++) {
                assert_int_equal(try_change(&p, 7, QUOTA_ALLOW_MODELS, patterns, persistent,
                                            &problem),
                                 -EINVAL);
                assert_string_equal(problem.reason, "line is too long");
                assert_int_equal(try_change(&p, 7, QUOTA_WEIGHT, "5", persistent, &problem), 0);
        }
        /* A drop-in that somebody spoiled is mended by a change that takes the line out. */
        put(&p, "missing/90-quota-7.conf", "[User 7]\nWeight = none\n");
        assert_int_equal(try_change(&p, 7, QUOTA_MAX_OBJECTS, "3", true, &problem), -EINVAL);
        assert_string_equal(problem.reason, "not a number");
        assert_int_equal(try_change(&p, 7, QUOTA_WEIGHT, "6", true, &problem), 0);
        settings_done(&p.settings);
        remove_tree(p.dir);
}

/* More users than files are allowed. */
static void see_process_1(struct place *p, const char *cgroup) {
        char path[160];

        p->settings.proc = p->dir;
        snprintf(path, sizeof(path), "%s/1", p->dir);
        mkdir(path, 0700);
        put(p, "1/cgroup", cgroup);
}

/* Limits by slice hold only where slices can be seen. */
static void test_slices(void **state) {
        const struct account_id alice = { 1000, "user.slice" };
        struct config_problem problem;
        struct config *c = NULL;
        struct account_id id;
        struct limits l;
        struct place p;

        make_place(&p);
        p.settings.proc = p.dir;
        put(&p, "main.conf", "[Default]\nWeight=1\n");
        put(&p, "etc/a.conf", "[User 7]\nWeight=2\n\n[Slice user.slice]\nWeight=3\n");
        assert_int_equal(settings_read(&p.settings, &c, &problem), -EINVAL);
        assert_non_null(strstr(problem.path, "/etc/a.conf"));
        assert_int_equal(problem.line, 5);
        assert_non_null(strstr(problem.reason, "50-slices.conf"));
        see_process_1(&p, "0::/\n");
        assert_int_equal(settings_read(&p.settings, &c, &problem), -EINVAL);
        assert_non_null(strstr(problem.reason, "control groups v2"));
        see_process_1(&p, "0::/init.scope\n");

        c = read_all(&p);
        settings_resolve(c, &identities, &alice, &l, NULL);
        assert_int_equal(l.v[QUOTA_WEIGHT], 3);
        settings_resolve(c, &identities, ID(1000), &l, NULL);
        assert_int_equal(l.v[QUOTA_WEIGHT], 1);
        p.settings.config = c;
        assert_true(settings_want_slices(&p.settings));
        settings_account(&p.settings, 1000, "user-1000.slice", &id);
        assert_int_equal(id.uid, 1000);
        assert_string_equal(id.slice, "user.slice");
        settings_account(&p.settings, 1000, "system.slice", &id);
        assert_string_equal(id.slice, "");
        /* Nothing is known of a descriptor that is no socket. */
        assert_true(settings_account_of(&p.settings, STDIN_FILENO, 1000, &id) < 0);
        settings_done(&p.settings);

        put(&p, "etc/a.conf", "");
        p.settings.config = read_all(&p);
        assert_int_equal(settings_account_of(&p.settings, STDIN_FILENO, 1000, &id), 0);
        settings_done(&p.settings);
        remove_tree(p.dir);
}

static void test_many_users(void **state) {
        struct config_problem problem;
        struct place p;

        make_place(&p);
        for (uid_t uid = 1; uid <= LIMIT_CONFIG_FILES + 10; uid++)
                assert_int_equal(try_change(&p, uid, QUOTA_WEIGHT, "5", false, &problem), 0);
        for (uid_t uid = 1; uid <= LIMIT_CONFIG_FILES + 10; uid++)
                assert_int_equal(try_change(&p, uid, QUOTA_WEIGHT, "", false, &problem), 0);
        assert_null(p.settings.runtime);
        remove_tree(p.dir);
}

/* What is kept for good counts at once, and taking back says when there was nothing. */
static void test_layers(void **state) {
        struct config_problem problem;
        struct config *c;
        struct place p;

        make_place(&p);
        assert_int_equal(try_change(&p, 7, QUOTA_TOKENS_PER_DAY, "1000", false, &problem), 0);
        assert_int_equal(try_change(&p, 7, QUOTA_TOKENS_PER_DAY, "50K", true, &problem), 0);
        c = read_all(&p);
        assert_int_equal(limit_of(c, 7, QUOTA_TOKENS_PER_DAY), 50 * 1024);
        config_free(c);
        assert_int_equal(try_change(&p, 7, QUOTA_TOKENS_PER_DAY, "", false, &problem), -EINVAL);
        assert_string_equal(problem.reason, "nothing is set here that could be taken back");
        assert_int_equal(try_change(&p, 7, QUOTA_TOKENS_PER_DAY, "", true, &problem), 0);
        assert_int_equal(try_change(&p, 7, QUOTA_TOKENS_PER_DAY, "", true, &problem), -EINVAL);
        settings_done(&p.settings);
        remove_tree(p.dir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_problems_name_the_file),
                cmocka_unit_test(test_user_database),
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_bad_changes_change_nothing),
                cmocka_unit_test(test_slices),
                cmocka_unit_test(test_many_users),
                cmocka_unit_test(test_layers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
