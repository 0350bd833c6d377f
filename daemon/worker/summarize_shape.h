/* From what the model says to what was asked for: so many sentences, bullets or words, and no
 * markup in plain text. Streaming: text is passed on as soon as it is sure to belong to the answer.
 * Nothing is added but the bullet at the start of a key point; nothing inside is changed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/secure_buf.h"

enum { SHAPE_WORD = 12 }; /* bytes of the last word that are remembered */

struct shape {
        uint32_t type, format;  /* enum wire_summary_type, enum wire_text_format */
        uint32_t count;         /* sentences, bullets or words; as summary_count */
        bool done;              /* the answer is complete, what follows is dropped */

        bool started;           /* something other than white space came */
        uint32_t made;          /* sentences or bullets that are complete */
        uint32_t words;         /* begun in this sentence (headline: in all) */
        char word[SHAPE_WORD];  /* the beginning of the present word */
        uint32_t word_n;        /* its whole size */
        bool after_end;         /* the last character ends a sentence if another one follows */
        uint32_t blanks, newlines; /* white space held back */
        bool quoted;            /* headline: began with a quotation mark; all of them are dropped */
        bool star;              /* plain: an asterisk is held back */
        bool in_line;           /* key points: past the bullet of this line */
        char marker[4];         /* key points: what may be a list marker, held back */
        uint32_t marker_n;
};

/* What may be given out is appended to out. Returns done. */
bool shape_feed(struct shape *s, const char *text, size_t n, struct secure_buf *out);
/* The model has ended: what was held back and belongs to the answer is appended. */
void shape_end(struct shape *s, struct secure_buf *out);
