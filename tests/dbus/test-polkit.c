/* Administration by polkit, on a message bus of our own with an authority that answers as a test
 * wants: yes, no, nonsense, never, or when the caller has left. Everything runs in one thread, so
 * the order of events is the test's. Needs root, to be several users. */
#undef NDEBUG
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/limits.h"
#include "tests/daemon/broker/harness.h"

#define NAME "org.bitnetd.Bitnetd1"
#define ROOT "/org/bitnetd/Bitnetd1"
#define ERROR_NAME(x) NAME ".Error." x
#define POLKIT "org.freedesktop.PolicyKit1"

enum { CALLER = 5, OTHER = 6, ASKED_MAX = 32, PATIENCE_MS = 30000 };

static const char bus_config[] =
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" "
        "\"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig>"
        "<type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>"
        "<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>"
        "<allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>"
        "</policy></busconfig>";

struct authority {
        sd_bus *bus;
        sd_bus_message *asked[ASKED_MAX];
        unsigned n_asked, n_taken_back;
        char subject[64], action[64], cancel_id[64];
        uint32_t flags;
        bool yes_when_gone;          /* the mistake of CVE-2021-3560 */
};

struct scene {
        struct daemon d;
        pid_t dbus;
        char dir[64], path[96];
        struct authority authority;
        sd_bus *root, *caller;
        char result[128];            /* of the caller's last call: "ok" or an error's name */
};

static void nap(unsigned ms) {
        nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

static void start_bus(struct scene *s) {
        char file[128], text[1024];
        FILE *f;

        snprintf(s->dir, sizeof(s->dir), "/tmp/bitnetd-polkit-XXXXXX");
        assert_non_null(mkdtemp(s->dir));
        assert_int_equal(chmod(s->dir, 0755), 0);
        snprintf(s->path, sizeof(s->path), "%s/bus", s->dir);
        snprintf(file, sizeof(file), "%s/bus.conf", s->dir);
        f = fopen(file, "we");
        assert_non_null(f);
        fprintf(f, bus_config, s->path);
        fclose(f);
        s->dbus = fork();
        assert_true(s->dbus >= 0);
        if (s->dbus == 0) {
                prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
                quiet();
                snprintf(text, sizeof(text), "--config-file=%s", file);
                execlp("dbus-daemon", "dbus-daemon", text, "--nofork", "--nopidfile", NULL);
                _exit(77);
        }
        for (unsigned i = 0; access(s->path, F_OK) < 0 && i < 2000; i++)
                nap(5);
        snprintf(text, sizeof(text), "unix:path=%s", s->path);
        setenv("DBUS_SESSION_BUS_ADDRESS", text, 1);
}

static sd_bus *connect_as(const struct scene *s, uid_t uid) {
        char address[128];
        sd_bus *bus;

        snprintf(address, sizeof(address), "unix:path=%s", s->path);
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_address(bus, address) >= 0);
        assert_true(sd_bus_set_bus_client(bus, true) >= 0);
        assert_int_equal(syscall(SYS_setresuid, -1, uid, -1), 0);
        assert_true(sd_bus_start(bus) >= 0);
        assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
        return bus;
}

static bool is_connected(sd_bus *bus, const char *name) {
        sd_bus_message *m = NULL;
        bool found = sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                        "org.freedesktop.DBus", "GetNameOwner", NULL, &m, "s",
                                        name) >= 0;

        sd_bus_message_unref(m);
        return found;
}

static void answer(struct authority *a, unsigned i, bool yes, bool challenge) {
        assert_true(sd_bus_reply_method_return(a->asked[i], "(bba{ss})", yes, challenge, 0) >= 0);
        a->asked[i] = sd_bus_message_unref(a->asked[i]);
}

