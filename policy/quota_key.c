/* One row for each key; what has a row can be configured, resolved, shown and set without any other
 * code knowing of it. A number is refused rather than clamped: a typing mistake must not silently
 * become another limit. */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "policy/name.h"
#include "policy/quota_key.h"

#define KI UINT64_C(1024)
#define MI (KI * KI)
#define GI (KI * MI)
#define SEC UINT64_C(1000000)
#define DAY (86400 * SEC)

enum { QUOTA_ONLY_BACKGROUND = 2 }; /* of AllowPriority */

/* More per minute would not fit the counting of a bucket (bucket.h). */
#define MOST_PER_MINUTE UINT64_C(100000000000)

const char *const quota_verbs[QUOTA_VERBS] = { "chat", "complete", "summarize", "embed",
                                              "rewrite", "proofread", "extract", "classify" };
const char *const quota_priorities[QUOTA_PRIORITIES] = { "interactive", "background" };

static const struct quota_row rows[] = {
        [QUOTA_MAX_CONCURRENT_JOBS] = { "MaxConcurrentJobs", QUOTA_KIND_COUNT, false, 4, 1, 64,
                                        "jobs" },
        [QUOTA_MAX_QUEUED_JOBS] = { "MaxQueuedJobs", QUOTA_KIND_COUNT, false, 16, 0, 1024,
                                    "jobs" },
        [QUOTA_MAX_CONNECTIONS] = { "MaxConnections", QUOTA_KIND_COUNT, false, 32, 1, 256,
                                    "connections" },
        [QUOTA_MAX_OBJECTS] = { "MaxObjects", QUOTA_KIND_COUNT, false, 256, 1, 16384, "objects" },
        [QUOTA_MAX_SESSIONS] = { "MaxSessions", QUOTA_KIND_COUNT, false, 8, 0, 1024, "sessions" },
        [QUOTA_MAX_SESSION_KV] = { "MaxSessionKV", QUOTA_KIND_BYTES, true, 256 * MI, 0, 1024 * GI,
                                   "bytes" },
        [QUOTA_SESSION_IDLE_SEC] = { "SessionIdleSec", QUOTA_KIND_COUNT, false, 1800, 1, 604800,
                                     "seconds" },
        [QUOTA_MAX_INPUT_BYTES] = { "MaxInputBytes", QUOTA_KIND_BYTES, false, 64 * MI, KI, 4 * GI,
                                    "bytes" },
        [QUOTA_MAX_CONTEXT_TOKENS] = { "MaxContextTokens", QUOTA_KIND_COUNT, true, QUOTA_INFINITY,
                                       64, INT32_MAX, "tokens" },
        [QUOTA_MAX_OUTPUT_TOKENS] = { "MaxOutputTokens", QUOTA_KIND_COUNT, false, 4096, 1, MI,
                                      "tokens" },
        [QUOTA_REQUESTS_PER_MINUTE] = { "RequestsPerMinute", QUOTA_KIND_COUNT, true, 120, 1,
                                        MOST_PER_MINUTE, "requests" },
        [QUOTA_TOKENS_PER_MINUTE] = { "TokensPerMinute", QUOTA_KIND_COUNT, true, QUOTA_INFINITY, 1,
                                      MOST_PER_MINUTE, "tokens" },
        [QUOTA_TOKENS_PER_DAY] = { "TokensPerDay", QUOTA_KIND_COUNT, true, QUOTA_INFINITY, 1,
                                   MOST_PER_MINUTE * 1440, "tokens" },
        [QUOTA_CPU_TIME_PER_DAY] = { "CPUTimePerDay", QUOTA_KIND_TIME, true, QUOTA_INFINITY, SEC,
                                     1024 * DAY, NULL },
        [QUOTA_WEIGHT] = { "Weight", QUOTA_KIND_COUNT, false, 100, 1, 10000, NULL },
        [QUOTA_ALLOW_VERBS] = { "AllowVerbs", QUOTA_KIND_VERBS, false, (1U << QUOTA_VERBS) - 1, 0,
                                (1U << QUOTA_VERBS) - 1, NULL },
        [QUOTA_ALLOW_PRIORITY] = { "AllowPriority", QUOTA_KIND_PRIORITIES, false,
                                   (1U << QUOTA_PRIORITIES) - 1, 0, (1U << QUOTA_PRIORITIES) - 1,
                                   NULL },
        [QUOTA_MAX_SEQUENCES] = { "MaxSequences", QUOTA_KIND_COUNT, false, 16, 1, 64, NULL },
        [QUOTA_KV_BYTES] = { "KVBytes", QUOTA_KIND_BYTES, false, GI, MI, 1024 * GI, "bytes" },
        [QUOTA_IDLE_TIMEOUT_SEC] = { "IdleTimeoutSec", QUOTA_KIND_COUNT, false, 600, 1, 86400,
                                     "seconds" },
        [QUOTA_MODEL_IDLE_SEC] = { "ModelIdleSec", QUOTA_KIND_COUNT, false, 300, 1, 86400,
                                   "seconds" },
        [QUOTA_MAX_KEEP_ALIVE_SEC] = { "MaxKeepAliveSec", QUOTA_KIND_COUNT, false, 43200, 0, 86400,
                                       "seconds" },
        [QUOTA_CONNECTION_IDLE_SEC] = { "ConnectionIdleSec", QUOTA_KIND_COUNT, false, 60, 1, 86400,
                                        "seconds" },
        [QUOTA_ALLOW_MODELS] = { "AllowModels", QUOTA_KIND_PATTERNS, false, 0, 0, 0, NULL },
        [QUOTA_DEFAULT_MODEL] = { "DefaultModel", QUOTA_KIND_MODEL, false, 0, 0, 0, NULL },
};

