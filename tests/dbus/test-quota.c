/* Quotas on the bus: who sees what, what can be set by whom, and how refusals are called. */
#undef NDEBUG
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/daemon/broker/harness.h"

#define NAME "org.bitnetd.Bitnetd1"
#define ROOT "/org/bitnetd/Bitnetd1"
#define ERROR_NAME(x) NAME ".Error." x

static sd_bus *connect_as(const struct daemon *d, uid_t uid) {
        char address[160];
        sd_bus *bus;

        chmod(d->bus, 0666);
        snprintf(address, sizeof(address), "unix:path=%s", d->bus);
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_address(bus, address) >= 0);
        assert_int_equal(syscall(SYS_setresuid, -1, uid, -1), 0);
        assert_true(sd_bus_start(bus) >= 0);
        assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
        return bus;
}

/* Generate with this input: the output and the job's path, or -1 and the error's name and text. */
static int generate(sd_bus *bus, const char *text, char path[128], char error[256]) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int input = memfd_create("input", MFD_CLOEXEC), output = -1, r;
        const char *p;

        assert_int_equal(write(input, text, strlen(text)), (ssize_t)strlen(text));
        lseek(input, 0, SEEK_SET);
        r = sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Generate", &e, &reply, "sha{sv}",
                               "", input, 0);
        if (r >= 0) {
                assert_true(sd_bus_message_read(reply, "oh", &p, &output) >= 0);
                snprintf(path, 128, "%s", p);
                output = fcntl(output, F_DUPFD_CLOEXEC, 3);
        } else
                snprintf(error, 256, "%s %s", e.name, e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        close(input);
        return output;
}

static void ends_with(sd_bus *bus, const char *path, const char *error) {
        char *value = NULL;

        assert_true(sd_bus_call_method(bus, NAME, path, NAME ".Job", "Wait", NULL, NULL, "") >= 0);
        assert_true(sd_bus_get_property_string(bus, NAME, path, NAME ".Job", "ErrorName", NULL,
                                               &value) >= 0);
        assert_string_equal(value, error);
        free(value);
}

/* A number in a dictionary of a Quota object; UINT64_MAX - 1 when the key is missing. */
static uint64_t entry(sd_bus *bus, uid_t uid, const char *property, const char *key) {
        uint64_t value = UINT64_MAX - 1;
        sd_bus_message *m = NULL;
        const char *name, *type;
        char path[64];

        snprintf(path, sizeof(path), ROOT "/quota/%u", uid);
        assert_true(sd_bus_get_property(bus, NAME, path, NAME ".Quota", property, NULL, &m,
                                        "a{sv}") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &name) > 0);
                assert_true(sd_bus_message_peek_type(m, NULL, &type) > 0);
                if (strcmp(name, key) == 0 && strcmp(type, "t") == 0)
                        assert_true(sd_bus_message_read(m, "v", "t", &value) > 0);
                else
                        assert_true(sd_bus_message_skip(m, "v") > 0);
                sd_bus_message_exit_container(m);
        }
        sd_bus_message_unref(m);
        return value;
}

static uint64_t property(sd_bus *bus, uid_t uid, const char *name, char type) {
        uint64_t value = 0;
        char path[64];

        snprintf(path, sizeof(path), ROOT "/quota/%u", uid);
        assert_true(sd_bus_get_property_trivial(bus, NAME, path, NAME ".Quota", name, NULL, type,
                                                &value) >= 0);
        return value;
}

/* SetQuota with one key; NULL or the expected error. */
static void set(sd_bus *bus, uid_t uid, const char *key, const char *value, bool persistent,
                const char *error, const char *text) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "SetQuota", &e, NULL,
                                   "ua{sv}b", uid, 1, key, "s", value, persistent);

        if (!error && r < 0)
                fail_msg("%s: %s", e.name, e.message);
        if (error) {
                assert_true(r < 0);
                assert_string_equal(e.name, error);
                if (!strstr(e.message, text))
                        fail_msg("'%s' is not in '%s'", text, e.message);
        }
        sd_bus_error_free(&e);
}

