/* Two spellings of the same numbers: x-ratelimit-*, as OpenAI's clients read them, with durations
 * such as 6m0s, and the pair of the IETF draft (draft-ietf-httpapi-ratelimit-headers), with whole
 * seconds. Both count until the bucket is full again. */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/worker/rates.h"
#include "daemon/worker/worker.h"
#include "policy/limits.h"

enum { SECONDS = 1000 };

static struct bucket bucket_of(const struct wire_rate *w, uint64_t now) {
        return (struct bucket){ .per_minute = w->per_minute, .level = w->level, .debt = w->debt,
                                .at = now };
}

void rates_set(struct rates *r, const struct wire_rates *m, uint64_t now) {
        r->known = true;
        r->requests = bucket_of(&m->requests, now);
        r->tokens = bucket_of(&m->tokens, now);
}

static uint64_t milliseconds(uint64_t usec) {
        return usec / USEC_PER_MSEC + (usec % USEC_PER_MSEC != 0);
}

static uint64_t whole_seconds(uint64_t ms) {
        return ms / SECONDS + (ms % SECONDS != 0);
}

/* "250ms", "7s", "6m0s". */
static void print_duration(uint64_t ms, char *buf, size_t size) {
        uint64_t s = whole_seconds(ms);

        if (ms < SECONDS)
                snprintf(buf, size, "%" PRIu64 "ms", ms);
        else if (s < 60)
                snprintf(buf, size, "%" PRIu64 "s", s);
        else
                snprintf(buf, size, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
}

static void openai(const char *what, struct bucket *b, uint64_t now, struct secure_buf *out) {
        char reset[32];

        print_duration(milliseconds(bucket_until_full(b, now)), reset, sizeof(reset));
        secure_buf_printf(out,
                          "x-ratelimit-limit-%s: %" PRIu64 "\r\nx-ratelimit-remaining-%s: %" PRIu64
                          "\r\nx-ratelimit-reset-%s: %s\r\n",
                          what, b->per_minute, what, bucket_left(b, now), what, reset);
}

static void ietf(const char *what, struct bucket *b, uint64_t now, struct secure_buf *out) {
        secure_buf_printf(out,
                          "RateLimit-Policy: \"%s\";q=%" PRIu64 ";w=60\r\n"
                          "RateLimit: \"%s\";r=%" PRIu64 ";t=%" PRIu64 "\r\n",
                          what, b->per_minute, what, bucket_left(b, now),
                          whole_seconds(milliseconds(bucket_until_full(b, now))));
}

static void headers(const char *what, struct bucket *b, uint64_t now, struct secure_buf *out) {
        if (b->per_minute == QUOTA_INFINITY)
                return;
        openai(what, b, now, out);
        ietf(what, b, now, out);
}

void rates_headers(struct rates *r, uint64_t now, struct secure_buf *out) {
        if (!r->known)
                return;
        headers("requests", &r->requests, now, out);
        headers("tokens", &r->tokens, now, out);
}
