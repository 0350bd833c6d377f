/* The GGUF container: header, metadata, tensor table. Parses a bounded view, copies nothing,
 * allocates tables whose size is bounded by the bytes they describe. All rules of
 * formats-and-models 1.3, 1 to 14. Used for files from outside and for packed files alike. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"
#include "engine/base/model_error.h"

enum gguf_type {
        GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
        GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
        _GGUF_TYPE_MAX,
};

struct gguf_kv {
        struct view key;
        enum gguf_type type;
        enum gguf_type element;  /* arrays */
        uint64_t count;          /* arrays: elements; otherwise 1 */
        struct view value;       /* scalar bytes; string bytes; array elements as stored */
        uint64_t position;       /* of the value, from the start of the file */
};

struct gguf_tensor {
        struct view name;
        uint32_t n_dims;
        uint64_t ne[4];          /* missing dimensions are 1; ne[0] is contiguous */
        uint32_t type;           /* ggml type id, as in the file */
        uint64_t offset;         /* from the start of the file */
        uint64_t size;           /* bytes */
        uint64_t position;       /* of the table entry */
};

struct gguf {
        struct view file;
        uint32_t version;
        struct gguf_kv *kv;          /* sorted by key */
        size_t n_kv;
        struct gguf_tensor *tensors; /* sorted by name */
        size_t n_tensors;
};

int gguf_parse(struct gguf **ret, struct view file, struct model_error *err);
struct gguf *gguf_free(struct gguf *g);

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Typed getters: 0 found, GGUF_ABSENT when there is no such key (out untouched), negative errno
 * with *err when the type or range is wrong. Integers of any width are accepted when they fit. */
enum { GGUF_ABSENT = 1 };
int gguf_u32(const struct gguf *g, const char *key, uint32_t *ret, struct model_error *err);
int gguf_f32(const struct gguf *g, const char *key, float *ret, struct model_error *err);
int gguf_bool(const struct gguf *g, const char *key, bool *ret, struct model_error *err);
int gguf_string(const struct gguf *g, const char *key, struct view *ret, struct model_error *err);

/* Walk an array of strings (checked by gguf_parse): *cursor starts as kv->value. */
struct view gguf_next_string(struct view *cursor);
