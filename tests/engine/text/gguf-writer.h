/* Builds GGUF files without tensors in memory. Any failure ends the program. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

struct gguf_writer {
        uint8_t *p;
        size_t n, room;
        uint64_t n_kv;
};

void gguf_writer_done(struct gguf_writer *w);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *value);
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_put_strings(struct gguf_writer *w, const char *key, const struct view *values, size_t n);
void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *values, size_t n);
void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *values, size_t n);
/* The file so far; valid until the next put. */
struct view gguf_writer_file(struct gguf_writer *w);
