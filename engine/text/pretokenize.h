/* Splitting text into the pieces that byte-level BPE merges within. Each splitter is the
 * hand-written form of one published regular expression (formats-and-models 5.1). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

enum pretokenizer {
        PRETOKENIZER_LLAMA3,
        PRETOKENIZER_QWEN2,
        PRETOKENIZER_GPT2,
        PRETOKENIZER_DIGITS_GPT2, /* every digit alone, then GPT2: SmolLM, StarCoder, Command-R */
        PRETOKENIZER_FALCON,      /* punctuation runs, then GPT2, then digits by three */
        _PRETOKENIZER_MAX,
};

/* tokenizer.ggml.pre to the splitter, or -EOPNOTSUPP when the name is not known. */
int pretokenizer_by_name(struct view name);

/* What else a name of that group stands for: look whole pieces up before merging, and start a
 * prompt with BOS when the file does not say. */
bool pretokenizer_whole_pieces(enum pretokenizer p);
bool pretokenizer_adds_bos(enum pretokenizer p);

/* Walk the pieces of text[0..n): together they are the text, none is empty. Any bytes are legal; a
 * bad byte is a symbol of its own. Time O(n) for the whole walk, no memory. */
struct pretokens {
        const uint8_t *text;
        size_t n, at;
        enum pretokenizer kind;
        size_t ends[3]; /* where the current piece of each stage ends */
};
struct pretokens pretokens_start(enum pretokenizer p, const uint8_t *text, size_t n);
bool pretokens_next(struct pretokens *p, struct view *ret);
