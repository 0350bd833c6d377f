/* Builds a GGUF v3 header in memory: metadata and tensor table. The caller writes the tensor bytes
 * itself, at the offsets it was given. Used by the packer and by the test programs. Errors stick:
 * the first -ENOMEM or -EOVERFLOW is returned by gguf_writer_finish(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/gguf.h"

struct bytes {
        uint8_t *p;
        size_t n, room;
};

struct gguf_writer {
        struct bytes kvs, infos;
        uint64_t n_kv, n_tensors;
        uint64_t data_size;   /* end of the last tensor, from the start of the blob */
        uint32_t alignment;
        int error;
};

/* alignment: a power of two; written as general.alignment. */
void gguf_writer_init(struct gguf_writer *w, uint32_t alignment);
void gguf_writer_done(struct gguf_writer *w);

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *s, size_t n);
/* payload: count elements as they stand in the file */
void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type element, uint64_t count,
                    const void *payload, size_t n);
/* An entry of another file, as it is. */
void gguf_put_kv(struct gguf_writer *w, const struct gguf_kv *kv);

/* Adds a table entry; returns the offset of the tensor from the start of the blob. size: bytes,
 * which the caller must get right for the type. */
uint64_t gguf_put_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                         const uint64_t *ne, uint64_t size);

/* The header, padded to the alignment: ret->n is where the blob starts. ret->p is the caller's. */
int gguf_writer_finish(struct gguf_writer *w, struct bytes *ret);

/* For arrays of strings: append a length and the bytes. -ENOMEM. */
int bytes_put(struct bytes *b, const void *p, size_t n);
int bytes_put_string(struct bytes *b, const void *p, size_t n);
