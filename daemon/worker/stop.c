/* Finds the first stop string in streamed text. `held` is always a suffix of the text so far that
 * is a proper prefix of some stop string, so it is shorter than the longest of them, and the work
 * per byte is bounded. UTF-8 stays whole: a held prefix is released or dropped as bytes of whole
 * characters, because stop strings and text both consist of whole characters. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/stop.h"
#include "engine/base/macro.h"

int stop_list_add(struct stop_list *l, const char *s, size_t n) {
        char *copy;

        if (n == 0)
                return -EINVAL;
        if (l->n == STOP_MAX || n > STOP_BYTES_MAX)
                return -E2BIG;
        copy = strndup(s, n);
        if (!copy)
                return -ENOMEM;
        l->strings[l->n++] = copy;
        return 0;
}

void stop_list_done(struct stop_list *l) {
        for (size_t i = 0; i < l->n; i++)
                secure_free(l->strings[i]);
        *l = (struct stop_list){};
}

/* First place in p[0..n) where a stop string stands, or n. */
static size_t find_stop(const struct stop_list *l, const char *p, size_t n) {
        size_t first = n;

        for (size_t i = 0; i < l->n; i++) {
                const char *at = memmem(p, n, l->strings[i], strlen(l->strings[i]));

                if (at)
                        first = MIN(first, (size_t)(at - p));
        }
        return first;
}

/* Length of the longest suffix of p[0..n) that begins a stop string. */
static size_t begun(const struct stop_list *l, const char *p, size_t n) {
        for (size_t take = MIN(n, (size_t)STOP_BYTES_MAX - 1); take > 0; take--)
                for (size_t i = 0; i < l->n; i++)
                        if (take < strlen(l->strings[i]) &&
                            memcmp(p + n - take, l->strings[i], take) == 0)
                                return take;
        return 0;
}

bool stop_filter_feed(struct stop_filter *f, const char *text, size_t n, struct secure_buf *out) {
        size_t at, keep;

        if (f->stopped)
                return true;
        if (f->list->n == 0) {
                secure_buf_append(out, text, n);
                return false;
        }
        secure_buf_append(&f->held, text, n);
        at = find_stop(f->list, f->held.p, f->held.n);
        if (at < f->held.n) {
                secure_buf_append(out, f->held.p, at);
                secure_buf_done(&f->held);
                f->stopped = true;
                return true;
        }
        keep = begun(f->list, f->held.p, f->held.n);
        secure_buf_append(out, f->held.p, f->held.n - keep);
        secure_buf_consume(&f->held, f->held.n - keep);
        return false;
}

void stop_filter_end(struct stop_filter *f, struct secure_buf *out) {
        if (!f->stopped)
                secure_buf_append(out, f->held.p, f->held.n);
        secure_buf_done(&f->held);
}

void stop_filter_done(struct stop_filter *f) {
        secure_buf_done(&f->held);
}