static int on_check(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct authority *a = userdata;
        const char *kind, *key, *subject, *action, *cancel_id;

        assert_true(a->n_asked < ASKED_MAX);
        assert_true(sd_bus_message_read(m, "(sa{sv})sa{ss}us", &kind, 1, &key, "s", &subject,
                                        &action, 0, &a->flags, &cancel_id) > 0);
        assert_string_equal(kind, "system-bus-name");
        assert_string_equal(key, "name");
        snprintf(a->subject, sizeof(a->subject), "%s", subject);
        snprintf(a->action, sizeof(a->action), "%s", action);
        snprintf(a->cancel_id, sizeof(a->cancel_id), "%s", cancel_id);
        sd_bus_message_unref(a->asked[a->n_asked]);
        a->asked[a->n_asked++] = sd_bus_message_ref(m);
        if (a->yes_when_gone) {
                answer(a, a->n_asked - 1, !is_connected(a->bus, subject), false);
                a->n_asked--;
        }
        return 1;
}

static int on_take_back(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct authority *a = userdata;
        const char *id;

        assert_true(sd_bus_message_read(m, "s", &id) > 0);
        assert_string_equal(id, a->cancel_id);
        a->n_taken_back++;
        return sd_bus_reply_method_return(m, NULL);
}

/* Not a table of methods: libsystemd would refuse to send answers of the wrong type. */
static int on_question(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        if (sd_bus_message_is_method_call(m, POLKIT ".Authority", "CheckAuthorization"))
                return on_check(m, userdata, e);
        return on_take_back(m, userdata, e);
}

static void start_authority(struct scene *s) {
        struct authority *a = &s->authority;

        a->bus = connect_as(s, 0);
        assert_true(sd_bus_add_object(a->bus, NULL, "/org/freedesktop/PolicyKit1/Authority",
                                      on_question, a) >= 0);
        assert_true(sd_bus_request_name(a->bus, POLKIT, 0) >= 0);
}

static void stop_authority(struct scene *s) {
        for (unsigned i = 0; i < ASKED_MAX; i++)
                sd_bus_message_unref(s->authority.asked[i]);
        sd_bus_flush_close_unref(s->authority.bus);
        s->authority = (struct authority){};
}

static void scene_start(struct scene *s, const char *config) {
        *s = (struct scene){};
        start_bus(s);
        daemon_start(&s->d, NULL, config);
        start_authority(s);
        s->root = connect_as(s, 0);
        s->caller = connect_as(s, CALLER);
        for (unsigned i = 0; !is_connected(s->root, NAME) && i < 2000; i++)
                nap(5);
}

static void scene_stop(struct scene *s) {
        stop_authority(s);
        sd_bus_flush_close_unref(s->caller);
        sd_bus_flush_close_unref(s->root);
        kill(s->dbus, SIGTERM);
        waitpid(s->dbus, NULL, 0);
        daemon_stop(&s->d);
        remove_tree(s->dir);
        unsetenv("DBUS_SESSION_BUS_ADDRESS");
}

/* Lets everybody do what is there to do. */
static void turn(struct scene *s) {
        bool busy = true;

        while (busy) {
                busy = s->authority.bus && sd_bus_process(s->authority.bus, NULL) > 0;
                busy |= s->caller && sd_bus_process(s->caller, NULL) > 0;
        }
        nap(1);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct scene *s = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(m);

        snprintf(s->result, sizeof(s->result), "%s", error ? error->name : "ok");
        return 0;
}

static void send_call(struct scene *s, sd_bus_message *m, bool interactive) {
        s->result[0] = '\0';
        assert_true(sd_bus_message_set_allow_interactive_authorization(m, interactive) >= 0);
        assert_true(sd_bus_call_async(s->caller, NULL, m, on_reply, s, UINT64_MAX) >= 0);
        assert_true(sd_bus_flush(s->caller) >= 0);
        sd_bus_message_unref(m);
}

static sd_bus_message *manager_call(struct scene *s, const char *method) {
        sd_bus_message *m;

        assert_true(sd_bus_message_new_method_call(s->caller, &m, NAME, ROOT, NAME ".Manager",
                                                   method) >= 0);
        return m;
}

