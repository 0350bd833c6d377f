/* Vocabularies for tests: files of the test data, and ones built in memory. Any failure to read or
 * build ends the program with a message. */
#pragma once

#include "engine/base/macro.h"
#include "engine/text/vocab.h"
#include "tests/engine/text/gguf-writer.h"

/* Whole file (of dir, unless that is NULL), with a NUL after it that is not counted. Free .p. */
struct view fixture_read(const char *dir, const char *name);

struct vocab *fixture_load(struct view file);
struct vocab *fixture_load_file(const char *dir, const char *name);

/* Llama 3's vocabulary from the tiktoken file in dir. As the published 2B4T file has it: no name of
 * a pre-tokenizer. */
void fixture_put_llama3(struct gguf_writer *w, const char *dir, size_t *ret_merges);

/* The part of Qwen2's vocabulary that is the same text in Llama 3's: the first 100256 tokens
 * without those of two or three digits, renumbered. ret_n: how many there are. */
void fixture_put_qwen2(struct gguf_writer *w, const char *dir, size_t *ret_n);

/* Tiny vocabularies: all single bytes, a few merges, control and user-defined tokens. More
 * entries may be put after it. */
void fixture_put_tiny_bpe(struct gguf_writer *w, const char *pre);
void fixture_put_tiny_spm(struct gguf_writer *w);
