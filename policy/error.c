/* The one error table (who is refused sees the same refusal on the bus, over HTTP and as an exit
 * status). Everything here is constant; numbers travel beside the code and are only ever added by
 * error_format, so no text of a client can reach an error. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/macro.h"
#include "policy/error.h"

#define NAME(x) "org.bitnetd.Bitnetd1.Error." x

enum {
        EXIT_DATA = 65,        /* sysexits.h EX_DATAERR */
        EXIT_NO_SERVICE = 69,  /* EX_UNAVAILABLE */
        EXIT_SOFTWARE = 70,    /* EX_SOFTWARE */
        EXIT_TRY_LATER = 75,   /* EX_TEMPFAIL */
        EXIT_NO_PERMIT = 77,   /* EX_NOPERM */
        EXIT_CONFIG = 78,      /* EX_CONFIG */
        EXIT_DEADLINE = 124,   /* as timeout(1) */
        EXIT_CANCELLED = 130,
};

static const struct error_row rows[] = {
        [ERROR_NONE] = { NAME("None"), 200, "", "", 0, "No error.", NULL },
        [ERROR_FAILED] = { NAME("Failed"), 500, "server_error", "internal_error", 1,
                           "The request failed.", NULL },
        [ERROR_INVALID_INPUT] = { NAME("InvalidInput"), 400, "invalid_request_error",
                                  "invalid_input", EXIT_DATA, "The input is not valid.", NULL },
        [ERROR_INPUT_TOO_LARGE] = { NAME("InputTooLarge"), 413, "invalid_request_error",
                                    "input_too_large", EXIT_DATA,
                                    "The input is larger than allowed.", "bytes" },
        [ERROR_CONTEXT_TOO_LONG] = { NAME("ContextTooLong"), 400, "invalid_request_error",
                                     "context_length_exceeded", EXIT_DATA,
                                     "The input is longer than the context of the model.",
                                     "tokens" },
        [ERROR_MODEL_NOT_FOUND] = { NAME("ModelNotFound"), 404, "invalid_request_error",
                                    "model_not_found", EXIT_NO_SERVICE, "There is no such model.",
                                    NULL },
        [ERROR_MODEL_LOADING] = { NAME("ModelLoading"), 503, "overloaded", "model_loading",
                                  EXIT_TRY_LATER,
                                  "The model is being prepared; try again shortly.", NULL },
        [ERROR_MODEL_BAD] = { NAME("IntegrityFailure"), 500, "server_error", "model_integrity",
                              EXIT_SOFTWARE, "The model file was refused or has changed.", NULL },
        [ERROR_NOT_AUTHORIZED] = { NAME("NotAuthorized"), 403, "permission_error",
                                   "not_authorized", EXIT_NO_PERMIT, "Not allowed.", NULL },
        [ERROR_RATE_LIMITED] = { NAME("RateLimited"), 429, "rate_limit_error",
                                 "rate_limit_exceeded", EXIT_TRY_LATER,
                                 "Too many requests in a short time.", "requests" },
        [ERROR_QUEUE_FULL] = { NAME("QueueFull"), 429, "rate_limit_error", "queue_full",
                               EXIT_TRY_LATER, "Too many of your jobs are waiting.", "jobs" },
        [ERROR_CONNECTIONS] = { NAME("TooManyConnections"), 429, "rate_limit_error",
                                "too_many_connections", EXIT_TRY_LATER,
                                "You have too many open connections.", "connections" },
        [ERROR_OVERLOADED] = { NAME("Overloaded"), 503, "overloaded", "overloaded", EXIT_TRY_LATER,
                               "The service is saturated; try again later.", NULL },
        [ERROR_UNAVAILABLE] = { NAME("Unavailable"), 503, "server_error", "unavailable",
                                EXIT_NO_SERVICE, "The service cannot start a worker.", NULL },
        [ERROR_WORKER_FAILED] = { NAME("WorkerFailed"), 500, "server_error", "worker_failed",
                                  EXIT_SOFTWARE,
                                  "The worker failed before the job was done; try again.", NULL },
        [ERROR_CANCELLED] = { NAME("Cancelled"), 499, "server_error", "cancelled", EXIT_CANCELLED,
                              "The job was cancelled.", NULL },
        [ERROR_DEADLINE] = { NAME("DeadlineExceeded"), 408, "server_error", "deadline_exceeded",
                             EXIT_DEADLINE, "The deadline has passed.", NULL },
        [ERROR_NO_SUCH_OBJECT] = { NAME("NoSuchObject"), 404, "invalid_request_error",
                                   "no_such_object", 1, "There is no such object of yours.",
                                   NULL },
        [ERROR_NOT_FOUND] = { NAME("NotFound"), 404, "invalid_request_error", "not_found", 1,
                              "There is nothing at this path.", NULL },
        [ERROR_METHOD] = { NAME("MethodNotAllowed"), 405, "invalid_request_error",
                           "method_not_allowed", 1, "This path does not take that method.", NULL },
        [ERROR_UNSUPPORTED] = { NAME("Unsupported"), 400, "invalid_request_error", "unsupported",
                                EXIT_DATA, "This version does not support a requested option.",
                                NULL },
        [ERROR_STOPPING] = { NAME("ShuttingDown"), 503, "overloaded", "shutting_down",
                             EXIT_TRY_LATER, "The service is being stopped; try again later.",
                             NULL },
        [ERROR_OBJECTS] = { NAME("TooManyObjects"), 429, "rate_limit_error", "too_many_objects",
                            EXIT_TRY_LATER, "You have too many objects on the bus.", "objects" },
        [ERROR_TOKENS_LIMITED] = { NAME("RateLimited"), 429, "rate_limit_error",
                                   "rate_limit_exceeded", EXIT_TRY_LATER,
                                   "Too many tokens in a short time.", "tokens" },
        [ERROR_BUDGET_TOKENS] = { NAME("BudgetExhausted"), 429, "insufficient_quota",
                                  "insufficient_quota", EXIT_TRY_LATER,
                                  "Your tokens of the day do not suffice.", "tokens", true },
        [ERROR_BUDGET_CPU] = { NAME("BudgetExhausted"), 429, "insufficient_quota",
                               "insufficient_quota", EXIT_TRY_LATER,
                               "Your CPU time of the day is used up.", "seconds", true },
        [ERROR_CONFIG] = { NAME("InvalidConfiguration"), 500, "server_error",
                           "invalid_configuration", EXIT_CONFIG,
                           "The configuration is wrong; the old one stays.", NULL },
        [ERROR_SESSIONS] = { NAME("TooManySessions"), 429, "rate_limit_error",
                             "too_many_sessions", EXIT_TRY_LATER, "You have too many sessions.",
                             "sessions" },
        [ERROR_SESSION_BUSY] = { NAME("SessionBusy"), 409, "invalid_request_error",
                                 "session_busy", EXIT_TRY_LATER,
                                 "The session is doing something else; wait for its end.", NULL },
        [ERROR_TOKEN] = { NAME("TokenInUse"), 409, "invalid_request_error", "token_in_use", 1,
                          "You have an object with this token.", NULL },
        [ERROR_SLICE_UNKNOWN] = { NAME("SliceUnknown"), 403, "permission_error", "slice_unknown",
                                  EXIT_NO_PERMIT,
                                  "Quotas depend on the slice, and it cannot be told which one the "
                                  "process that connected is in.", NULL },
};