static void send_set(struct scene *s, const char *weight, bool interactive) {
        sd_bus_message *m = manager_call(s, "SetQuota");

        assert_true(sd_bus_message_append(m, "ua{sv}b", OTHER, 1, "Weight", "s", weight, 0) >= 0);
        send_call(s, m, interactive);
}

static void wait_asked(struct scene *s, unsigned n) {
        for (unsigned i = 0; s->authority.n_asked < n && i < PATIENCE_MS; i++)
                turn(s);
        assert_int_equal(s->authority.n_asked, n);
}

static void expect(struct scene *s, const char *result) {
        for (unsigned i = 0; !s->result[0] && i < PATIENCE_MS; i++)
                turn(s);
        assert_string_equal(s->result, result);
}

static void send_set_and_wait(struct scene *s, const char *weight, bool interactive) {
        s->authority.n_asked = 0;
        send_set(s, weight, interactive);
        wait_asked(s, 1);
}

static unsigned weight(const struct scene *s) {
        uint32_t value = 0;

        assert_true(sd_bus_get_property_trivial(s->root, NAME, ROOT "/quota/6", NAME ".Quota",
                                                "Weight", NULL, 'u', &value) >= 0);
        return value;
}

static void test_yes_and_no(void **state) {
        const char *name;
        struct scene s;

        scene_start(&s, "[Default]\n");
        assert_true(sd_bus_call_method(s.root, NAME, ROOT, NAME ".Manager", "SetQuota", NULL, NULL,
                                       "ua{sv}b", OTHER, 1, "Weight", "u", 50, 0) >= 0);
        turn(&s);
        assert_int_equal(s.authority.n_asked, 0); /* root is not asked about */
        send_set_and_wait(&s, "60", false);
        assert_true(sd_bus_get_unique_name(s.caller, &name) >= 0);
        assert_string_equal(s.authority.subject, name);
        assert_string_equal(s.authority.action, "org.bitnetd.manage-quota");
        assert_int_equal(s.authority.flags, 0);
        assert_int_equal(weight(&s), 50); /* nothing happens before the answer */
        answer(&s.authority, 0, true, false);
        expect(&s, "ok");
        assert_int_equal(weight(&s), 60);
        send_set_and_wait(&s, "70", false);
        answer(&s.authority, 0, false, false);
        expect(&s, ERROR_NAME("NotAuthorized"));
        send_set_and_wait(&s, "70", false);
        answer(&s.authority, 0, false, true);
        expect(&s, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
        send_set_and_wait(&s, "70", true);
        assert_int_equal(s.authority.flags, 1);
        answer(&s.authority, 0, false, true); /* no agent, or the dialog was closed */
        expect(&s, ERROR_NAME("NotAuthorized"));
        assert_int_equal(weight(&s), 60);
        send_set_and_wait(&s, "heavy", true);
        answer(&s.authority, 0, true, false);
        expect(&s, ERROR_NAME("InvalidInput"));
        scene_stop(&s);
}

/* Answers that are no yes. */
static void test_nonsense(void **state) {
        struct scene s;

        scene_start(&s, "[Default]\n");
        send_set_and_wait(&s, "70", false);
        assert_true(sd_bus_reply_method_errorf(s.authority.asked[0], POLKIT ".Error.Failed",
                                               "no such subject") >= 0);
        expect(&s, ERROR_NAME("NotAuthorized"));
        send_set_and_wait(&s, "70", false);
        assert_true(sd_bus_reply_method_return(s.authority.asked[0], "b", 1) >= 0);
        expect(&s, ERROR_NAME("NotAuthorized"));
        send_set_and_wait(&s, "70", false);
        assert_true(sd_bus_reply_method_return(s.authority.asked[0], "bba{ss}", 1, 1, 0) >= 0);
        expect(&s, ERROR_NAME("NotAuthorized"));
        send_set_and_wait(&s, "70", false);
        assert_true(sd_bus_reply_method_return(s.authority.asked[0], "") >= 0);
        expect(&s, ERROR_NAME("NotAuthorized"));
        assert_int_equal(weight(&s), 100);
        scene_stop(&s);
}

static void test_silence_and_death(void **state) {
        struct scene s;

        scene_start(&s, "[Default]\n");
        send_set_and_wait(&s, "70", false);
        assert_int_equal(weight(&s), 100); /* others are served meanwhile */
        expect(&s, ERROR_NAME("NotAuthorized"));
        answer(&s.authority, 0, true, false); /* too late */
        turn(&s);
        assert_int_equal(weight(&s), 100);
        send_set_and_wait(&s, "70", false);
        stop_authority(&s);
        expect(&s, ERROR_NAME("NotAuthorized"));
        send_set(&s, "70", false); /* nobody there to be asked */
        expect(&s, ERROR_NAME("NotAuthorized"));
        assert_int_equal(weight(&s), 100);
        start_authority(&s);
        send_set_and_wait(&s, "70", false);
        answer(&s.authority, 0, true, false);
        expect(&s, "ok");
        assert_int_equal(weight(&s), 70);
        scene_stop(&s);
}

static void caller_leaves(struct scene *s, const char *name) {
        sd_bus_close(s->caller);
        s->caller = sd_bus_unref(s->caller);
        for (unsigned i = 0; is_connected(s->root, name) && i < 2000; i++)
                nap(5);
}

static void test_caller_leaves(void **state) {
        struct scene s;

        scene_start(&s, "[Default]\n");
        send_set_and_wait(&s, "70", true);
        caller_leaves(&s, s.authority.subject);
        for (unsigned i = 0; s.authority.n_taken_back == 0 && i < PATIENCE_MS; i++)
                turn(&s);
        assert_int_equal(s.authority.n_taken_back, 1);
        answer(&s.authority, 0, true, false);
        turn(&s);
        assert_int_equal(weight(&s), 100);
        s.caller = connect_as(&s, CALLER);
        scene_stop(&s);
}

/* An authority that takes a caller who has gone for root, and callers that go at every moment. */
static void test_race(void **state) {
        struct scene s;

        scene_start(&s, "[Default]\n");
        s.authority.yes_when_gone = true;
        for (unsigned i = 0; i < 200; i++) {
                send_set(&s, "70", i % 2);
                for (unsigned k = 0; k < i % 8; k++)
                        sd_bus_process(s.authority.bus, NULL);
                nanosleep(&(struct timespec){ .tv_nsec = i / 8 % 8 * 200000L }, NULL);
                sd_bus_close(s.caller);
                sd_bus_unref(s.caller);
                s.caller = connect_as(&s, CALLER);
                turn(&s);
                assert_int_equal(weight(&s), 100);
        }
        for (unsigned i = 0; i < 20; i++)
                turn(&s);
        assert_int_equal(weight(&s), 100);
        scene_stop(&s);
}

/* Whether a property of an object can be read: "ok" or the name of the error. */
static void look(sd_bus *bus, const char *path, const char *interface,
                 const char *property, const char *result) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        int r = sd_bus_call_method(bus, NAME, path, "org.freedesktop.DBus.Properties", "Get", &e,
                                   &m, "ss", interface, property);

        assert_string_equal(r < 0 ? e.name : "ok", result);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
}

