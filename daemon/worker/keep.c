/* Durations as Go spells them, because that is what Ollama's clients send: numbers, each with its
 * unit, one after the other, and one sign before all of them. */
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/keep.h"
#include "engine/base/macro.h"

enum { LONGEST_TEXT = 32 };

#define MOST_USEC 1e15 /* thirty years: no difference to for ever */

static const struct {
        const char *name;
        double usec;
} units[] = { { "ns", 1e-3 }, { "us", 1 },  { "ms", 1e3 }, { "s", 1e6 },
              { "m", 6e7 },   { "h", 3.6e9 }, { "", 1e6 } };

/* The unit at p, "" at the end of the text; its length in *ret_length. 0: none. */
static double unit_at(const char *p, size_t *ret_length) {
        size_t n = strcspn(p, "+-.0123456789");

        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (strlen(units[i].name) == n && strncmp(units[i].name, p, n) == 0 &&
                    (n > 0 || *p == '\0')) {
                        *ret_length = n;
                        return units[i].usec;
                }
        return 0;
}

/* Digits and at most one point, nothing else that strtod would take. */
static bool number_at(const char *p, double *ret, size_t *ret_length) {
        size_t whole = strspn(p, "0123456789"), n = whole;

        if (p[n] == '.')
                n += 1 + strspn(p + n + 1, "0123456789");
        if (n == 0 || (whole == 0 && n == 1))
                return false;
        *ret = strtod(p, NULL);
        *ret_length = n;
        return true;
}

static bool parse_text(const char *p, double *ret) {
        bool negative = *p == '-';
        double sum = 0, number, unit;
        size_t n;

        if (strlen(p) > LONGEST_TEXT)
                return false;
        p += *p == '-' || *p == '+';
        do {
                if (!number_at(p, &number, &n))
                        return false;
                p += n;
                unit = unit_at(p, &n);
                if (unit == 0)
                        return false;
                p += n;
                sum += number * unit;
        } while (*p);
        *ret = negative ? -sum : sum;
        return true;
}

int keep_parse(const json_t *v, struct keep *ret, struct request_error *e) {
        double usec = json_number_value(v) * 1e6;

        if (!json_is_number(v) && !(json_is_string(v) && parse_text(json_string_value(v), &usec)))
                return request_fail(e, ERROR_INVALID_INPUT, "keep_alive",
                                    "keep_alive is a number of seconds or a time such as \"5m\".");
        *ret = (struct keep){ .given = true,
                              .usec = usec < 0 || usec > MOST_USEC ? UINT64_MAX : (uint64_t)usec };
        return 0;
}
