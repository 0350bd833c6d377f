/* How long a client wants its model to stay loaded. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/request_error.h"

struct keep {
        bool given;      /* false: the client said nothing */
        uint64_t usec;   /* after the last use; UINT64_MAX: as long as it may */
};

/* Ollama's keep_alive: seconds, or a text such as "5m", "1h30m" or "90"; negative is as long as
 * possible. 0, or -EBADMSG with *e filled. */
int keep_parse(const json_t *v, struct keep *ret, struct request_error *e);
