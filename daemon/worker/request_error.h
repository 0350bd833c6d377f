/* Why a request is refused: a row of the error table plus numbers and fixed words. Never text of
 * the request. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/error.h"

enum { REQUEST_PARAM_MAX = 192 };

struct request_error {
        enum error_code code;
        const char *detail;              /* a fixed sentence added to the table's, or NULL */
        char param[REQUEST_PARAM_MAX];   /* the field at fault, or "" */
        uint64_t value, limit;           /* both 0: not given */
        uint32_t retry_after_ms;         /* 0: no use in trying again */
        bool by_broker;                  /* which counts it itself */
};

/* Fill *e and return -EBADMSG, so that `return request_fail(e, …)` reads well. */
int request_fail(struct request_error *e, enum error_code code, const char *param,
                 const char *detail);
int request_fail_range(struct request_error *e, enum error_code code, const char *param,
                       const char *detail, uint64_t value, uint64_t limit);