static void test_refusals_have_names(void **state) {
        char path[128], error[256] = "";
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, "[Default]\nRequestsPerMinute = 3\nTokensPerDay = 4010\n"
                               "[User 4]\nAllowVerbs = summarize\n");
        bus = connect_as(&d, 0);
        /* promises 5 + 4 * 1000 each, costs 5 + 4 * 3 */
        for (unsigned i = 0; i < 3; i++) {
                int output = generate(bus, "ok", path, error);

                assert_true(output >= 0);
                ends_with(bus, path, i == 0 ? "" : ERROR_NAME("BudgetExhausted"));
                close(output);
        }
        assert_int_equal(generate(bus, "ok", path, error), -1);
        assert_non_null(strstr(error, ERROR_NAME("RateLimited") " "));
        assert_non_null(strstr(error, "(value 4, limit 3 requests; try again in "));
        assert_int_equal(entry(bus, 0, "Used", "RequestsPerMinute"), 3);
        assert_int_equal(entry(bus, 0, "Used", "TokensPerDay"), 17);
        assert_true(property(bus, 0, "NextAllowedUSec", 't') > 0);
        sd_bus_flush_close_unref(bus);
        bus = connect_as(&d, 4);
        assert_int_equal(generate(bus, "ok", path, error), -1);
        assert_non_null(strstr(error, ERROR_NAME("NotAuthorized") " "));
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void test_who_sees_what(void **state) {
        static const char *const strange[] = { "/quota/6", "/quota/05", "/quota/x", "/quota/-1",
                                               "/quota/4294967295", "/quota/99999999999999999999" };
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        char path[64];
        struct daemon d;
        uint32_t uid;
        sd_bus *bus;

        daemon_start(&d, NULL, "[User 5]\nWeight = 77\nMaxQueuedJobs = 3\n");
        bus = connect_as(&d, 5);
        assert_int_equal(property(bus, 5, "Weight", 'u'), 77);
        assert_int_equal(property(bus, 5, "UID", 'u'), 5);
        assert_int_equal(entry(bus, 5, "Limits", "MaxQueuedJobs"), 3);
        assert_int_equal(entry(bus, 5, "Limits", "TokensPerDay"), UINT64_MAX);
        assert_int_equal(entry(bus, 5, "Used", "MaxConnections"), 1);
        assert_int_equal(entry(bus, 5, "Used", "Weight"), UINT64_MAX - 1); /* no sum */
        assert_int_equal(entry(bus, 5, "Used", "TokensPerMinute"), UINT64_MAX - 1);
        assert_int_equal(property(bus, 5, "ResetUSec", 't') % UINT64_C(86400000000), 0);
        assert_int_equal(property(bus, 5, "NextAllowedUSec", 't'), 0);
        for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
                snprintf(path, sizeof(path), ROOT "%s", strange[i]);
                assert_true(sd_bus_get_property(bus, NAME, path, NAME ".Quota", "Limits", &e, &m,
                                                "a{sv}") < 0);
                /* No name of an object path: not even a question to the service. */
                if (strchr(strange[i], '-'))
                        assert_string_equal(e.name, SD_BUS_ERROR_INVALID_ARGS);
                else
                        assert_string_equal(e.name, ERROR_NAME("NoSuchObject"));
                sd_bus_error_free(&e);
        }
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "GetQuota", &e, &m, "u",
                                       6) < 0);
        assert_string_equal(e.name, ERROR_NAME("NotAuthorized"));
        sd_bus_error_free(&e);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "GetQuota", NULL, &m, "u",
                                       UINT32_MAX) >= 0);
        assert_true(sd_bus_message_has_signature(m, "a{sv}"));
        sd_bus_message_unref(m);
        set(bus, 5, "Weight", "10000", false, ERROR_NAME("NotAuthorized"), "Not allowed");
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Reload", &e, NULL, "") <
                    0);
        assert_string_equal(e.name, ERROR_NAME("NotAuthorized"));
        sd_bus_error_free(&e);
        sd_bus_flush_close_unref(bus);
        bus = connect_as(&d, 0);
        for (uid = 0; uid < 10; uid++)
                assert_int_equal(property(bus, uid, "Weight", 'u'), uid == 5 ? 77 : 100);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