_Static_assert(ARRAY_SIZE(rows) == _QUOTA_MAX, "every key has a row");

static const struct unit {
        const char *name;
        uint64_t factor;
} sizes[] = { { "G", GI }, { "M", MI }, { "K", KI }, { "", 1 } },
  times[] = { { "d", DAY }, { "h", 3600 * SEC }, { "min", 60 * SEC }, { "s", SEC }, { "", SEC },
              { "ms", 1000 }, { "us", 1 } };

const struct quota_row *quota_row(enum quota_key key) {
        return &rows[key];
}

enum quota_key quota_key_find(const char *name) {
        unsigned i = 0;

        while (i < _QUOTA_MAX && strcmp(rows[i].name, name) != 0)
                i++;
        return (enum quota_key)i;
}

struct limits limits_default(void) {
        struct limits l = { .text = { [QUOTA_ALLOW_MODELS - _QUOTA_NUMBERS] = "*" } };

        for (unsigned i = 0; i < _QUOTA_NUMBERS; i++)
                l.v[i] = rows[i].preset;
        return l;
}

/* A decimal number and one of the units. */
static bool parse_number(const char *value, const struct unit *units, size_t n, uint64_t *ret) {
        unsigned long long number;
        char *end;

        if (*value < '0' || *value > '9')
                return false;
        errno = 0;
        number = strtoull(value, &end, 10);
        if (errno)
                return false;
        for (size_t i = 0; i < n; i++)
                if (strcmp(end, units[i].name) == 0)
                        return !__builtin_mul_overflow(number, units[i].factor, ret);
        return false;
}

/* The next word of a list, in buf; NULL after the last or when one is too long. */
static const char *next_word(const char **list, char *buf, size_t size) {
        size_t n;

        *list += strspn(*list, " ");
        n = strcspn(*list, " ");
        if (n == 0 || n >= size)
                return NULL;
        memcpy(buf, *list, n);
        buf[n] = '\0';
        *list += n;
        return buf;
}

static const char *parse_words(const char *value, const char *const *words, unsigned n,
                               uint64_t *ret) {
        uint64_t mask = 0;
        char word[32];

        if (strcmp(value, "none") == 0)
                *ret = 0;
        if (strcmp(value, "all") == 0)
                *ret = (UINT64_C(1) << n) - 1;
        if (strcmp(value, "none") == 0 || strcmp(value, "all") == 0)
                return NULL;
        while (next_word(&value, word, sizeof(word))) {
                unsigned i = 0;

                while (i < n && strcmp(words[i], word) != 0)
                        i++;
                if (i == n)
                        return "unknown word";
                mask |= UINT64_C(1) << i;
        }
        if (mask == 0 || *value)
                return "not a list of words, all or none";
        *ret = mask;
        return NULL;
}

