/* A growing buffer for text of users: prompts, documents, answers. Whatever memory it leaves is
 * wiped first, also when it grows. An allocation that fails sets `failed` and drops the bytes, so
 * that writers need no checks; the owner looks once, before it relies on the contents. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct secure_buf {
        char *p;     /* NULL when empty */
        size_t n;    /* bytes in use */
        size_t room; /* bytes allocated */
        bool failed;
};

void secure_buf_done(struct secure_buf *b); /* wipes and empties; the buffer may be used again */

/* Make room for `extra` more bytes. Returns where they go (p + n), or NULL. */
char *secure_buf_reserve(struct secure_buf *b, size_t extra);
void secure_buf_append(struct secure_buf *b, const char *p, size_t n);
void secure_buf_puts(struct secure_buf *b, const char *s);
void secure_buf_printf(struct secure_buf *b, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* Drop the first n bytes. */
void secure_buf_consume(struct secure_buf *b, size_t n);
/* Hand the bytes over as a malloc'd, NUL-terminated string of b->n bytes; b is empty afterwards.
 * NULL when there is no memory. */
char *secure_buf_take(struct secure_buf *b);

/* Wipe and free a malloc'd block of any size. */
void secure_free(void *p);
/* Make jansson wipe what it frees. Once, at start. */
void secure_json_init(void);
