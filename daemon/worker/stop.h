/* Stop strings: text passes through until one of them appears. Text that could be the beginning of
 * a stop string is held back until it is clear that it is not. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/worker/secure_buf.h"

enum { STOP_MAX = 4, STOP_BYTES_MAX = 256 };

struct stop_list {
        char *strings[STOP_MAX]; /* owned, NUL-terminated, 1..STOP_BYTES_MAX bytes */
        size_t n;
};
/* 0, -E2BIG (five strings, or one that is too long), -EINVAL (empty), -ENOMEM. */
int stop_list_add(struct stop_list *l, const char *s, size_t n);
void stop_list_done(struct stop_list *l);

struct stop_filter {
        const struct stop_list *list; /* borrowed */
        struct secure_buf held;       /* not given out yet */
        bool stopped;
};
/* Feed text; what may be given out is appended to out. Returns true when a stop string appeared
 * (now or earlier): the text before it is in out, nothing comes after it. */
bool stop_filter_feed(struct stop_filter *f, const char *text, size_t n, struct secure_buf *out);
/* The text ended: what was held back is appended to out. */
void stop_filter_end(struct stop_filter *f, struct secure_buf *out);
void stop_filter_done(struct stop_filter *f);
