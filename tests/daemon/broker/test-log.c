/* Entries of the journal: an id of their own that the catalog explains, and every number as a field
 * that the explanation uses. Argument: the catalog. */
#undef NDEBUG
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/broker/log.h"

static char catalog[65536];
static const uint64_t numbers[LOG_NUMBERS] = { 1000, UINT64_MAX, 0, 77 };

static void build(struct log_entry *e, enum log_event event) {
        bool has_line = event == LOG_MODEL_BAD || event == LOG_CONFIG_BAD;

        log_build(e, event, has_line ? "a line" : NULL, numbers);
}

/* The explanation of an entry, up to the next one. */
static const char *explanation(const struct log_entry *e, size_t *ret_length) {
        const char *at, *end;
        char head[64];

        snprintf(head, sizeof(head), "\n-- %s\n", e->fields[2] + strlen("MESSAGE_ID="));
        at = strstr(catalog, head);
        if (!at)
                fail_msg("not in the catalog: %s (%s)", head + 4, e->fields[0]);
        assert_null(strstr(at + 1, head));
        end = strstr(at + 1, "\n-- ");
        *ret_length = end ? (size_t)(end - at) : strlen(at);
        return at;
}

static void test_every_event_is_explained(void **state) {
        unsigned events = 0;

        for (unsigned i = 0; i < _LOG_MAX; i++) {
                const char *text;
                struct log_entry e;
                size_t length;

                build(&e, i);
                text = explanation(&e, &length);
                for (unsigned f = 3; f < e.n; f++) {
                        char name[64];

                        snprintf(name, sizeof(name), "@%.*s@", (int)strcspn(e.fields[f], "="),
                                 e.fields[f]);
                        if (!memmem(text, length, name, strlen(name)))
                                fail_msg("%s: nothing about %s", e.fields[0], name);
                }
        }
        for (const char *p = catalog; (p = strstr(p, "\n-- ")); p++)
                events++;
        assert_int_equal(events, _LOG_MAX); /* and nothing else is */
}

static void test_ids_are_different(void **state) {
        for (unsigned i = 0; i < _LOG_MAX; i++)
                for (unsigned k = 0; k < i; k++) {
                        struct log_entry a, b;

                        build(&a, i);
                        build(&b, k);
                        assert_string_not_equal(a.fields[2], b.fields[2]);
                }
}

/* Names as the journal takes them, values that are numbers, and the same numbers in the
 * sentence. */
static void test_fields(void **state) {
        for (unsigned i = 0; i < _LOG_MAX; i++) {
                struct log_entry e;

                build(&e, i);
                assert_memory_equal(e.fields[0], "MESSAGE=", 8);
                assert_memory_equal(e.fields[1], "PRIORITY=", 9);
                assert_int_equal(strlen(e.fields[2]), strlen("MESSAGE_ID=") + 32);
                for (unsigned f = 3; f < e.n; f++) {
                        const char *value = strchr(e.fields[f], '=');
                        char word[64];
                        size_t n;

                        assert_memory_equal(e.fields[f], "BITNETD_", 8);
                        for (const char *p = e.fields[f]; p < value; p++)
                                assert_true(isupper((unsigned char)*p) || *p == '_');
                        assert_int_equal(strtoull(value + 1, NULL, 10), numbers[f - 3]);
                        assert_int_equal(strspn(value + 1, "0123456789"), strlen(value + 1));
                        n = (size_t)snprintf(word, sizeof(word), " %s", e.fields[f] + 8);
                        for (size_t c = 0; c < n; c++)
                                word[c] = (char)tolower((unsigned char)word[c]);
                        if (i != LOG_MODEL_BAD && i != LOG_CONFIG_BAD)
                                assert_non_null(strstr(e.fields[0], word));
                }
        }
}

/* However often somebody is refused, the log stays small, and says how much it left out. */
static void test_refusals_are_throttled(void **state) {
        char path[] = "/tmp/bitnetd-log-XXXXXX", line[256];
        unsigned lines = 0;
        FILE *f;

        assert_true(mkstemp(path) >= 0);
        assert_non_null(freopen(path, "w", stderr));
        for (unsigned i = 0; i < 10000; i++)
                log_refused(1000, 1, i, 10);
        fflush(stderr);
        f = fopen(path, "re");
        while (fgets(line, sizeof(line), f)) {
                lines++;
                assert_memory_equal(line, "bitnetd: ", 9);
        }
        fclose(f);
        remove(path);
        assert_true(lines >= 30 && lines <= 61); /* a minute may begin in between */
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_event_is_explained),
                cmocka_unit_test(test_ids_are_different),
                cmocka_unit_test(test_fields),
                cmocka_unit_test(test_refusals_are_throttled),
        };
        FILE *f = fopen(argv[1], "re");

        assert_non_null(f);
        assert_true(fread(catalog, 1, sizeof(catalog) - 1, f) > 0);
        fclose(f);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
