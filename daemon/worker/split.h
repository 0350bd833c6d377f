/* Cutting a long text into pieces by token count: at paragraphs where possible, else at lines,
 * sentences, words, characters. The pieces tile the text: no gap, no overlap, nothing left out.
 * Every call does bounded work. Text never becomes control tokens (special parsing is off). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/vocab.h"

enum {
        SPLIT_WINDOW = 64 << 10, /* bytes: no piece is longer, no single encoding is */
        SPLIT_MIN_TOKENS = 16,   /* smallest limit */
};

struct piece {
        size_t offset, n; /* bytes; never 0, whole characters */
        uint32_t tokens;  /* of the piece alone; <= limit */
};

struct splitter {
        const struct vocab *vocab; /* borrowed, as the text */
        const char *text;          /* UTF-8 */
        size_t n, at;              /* bytes; done so far */
        uint32_t limit;            /* tokens, >= SPLIT_MIN_TOKENS */
        uint64_t tokens_left;      /* estimate, from split_count; makes the pieces even */
};

/* Count the tokens of the next slice of text: adds to *tokens and moves *at. Call until *at == n.
 * The sum over slices may differ slightly from the count of the whole. 0 or -ENOMEM. */
int split_count(const struct vocab *vocab, const char *text, size_t n, size_t *at,
                uint64_t *tokens);

/* The next piece. 0: *ret is filled, 1: the text has ended, -ENOMEM. Where the text needs more than
 * one piece, pieces are of similar size; none is tiny unless the text is uneven. */
int split_next(struct splitter *s, struct piece *ret);
