/* The one error table: every refusal and failure, with its three spellings (D-Bus error, HTTP
 * status and code, exit status of bnctl) and one fixed text. Numbers (limit, value, retry) travel
 * beside the code; user text never does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum error_code {
        ERROR_NONE = 0,
        ERROR_FAILED,           /* anything else */
        ERROR_INVALID_INPUT,    /* not UTF-8, bad JSON, bad descriptor, bad option */
        ERROR_INPUT_TOO_LARGE,  /* bytes */
        ERROR_CONTEXT_TOO_LONG, /* tokens */
        ERROR_MODEL_NOT_FOUND,
        ERROR_MODEL_LOADING,    /* being packed or verified: try again */
        ERROR_MODEL_BAD,        /* refused by the loader or changed on disk */
        ERROR_NOT_AUTHORIZED,
        ERROR_RATE_LIMITED,
        ERROR_QUEUE_FULL,       /* the caller's own queue */
        ERROR_CONNECTIONS,      /* the caller's own connections */
        ERROR_OVERLOADED,       /* the whole daemon */
        ERROR_UNAVAILABLE,      /* no worker can be started */
        ERROR_WORKER_FAILED,    /* the worker died under the job */
        ERROR_CANCELLED,
        ERROR_DEADLINE,
        ERROR_NO_SUCH_OBJECT,   /* unknown job, or somebody else's */
        ERROR_NOT_FOUND,        /* HTTP path */
        ERROR_METHOD,           /* HTTP method */
        ERROR_UNSUPPORTED,      /* an option this version cannot honour */
        ERROR_STOPPING,         /* the daemon is being ended or restarted */
        ERROR_OBJECTS,          /* the caller's own objects on the bus */
        ERROR_TOKENS_LIMITED,   /* spelled as ERROR_RATE_LIMITED: tokens, not requests */
        ERROR_BUDGET_TOKENS,    /* of the day */
        ERROR_BUDGET_CPU,       /* the same, spelled alike */
        ERROR_CONFIG,           /* the configuration is wrong and was not taken */
        ERROR_SESSIONS,         /* the caller's own sessions */
        ERROR_SESSION_BUSY,     /* does one thing at a time */
        ERROR_TOKEN,            /* an object on the bus has that name already */
        ERROR_SLICE_UNKNOWN,    /* quotas go by slice, and the caller's cannot be told */
        _ERROR_MAX,
};

/* A refusal with its numbers. */
struct refusal {
        enum error_code code;
        uint32_t retry_after_ms; /* 0: no use in trying again, or not known */
        uint64_t value, limit;   /* both 0: not given */
        const char *text;        /* instead of the row's, or NULL; a constant */
};

struct error_row {
        const char *dbus_name;   /* "org.bitnetd.Bitnetd1.Error.QueueFull" */
        unsigned http_status;
        const char *http_type;   /* "rate_limit_error" */
        const char *http_code;   /* "queue_full" */
        int exit_status;         /* of bnctl */
        const char *text;        /* a sentence for people, no placeholders */
        const char *unit;        /* what limit and value count ("bytes", "jobs"), or NULL */
        bool hold;               /* HTTP clients must not repeat it by themselves */
};

/* Never NULL; unknown codes give the row of ERROR_FAILED. */
const struct error_row *error_row(enum error_code code);

/* Code of an exact D-Bus error name or HTTP code, or ERROR_FAILED. Of codes that are spelled alike
 * the first. */
enum error_code error_from_dbus(const char *name);
enum error_code error_from_http_code(const char *http_code);

/* "TEXT (value V, limit L UNIT; try again in 9 s)": without what is 0. Returns buf. */
const char *error_format(const struct refusal *r, char *buf, size_t size);
