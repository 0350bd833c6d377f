/* Text of users lives here and nowhere else, so that wiping is one module's duty. The invariant:
 * a byte that was ever stored is overwritten before its memory goes back to the allocator. realloc
 * is never used (it may leave a copy behind); growing copies, wipes and frees. */
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/secure_buf.h"
#include "engine/base/macro.h"

enum { SMALLEST_ROOM = 256 };

void secure_free(void *p) {
        if (!p)
                return;
        explicit_bzero(p, malloc_usable_size(p));
        free(p);
}

void secure_buf_done(struct secure_buf *b) {
        secure_free(b->p);
        *b = (struct secure_buf){};
}

char *secure_buf_reserve(struct secure_buf *b, size_t extra) {
        size_t room = MAX(b->room, (size_t)SMALLEST_ROOM), need;
        char *p;

        if (b->failed || __builtin_add_overflow(b->n, extra, &need) || need > SIZE_MAX / 2) {
                b->failed = true;
                return NULL;
        }
        if (need <= b->room)
                return b->p + b->n;
        while (room < need)
                room *= 2;
        p = malloc(room);
        if (!p) {
                b->failed = true;
                return NULL;
        }
        if (b->n > 0)
                memcpy(p, b->p, b->n);
        secure_free(b->p);
        b->p = p;
        b->room = room;
        return b->p + b->n;
}

void secure_buf_append(struct secure_buf *b, const char *p, size_t n) {
        char *to;

        if (n == 0)
                return;
        to = secure_buf_reserve(b, n);
        if (!to)
                return;
        memcpy(to, p, n);
        b->n += n;
}

void secure_buf_puts(struct secure_buf *b, const char *s) {
        secure_buf_append(b, s, strlen(s));
}

void secure_buf_printf(struct secure_buf *b, const char *format, ...) {
        va_list ap;
        char *to;
        int n;

        va_start(ap, format);
        n = vsnprintf(NULL, 0, format, ap);
        va_end(ap);
        if (n < 0 || !(to = secure_buf_reserve(b, (size_t)n + 1))) {
                b->failed = true;
                return;
        }
        va_start(ap, format);
        vsnprintf(to, (size_t)n + 1, format, ap);
        va_end(ap);
        b->n += (size_t)n;
}

void secure_buf_consume(struct secure_buf *b, size_t n) {
        size_t left = b->n - n;

        if (n == 0)
                return;
        memmove(b->p, b->p + n, left);
        explicit_bzero(b->p + left, n);
        b->n = left;
}

char *secure_buf_take(struct secure_buf *b) {
        char *end = secure_buf_reserve(b, 1), *p;

        if (!end)
                return NULL;
        *end = '\0';
        p = b->p;
        *b = (struct secure_buf){};
        return p;
}

void secure_json_init(void) {
        json_set_alloc_funcs(malloc, secure_free);
}
