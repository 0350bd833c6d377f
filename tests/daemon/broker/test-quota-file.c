/* The file of what users have used: it comes back, and a write that failed is tried again. */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/broker/quota_file.h"
#include "policy/quota_key.h"
#include "tests/daemon/broker/harness.h"

#define ID(number) (&(struct account_id){ .uid = (number) })

enum { SOON_USEC = 20000 };

static struct quota_clock clocks(void *userdata) {
        return (struct quota_clock){ .monotonic = 1000000, .realtime = UINT64_C(1700000000000000) };
}

static void resolve(const struct account_id *id, struct limits *ret, void *userdata) {
        *ret = limits_default();
}

static void on_changed(void *userdata) {
        struct quota_file **f = userdata;

        if (*f)
                quota_file_touch(*f);
}

struct place {
        char dir[64], file[80], temporary[80];
        sd_event *event;
        struct accounts *accounts;
        struct quota_file *f;
};

static void place_open(struct place *p) {
        struct accounts_settings settings = { .resolve = resolve, .now = clocks,
                                              .changed = on_changed, .userdata = &p->f };

        assert_int_equal(accounts_new(&p->accounts, &settings), 0);
        assert_int_equal(quota_file_new(&p->f, p->event, p->dir, SOON_USEC, p->accounts), 0);
}

static void place_close(struct place *p) {
        p->f = quota_file_free(p->f);
        p->accounts = accounts_free(p->accounts);
}

static void place_new(struct place *p) {
        *p = (struct place){};
        snprintf(p->dir, sizeof(p->dir), "/tmp/bitnetd-test-XXXXXX");
        assert_non_null(mkdtemp(p->dir));
        snprintf(p->file, sizeof(p->file), "%s/quota", p->dir);
        snprintf(p->temporary, sizeof(p->temporary), "%s/quota~", p->dir);
        assert_int_equal(sd_event_new(&p->event), 0);
        place_open(p);
}

static void place_done(struct place *p) {
        place_close(p);
        sd_event_unref(p->event);
        remove_tree(p->dir);
}

static void use_cpu(struct place *p, uint64_t usec) {
        struct account *account;

        assert_int_equal(accounts_get(p->accounts, ID(7), &account), 0);
        account_add_cpu(account, usec);
        account_unref(account);
}

static void run(struct place *p) {
        while (sd_event_run(p->event, 2 * UINT64_C(1000000)) > 0)
                if (access(p->file, F_OK) == 0)
                        return;
}

static uint64_t used_cpu(struct place *p) {
        struct account_record record;

        return accounts_save(p->accounts, &record, 1) == 1 ? record.cpu_usec : 0;
}

static void test_comes_back(void **state) {
        struct place p;

        place_new(&p);
        use_cpu(&p, 5000);
        run(&p);
        assert_int_equal(access(p.file, F_OK), 0); /* before the end */
        place_close(&p);
        place_open(&p);
        assert_int_equal(used_cpu(&p), 5000);
        place_done(&p);
}

static void test_tries_again(void **state) {
        struct place p;

        place_new(&p);
        assert_int_equal(mkdir(p.temporary, 0700), 0); /* in the way */
        use_cpu(&p, 5000);
        assert_true(sd_event_run(p.event, 2 * UINT64_C(1000000)) > 0);
        assert_int_equal(access(p.file, F_OK), -1);
        assert_int_equal(rmdir(p.temporary), 0);
        run(&p);
        assert_int_equal(access(p.file, F_OK), 0);
        place_done(&p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_comes_back),
                cmocka_unit_test(test_tries_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