/* What exists for administrators only exists for the connection that was authorised. */
static void test_inspection(void **state) {
        struct scene s;
        sd_bus_message *m;
        sd_bus *second;

        scene_start(&s, "[Default]\n");
        look(s.caller, ROOT "/quota/6", NAME ".Quota", "Weight", ERROR_NAME("NoSuchObject"));
        m = manager_call(&s, "GetQuota");
        assert_true(sd_bus_message_append(m, "u", OTHER) >= 0);
        send_call(&s, m, false);
        wait_asked(&s, 1);
        look(s.caller, ROOT "/quota/6", NAME ".Quota", "Weight", ERROR_NAME("NoSuchObject"));
        answer(&s.authority, 0, true, false);
        expect(&s, "ok");
        look(s.caller, ROOT "/quota/6", NAME ".Quota", "Weight", "ok");
        second = connect_as(&s, CALLER);
        look(second, ROOT "/quota/6", NAME ".Quota", "Weight", ERROR_NAME("NoSuchObject"));
        sd_bus_flush_close_unref(second);
        m = manager_call(&s, "GetQuota"); /* his own, under any name of it */
        assert_true(sd_bus_message_append(m, "u", CALLER) >= 0);
        send_call(&s, m, false);
        expect(&s, "ok");
        assert_int_equal(s.authority.n_asked, 1);
        m = manager_call(&s, "Reload");
        send_call(&s, m, false);
        wait_asked(&s, 2); /* a grant to look is no grant to change */
        answer(&s.authority, 1, false, false);
        expect(&s, ERROR_NAME("NotAuthorized"));
        scene_stop(&s);
}