/* quota/UID/SLICE; NULL: it is as if there were none. */
static void in_slice(sd_bus *bus, const char *name, const char *slice) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char *value = NULL, path[160];
        int r;

        snprintf(path, sizeof(path), ROOT "/quota/%s", name);
        r = sd_bus_get_property_string(bus, NAME, path, NAME ".Quota", "Slice", &e, &value);
        if (slice) {
                assert_true(r >= 0);
                assert_string_equal(value, slice);
        } else
                assert_string_equal(e.name, ERROR_NAME("NoSuchObject"));
        sd_bus_error_free(&e);
        free(value);
}

/* What a uid has in a slice; here no section names one. */
static void test_slices_have_paths(void **state) {
        struct daemon d;
        sd_bus *bus;

        daemon_start(&d, NULL, "[User 5]\nWeight = 77\n");
        bus = connect_as(&d, 5);
        in_slice(bus, "5", "");
        in_slice(bus, "5/user_2eslice", "user.slice");
        in_slice(bus, "5/user_2d5_2eslice", "user-5.slice");
        in_slice(bus, "5/a_5cx2db_2eslice", "a\\x2db.slice");
        in_slice(bus, "6/user_2eslice", NULL);
        in_slice(bus, "5/user", NULL);
        in_slice(bus, "5/_2eslice", NULL);
        in_slice(bus, "5/a_2fb_2eslice", NULL);
        in_slice(bus, "5/a_00_2eslice", NULL);
        in_slice(bus, "5/_", NULL);
        in_slice(bus, "5/user_2eslice/x", NULL);
        in_slice(bus, "4294967295/user_2eslice", NULL);
        in_slice(bus, "999999999999999999999999999999/user_2eslice", NULL);
        in_slice(bus, "5/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_2eslice", NULL); /* 40 bytes */
        sd_bus_flush_close_unref(bus);
        bus = connect_as(&d, 0);
        in_slice(bus, "5/user_2eslice", "user.slice");
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static void assert_origin(sd_bus *bus, uid_t uid, const char *key, const char *section,
                          const char *file, unsigned line) {
        sd_bus_message *m = NULL;
        const char *name, *s, *f;
        char path[64];
        uint32_t l;
        bool seen = false;

        snprintf(path, sizeof(path), ROOT "/quota/%u", uid);
        assert_true(sd_bus_get_property(bus, NAME, path, NAME ".Quota", "Origins", NULL, &m,
                                        "a{s(ssu)}") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{s(ssu)}") > 0);
        while (sd_bus_message_read(m, "{s(ssu)}", &name, &s, &f, &l) > 0)
                if (strcmp(name, key) == 0) {
                        assert_string_equal(s, section);
                        if (!strstr(f, file))
                                fail_msg("'%s' is not in '%s'", file, f);
                        assert_int_equal(l, line);
                        seen = true;
                }
        assert_true(seen);
        sd_bus_message_unref(m);
}

static void test_set_and_reload(void **state) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char path[128];
        struct daemon d;
        struct stat st;
        sd_bus *bus;
        FILE *f;

        daemon_start(&d, NULL, "[Default]\nMaxQueuedJobs = 5\n");
        bus = connect_as(&d, 0);
        assert_origin(bus, 5, "MaxQueuedJobs", "Default", "/conf", 2);
        assert_origin(bus, 5, "Weight", "", "", 0);
        set(bus, 5, "MaxQueuedJobs", "6", false, NULL, NULL);
        assert_int_equal(entry(bus, 5, "Limits", "MaxQueuedJobs"), 6);
        assert_int_equal(entry(bus, 6, "Limits", "MaxQueuedJobs"), 5);
        assert_origin(bus, 5, "MaxQueuedJobs", "User 5", "until the next start", 2);
        set(bus, 5, "CPUTimePerDay", "2h", true, NULL, NULL);
        assert_int_equal(entry(bus, 5, "Limits", "CPUTimePerDay"), UINT64_C(7200000000));
        assert_origin(bus, 5, "CPUTimePerDay", "User 5", "/conf.d/90-quota-5.conf", 2);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "SetQuota", NULL, NULL,
                                       "ua{sv}b", 5, 3, "TokensPerDay", "t", UINT64_C(1234),
                                       "AllowVerbs", "as", 2, "chat", "summarize", "Weight", "u",
                                       50, 1) >= 0);
        assert_int_equal(entry(bus, 5, "Limits", "TokensPerDay"), 1234);
        assert_int_equal(property(bus, 5, "Weight", 'u'), 50);

        set(bus, 5, "MaxQueuedJobs", "many", false, ERROR_NAME("InvalidInput"),
            "(MaxQueuedJobs: not a number)");
        set(bus, 5, "AllowModels", "x\n[Default]\nWeight = 1", true, ERROR_NAME("InvalidInput"),
            "AllowModels");
        set(bus, 5, "Colour", "red", false, ERROR_NAME("InvalidInput"), "not valid");
        set(bus, UINT32_MAX, "Weight", "5", false, ERROR_NAME("InvalidInput"), "not valid");

        snprintf(path, sizeof(path), "%s/conf.d/99-bad.conf", d.dir);
        f = fopen(path, "we");
        fputs("[Default]\n\nWhat = 1\n", f);
        fclose(f);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Reload", &e, NULL, "") <
                    0);
        assert_string_equal(e.name, ERROR_NAME("InvalidConfiguration"));
        assert_non_null(strstr(e.message, "/conf.d/99-bad.conf:3: unknown key)"));
        sd_bus_error_free(&e);
        set(bus, 6, "Weight", "5", true, ERROR_NAME("InvalidConfiguration"), "99-bad.conf:3");
        assert_int_equal(property(bus, 6, "Weight", 'u'), 100);
        assert_int_equal(entry(bus, 5, "Limits", "TokensPerDay"), 1234);
        unlink(path);
        snprintf(path, sizeof(path), "%s/conf.d/90-quota-6.conf", d.dir);
        assert_int_equal(stat(path, &st), -1);
        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "Reload", NULL, NULL,
                                       "") >= 0);
        assert_int_equal(entry(bus, 5, "Limits", "MaxQueuedJobs"), 6); /* outlives a reload */
        sd_bus_flush_close_unref(bus);

        daemon_restart(&d);
        bus = connect_as(&d, 0);
        assert_int_equal(entry(bus, 5, "Limits", "MaxQueuedJobs"), 5); /* but no restart */
        assert_int_equal(entry(bus, 5, "Limits", "CPUTimePerDay"), UINT64_C(7200000000));
        assert_int_equal(property(bus, 5, "Weight", 'u'), 50);
        set(bus, 5, "Weight", "", true, NULL, NULL);
        assert_int_equal(property(bus, 5, "Weight", 'u'), 100);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