_Static_assert(ARRAY_SIZE(rows) == _ERROR_MAX, "every error has a row");

const struct error_row *error_row(enum error_code code) {
        return &rows[(unsigned)code < _ERROR_MAX ? code : ERROR_FAILED];
}

enum error_code error_from_dbus(const char *name) {
        for (unsigned i = ERROR_FAILED; name && i < _ERROR_MAX; i++)
                if (strcmp(rows[i].dbus_name, name) == 0)
                        return (enum error_code)i;
        return ERROR_FAILED;
}

enum error_code error_from_http_code(const char *http_code) {
        for (unsigned i = ERROR_FAILED; http_code && i < _ERROR_MAX; i++)
                if (strcmp(rows[i].http_code, http_code) == 0)
                        return (enum error_code)i;
        return ERROR_FAILED;
}

/* Rounded up, in a unit that a person would use. */
static void print_retry(uint32_t ms, char *buf, size_t size) {
        uint32_t s = ms / 1000 + (ms % 1000 != 0);

        if (s < 120)
                snprintf(buf, size, "try again in %" PRIu32 " s", s);
        else if (s < 7200)
                snprintf(buf, size, "try again in %" PRIu32 " min", (s + 59) / 60);
        else
                snprintf(buf, size, "try again in %" PRIu32 " h", (s + 3599) / 3600);
}

const char *error_format(const struct refusal *r, char *buf, size_t size) {
        const struct error_row *row = error_row(r->code);
        const char *text = r->text ? r->text : row->text;
        char count[96] = "", retry[48] = "";

        if (r->value != 0 || r->limit != 0)
                snprintf(count, sizeof(count), "value %" PRIu64 ", limit %" PRIu64 "%s%s", r->value,
                         r->limit, row->unit ? " " : "", row->unit ? row->unit : "");
        if (r->retry_after_ms > 0)
                print_retry(r->retry_after_ms, retry, sizeof(retry));
        if (count[0] || retry[0])
                snprintf(buf, size, "%s (%s%s%s)", text, count,
                         count[0] && retry[0] ? "; " : "", retry);
        else
                snprintf(buf, size, "%s", text);
        return buf;
}