static void test_jobs_of_others(void **state) {
        struct scene s;
        sd_bus_message *m, *reply;
        const char *path;
        char job[128];
        int input[2];

        scene_start(&s, "[Default]\n");
        assert_int_equal(pipe(input), 0); /* never ends: the job reads for ever */
        assert_true(sd_bus_call_method(s.root, NAME, ROOT, NAME ".Manager", "Generate", NULL,
                                       &reply, "sha{sv}", "", input[0], 0) >= 0);
        assert_true(sd_bus_message_read(reply, "o", &path) > 0);
        snprintf(job, sizeof(job), "%s", path);
        look(s.caller, job, NAME ".Job", "State", ERROR_NAME("NoSuchObject"));
        for (int yes = 0; yes < 2; yes++) {
                s.authority.n_asked = 0;
                m = manager_call(&s, "ListJobs");
                assert_true(sd_bus_message_append(m, "a{sv}", 1, "all", "b", 1) >= 0);
                send_call(&s, m, false);
                wait_asked(&s, 1);
                assert_string_equal(s.authority.action, "org.bitnetd.inspect-others");
                answer(&s.authority, 0, yes, false);
                expect(&s, yes ? "ok" : ERROR_NAME("NotAuthorized"));
                look(s.caller, job, NAME ".Job", "State",
                     yes ? "ok" : ERROR_NAME("NoSuchObject"));
        }
        look(s.caller, ROOT "/quota/6", NAME ".Quota", "Weight", ERROR_NAME("NoSuchObject"));
        assert_true(sd_bus_call_method(s.caller, NAME, job, NAME ".Job", "Cancel", NULL, NULL,
                                       "") >= 0);
        look(s.root, job, NAME ".Job", "Result", "ok");
        sd_bus_message_unref(reply);
        close(input[0]);
        close(input[1]);
        scene_stop(&s);
}

/* One user cannot fill the service with questions; what is open when it ends does no harm. */
static void test_limits(void **state) {
        struct scene s;

        scene_start(&s, "[Default]\n");
        for (unsigned i = 0; i < LIMIT_CHECKS_PER_UID; i++)
                send_set(&s, "70", true);
        wait_asked(&s, LIMIT_CHECKS_PER_UID);
        send_set(&s, "70", true);
        expect(&s, ERROR_NAME("RateLimited"));
        assert_int_equal(s.authority.n_asked, LIMIT_CHECKS_PER_UID);
        scene_stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_yes_and_no),
                cmocka_unit_test(test_nonsense),
                cmocka_unit_test(test_silence_and_death),
                cmocka_unit_test(test_caller_leaves),
                cmocka_unit_test(test_race),
                cmocka_unit_test(test_inspection),
                cmocka_unit_test(test_jobs_of_others),
                cmocka_unit_test(test_limits),
        };

        if (geteuid() != 0) {
                fprintf(stderr, "only root can call as several users\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