static const char *reason_of(sd_bus *bus, const char *use_case, char buf[64]) {
        sd_bus_message *m = NULL;
        const char *reason, *text;
        int available;

        assert_true(sd_bus_call_method(bus, NAME, ROOT, NAME ".Manager", "GetAvailability", NULL,
                                       &m, "sa{sv}", use_case, 0) >= 0);
        assert_true(sd_bus_message_read(m, "bss", &available, &reason, &text) > 0);
        assert_int_equal(available, strcmp(reason, "available") == 0);
        assert_int_equal(available, text[0] == '\0');
        snprintf(buf, 64, "%s", reason);
        sd_bus_message_unref(m);
        return buf;
}

static void test_availability(void **state) {
        char path[128], error[256], buf[64];
        struct daemon d;
        sd_bus *bus;
        int output;

        daemon_start(&d, NULL, "[Default]\nRequestsPerMinute = 1\nAllowVerbs = chat\n");
        bus = connect_as(&d, 0);
        for (unsigned i = 0; strcmp(reason_of(bus, "chat", buf), "available") != 0; i++) {
                assert_string_equal(buf, "model-loading");
                wait_a_little(i);
        }
        assert_string_equal(reason_of(bus, "language.summarize", buf), "policy");
        assert_string_equal(reason_of(bus, "sing", buf), "unsupported");
        output = generate(bus, "ok", path, error);
        assert_true(output >= 0);
        assert_string_equal(reason_of(bus, "chat", buf), "quota");
        close(output);
        sd_bus_flush_close_unref(bus);
        daemon_stop(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals_have_names),
                cmocka_unit_test(test_who_sees_what),
                cmocka_unit_test(test_slices_have_paths),
                cmocka_unit_test(test_set_and_reload),
                cmocka_unit_test(test_availability),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