static const char *parse_patterns(const char *value) {
        char word[MODEL_NAME_SIZE];
        unsigned n = 0;

        for (; next_word(&value, word, sizeof(word)); n++)
                if (strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789._-*?") != strlen(word))
                        return "not a pattern of model names";
        return n > 0 && !*value ? NULL : "not a list of model names";
}

static const char *parse_limit(const struct quota_row *row, const char *value, uint64_t *ret) {
        bool time = row->kind == QUOTA_KIND_TIME;
        uint64_t n;

        if (strcmp(value, "infinity") == 0) {
                if (row->unlimited)
                        *ret = QUOTA_INFINITY;
                return row->unlimited ? NULL : "this limit cannot be infinity";
        }
        if (!parse_number(value, time ? times : sizes,
                          time ? ARRAY_SIZE(times) : ARRAY_SIZE(sizes), &n))
                return time ? "not a time" : "not a number";
        if (n < row->min || n > row->max)
                return "number out of range";
        *ret = n;
        return NULL;
}

const char *quota_parse(enum quota_key key, const char *value, uint64_t *ret) {
        switch (rows[key].kind) {
        case QUOTA_KIND_COUNT:
        case QUOTA_KIND_BYTES:
        case QUOTA_KIND_TIME:
                return parse_limit(&rows[key], value, ret);
        case QUOTA_KIND_VERBS:
                return parse_words(value, quota_verbs, QUOTA_VERBS, ret);
        case QUOTA_KIND_PRIORITIES:
                return parse_words(value, quota_priorities, QUOTA_PRIORITIES, ret);
        case QUOTA_KIND_PATTERNS:
                return parse_patterns(value);
        case QUOTA_KIND_MODEL:
                return model_name_valid(value) ? NULL : "not a model name";
        }
        return NULL;
}

static void print_words(uint64_t mask, const char *const *words, unsigned n, char *buf) {
        size_t at = 0;

        if (mask == 0 || mask == (UINT64_C(1) << n) - 1) {
                snprintf(buf, QUOTA_PRINT_MAX, mask ? "all" : "none");
                return;
        }
        for (unsigned i = 0; i < n; i++)
                if (mask & UINT64_C(1) << i)
                        at += (size_t)snprintf(buf + at, QUOTA_PRINT_MAX - at, "%s%s",
                                               at > 0 ? " " : "", words[i]);
}

/* In the largest unit that divides it. */
static void print_number(uint64_t v, const struct unit *units, char *buf) {
        while (v == 0 ? units->factor != 1 : v % units->factor != 0)
                units++;
        snprintf(buf, QUOTA_PRINT_MAX, "%" PRIu64 "%s", v / units->factor, units->name);
}

const char *quota_print(enum quota_key key, uint64_t value, char buf[QUOTA_PRINT_MAX]) {
        switch (rows[key].kind) {
        case QUOTA_KIND_VERBS:
                print_words(value, quota_verbs, QUOTA_VERBS, buf);
                return buf;
        case QUOTA_KIND_PRIORITIES:
                print_words(value, quota_priorities, QUOTA_PRIORITIES, buf);
                return buf;
        case QUOTA_KIND_COUNT:
        case QUOTA_KIND_BYTES:
        case QUOTA_KIND_TIME:
        case QUOTA_KIND_PATTERNS:
        case QUOTA_KIND_MODEL:
                break;
        }
        if (value == QUOTA_INFINITY)
                snprintf(buf, QUOTA_PRINT_MAX, "infinity");
        else if (rows[key].kind == QUOTA_KIND_COUNT)
                snprintf(buf, QUOTA_PRINT_MAX, "%" PRIu64, value);
        else
                print_number(value, rows[key].kind == QUOTA_KIND_TIME ? times : sizes, buf);
        return buf;
}

const char *limits_text(const struct limits *l, enum quota_key key) {
        const char *text = l->text[key - _QUOTA_NUMBERS];

        return text ? text : "";
}

bool limits_allow_model(const struct limits *l, const char *name) {
        const char *patterns = limits_text(l, QUOTA_ALLOW_MODELS);
        char pattern[MODEL_NAME_SIZE];

        while (next_word(&patterns, pattern, sizeof(pattern)))
                if (fnmatch(pattern, name, 0) == 0)
                        return true;
        return false;
}

bool limits_allow_job(const struct limits *l, unsigned verb, const char *model, bool *background) {
        uint64_t priorities = l->v[QUOTA_ALLOW_PRIORITY];

        if (!(l->v[QUOTA_ALLOW_VERBS] & UINT64_C(1) << verb) || !limits_allow_model(l, model))
                return false;
        if (priorities == QUOTA_ONLY_BACKGROUND)
                *background = true;
        return priorities & UINT64_C(1) << *background;
}
