/* What the user may still ask for in this minute, as the broker told it, for the headers of every
 * answer. Between two messages the buckets fill here as they do there (policy/bucket.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/secure_buf.h"
#include "policy/bucket.h"

struct rates {
        bool known;              /* the broker has said something */
        struct bucket requests, tokens;
};

void rates_set(struct rates *r, const struct wire_rates *m, uint64_t now);
/* Header lines, nothing for what has no limit. now: CLOCK_MONOTONIC, microseconds. */
void rates_headers(struct rates *r, uint64_t now, struct secure_buf *out);
