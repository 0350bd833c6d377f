/* The writing half of the container. Invariant: what is built here passes gguf_parse(), provided
 * that names and keys are unique and sizes right, which is the caller's part. Owns its buffers. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/gguf_write.h"

int bytes_put(struct bytes *b, const void *p, size_t n) {
        size_t end;

        if (n == 0)
                return 0;
        if (__builtin_add_overflow(b->n, n, &end))
                return -ENOMEM;
        if (end > b->room) {
                size_t room = MAX(end, b->room + b->room / 2);
                uint8_t *bigger = realloc(b->p, room);

                if (!bigger)
                        return -ENOMEM;
                b->p = bigger;
                b->room = room;
        }
        memcpy(b->p + b->n, p, n);
        b->n = end;
        return 0;
}

int bytes_put_string(struct bytes *b, const void *p, size_t n) {
        uint64_t length = n;
        int r;

        r = bytes_put(b, &length, sizeof(length));
        return r < 0 ? r : bytes_put(b, p, n);
}

static void stick(struct gguf_writer *w, int r) {
        if (r < 0 && w->error == 0)
                w->error = r;
}

static void put(struct gguf_writer *w, struct bytes *b, const void *p, size_t n) {
        stick(w, bytes_put(b, p, n));
}

static void put_key(struct gguf_writer *w, const char *key, uint32_t type) {
        stick(w, bytes_put_string(&w->kvs, key, strlen(key)));
        put(w, &w->kvs, &type, sizeof(type));
        w->n_kv++;
}

void gguf_writer_init(struct gguf_writer *w, uint32_t alignment) {
        *w = (struct gguf_writer){.alignment = alignment};
        gguf_put_u32(w, "general.alignment", alignment);
}

void gguf_writer_done(struct gguf_writer *w) {
        free(w->kvs.p);
        free(w->infos.p);
        *w = (struct gguf_writer){0};
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v) {
        put_key(w, key, GGUF_U32);
        put(w, &w->kvs, &v, sizeof(v));
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v) {
        put_key(w, key, GGUF_F32);
        put(w, &w->kvs, &v, sizeof(v));
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v) {
        uint8_t byte = v;

        put_key(w, key, GGUF_BOOL);
        put(w, &w->kvs, &byte, sizeof(byte));
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *s, size_t n) {
        put_key(w, key, GGUF_STRING);
        stick(w, bytes_put_string(&w->kvs, s, n));
}

static void put_array(struct gguf_writer *w, enum gguf_type element, uint64_t count,
                      const void *payload, size_t n) {
        uint32_t type = element;

        put(w, &w->kvs, &type, sizeof(type));
        put(w, &w->kvs, &count, sizeof(count));
        put(w, &w->kvs, payload, n);
}

void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type element, uint64_t count,
                    const void *payload, size_t n) {
        put_key(w, key, GGUF_ARRAY);
        put_array(w, element, count, payload, n);
}

void gguf_put_kv(struct gguf_writer *w, const struct gguf_kv *kv) {
        uint32_t type = kv->type;

        stick(w, bytes_put_string(&w->kvs, kv->key.p, kv->key.n));
        put(w, &w->kvs, &type, sizeof(type));
        w->n_kv++;
        if (kv->type == GGUF_ARRAY)
                put_array(w, kv->element, kv->count, kv->value.p, kv->value.n);
        else if (kv->type == GGUF_STRING)
                stick(w, bytes_put_string(&w->kvs, kv->value.p, kv->value.n));
        else
                put(w, &w->kvs, kv->value.p, kv->value.n);
}

uint64_t gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                         const uint64_t *ne, uint64_t size) {
        uint64_t offset, end;

        if (__builtin_add_overflow(w->data_size, w->alignment - 1U, &offset)) {
                stick(w, -EOVERFLOW);
                return 0;
        }
        offset &= ~(uint64_t)(w->alignment - 1U);
        if (__builtin_add_overflow(offset, size, &end)) {
                stick(w, -EOVERFLOW);
                return 0;
        }
        stick(w, bytes_put_string(&w->infos, name, strlen(name)));
        put(w, &w->infos, &n_dims, sizeof(n_dims));
        put(w, &w->infos, ne, n_dims * sizeof(*ne));
        put(w, &w->infos, &type, sizeof(type));
        put(w, &w->infos, &offset, sizeof(offset));
        w->n_tensors++;
        w->data_size = end;
        return offset;
}

int gguf_writer_finish(struct gguf_writer *w, struct bytes *ret) {
        static const uint8_t magic[4] = {'G', 'G', 'U', 'F'};
        const uint32_t version = 3;
        struct bytes out = {0};
        size_t end;

        put(w, &out, magic, sizeof(magic));
        put(w, &out, &version, sizeof(version));
        put(w, &out, &w->n_tensors, sizeof(w->n_tensors));
        put(w, &out, &w->n_kv, sizeof(w->n_kv));
        put(w, &out, w->kvs.p, w->kvs.n);
        put(w, &out, w->infos.p, w->infos.n);
        end = (out.n + w->alignment - 1) & ~(size_t)(w->alignment - 1U);
        while (w->error == 0 && out.n < end) {
                static const uint8_t zeros[64];

                put(w, &out, zeros, MIN(sizeof(zeros), end - out.n));
        }
        if (w->error < 0) {
                free(out.p);
                return w->error;
        }
        *ret = out;
        return 0;
}
