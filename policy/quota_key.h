/* The keys of a quota: one row each with its name, unit, default and range, and the two directions
 * between a value and its spelling in the configuration (which bnctl and the bus use, too). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/limits.h"

enum quota_kind {
        QUOTA_KIND_COUNT,      /* K, M or G (powers of 1024) may follow; so for bytes */
        QUOTA_KIND_BYTES,
        QUOTA_KIND_TIME,       /* microseconds; spelled in seconds, or with us, ms, s, min, h, d */
        QUOTA_KIND_VERBS,      /* words, spaces between; all; none */
        QUOTA_KIND_PRIORITIES, /* the same */
        QUOTA_KIND_PATTERNS,   /* of names of models; * and ? as in a shell */
        QUOTA_KIND_MODEL,
};

struct quota_row {
        const char *name;        /* "MaxQueuedJobs" */
        enum quota_kind kind;
        bool unlimited;          /* "infinity" is allowed */
        uint64_t preset;         /* the default */
        uint64_t min, max;
        const char *unit;        /* "jobs", or NULL */
};

/* Verbs as a bit mask: bit i stands for word i. So for priorities. */
enum { QUOTA_VERBS = 8, QUOTA_PRIORITIES = 2 };
extern const char *const quota_verbs[QUOTA_VERBS];
extern const char *const quota_priorities[QUOTA_PRIORITIES];

const struct quota_row *quota_row(enum quota_key key);
/* _QUOTA_MAX when there is no such key. */
enum quota_key quota_key_find(const char *name);
struct limits limits_default(void);

/* NULL, or why the value is refused (a fixed text). ret: of a key below _QUOTA_NUMBERS; texts are
 * only checked. */
const char *quota_parse(enum quota_key key, const char *value, uint64_t *ret);
/* As quota_parse reads it. Returns buf. */
enum { QUOTA_PRINT_MAX = 80 };
const char *quota_print(enum quota_key key, uint64_t value, char buf[QUOTA_PRINT_MAX]);

/* The text of a key from _QUOTA_NUMBERS on, "" for one that is not set. */
const char *limits_text(const struct limits *l, enum quota_key key);
/* Does a pattern of AllowModels match this name? */
bool limits_allow_model(const struct limits *l, const char *name);
/* Is a job of this verb (an index of quota_verbs) with this model allowed, and with which priority?
 * Whoever may only use background works there whatever he asks for: most clients cannot ask. */
bool limits_allow_job(const struct limits *l, unsigned verb, const char *model, bool *background);
