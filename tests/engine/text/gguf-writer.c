/* The smallest GGUF writer that tokenizer tests need: header and metadata, nothing after it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/gguf.h"
#include "tests/engine/text/gguf-writer.h"

enum { HEADER = 24 };

static void put(struct gguf_writer *w, const void *bytes, size_t n) {
        if (w->n + n > w->room) {
                w->room = 2 * (w->n + n) + 1024;
                w->p = realloc(w->p, w->room);
                if (!w->p) {
                        fprintf(stderr, "no memory for %zu bytes\n", w->room);
                        abort();
                }
        }
        if (n > 0)
                memcpy(w->p + w->n, bytes, n);
        w->n += n;
}

static void put_u32(struct gguf_writer *w, uint32_t v) {
        put(w, &v, sizeof(v));
}

static void put_u64(struct gguf_writer *w, uint64_t v) {
        put(w, &v, sizeof(v));
}

static void put_text(struct gguf_writer *w, const void *text, size_t n) {
        put_u64(w, n);
        put(w, text, n);
}

static void put_key(struct gguf_writer *w, const char *key, uint32_t type) {
        static const uint8_t header[HEADER];
        if (w->n == 0)
                put(w, header, sizeof(header));
        put_text(w, key, strlen(key));
        put_u32(w, type);
        w->n_kv++;
}

static void put_array(struct gguf_writer *w, const char *key, uint32_t element, size_t n) {
        put_key(w, key, GGUF_ARRAY);
        put_u32(w, element);
        put_u64(w, n);
}

void gguf_writer_done(struct gguf_writer *w) {
        free(w->p);
        *w = (struct gguf_writer){0};
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *value) {
        put_key(w, key, GGUF_STRING);
        put_text(w, value, strlen(value));
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value) {
        put_key(w, key, GGUF_U32);
        put_u32(w, value);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool value) {
        uint8_t byte = value;
        put_key(w, key, GGUF_BOOL);
        put(w, &byte, 1);
}

void gguf_put_strings(struct gguf_writer *w, const char *key, const struct view *values, size_t n) {
        put_array(w, key, GGUF_STRING, n);
        for (size_t i = 0; i < n; i++)
                put_text(w, values[i].p, values[i].n);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *values, size_t n) {
        put_array(w, key, GGUF_I32, n);
        put(w, values, n * sizeof(*values));
}

void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *values, size_t n) {
        put_array(w, key, GGUF_F32, n);
        put(w, values, n * sizeof(*values));
}

struct view gguf_writer_file(struct gguf_writer *w) {
        uint32_t version = 3;
        memcpy(w->p, "GGUF", 4);
        memcpy(w->p + 4, &version, 4);
        memset(w->p + 8, 0, 8);
        memcpy(w->p + 16, &w->n_kv, 8);
        return (struct view){.p = w->p, .n = w->n};
}
