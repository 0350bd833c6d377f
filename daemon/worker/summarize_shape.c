/* The shape of a summary. Problem: a small model asked for one sentence may write three, or a list,
 * and what was asked for must be what is streamed. So the end is found here: white space is held
 * back until the next character shows whether a sentence, a line or the answer has ended. The
 * text that passes is the model's own, byte for byte, except for list markers, which become one
 * form, and bold markup, which plain text does not have. Invariant: nothing that was given out is
 * ever taken back. */
#include <ctype.h>
#include <string.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/summarize_shape.h"
#include "engine/base/macro.h"

/* Words that end in a full stop without ending a sentence. */
static const char *const abbreviations[] = {
        "e.g.", "i.e.", "al.", "cf.", "vs.", "approx.", "resp.", "Dr.", "Mr.", "Mrs.", "Ms.",
        "Prof.", "St.", "Fig.", "Figs.", "Eq.", "Sec.", "Tab.", "No.", "Nos.", "Ref.", "(e.g.",
        "(i.e.", "(cf.",
};

static bool is_abbreviation(const struct shape *s) {
        if (s->word_n > SHAPE_WORD)
                return false;
        if (s->word_n == 2 && isupper((unsigned char)s->word[0]))
                return true; /* an initial */
        /* the number of a list entry */
        if (s->words == 1 && s->word_n <= 3 && isdigit((unsigned char)s->word[0]))
                return true;
        for (size_t i = 0; i < ARRAY_SIZE(abbreviations); i++)
                if (strlen(abbreviations[i]) == s->word_n &&
                    memcmp(abbreviations[i], s->word, s->word_n) == 0)
                        return true;
        return false;
}

static void note_character(struct shape *s, char c) {
        if (s->word_n++ == 0)
                s->words++;
        if (s->word_n <= SHAPE_WORD)
                s->word[s->word_n - 1] = c;
        if (c == '.')
                s->after_end = !is_abbreviation(s);
        else if (c == '!' || c == '?')
                s->after_end = true;
        else if (c != '"' && c != '\'' && c != ')' && c != ']')
                s->after_end = false;
}

static void put_white_space(struct shape *s, struct secure_buf *out) {
        if (s->newlines > 0 && s->type != WIRE_SUMMARY_HEADLINE)
                secure_buf_append(out, "\n\n", MIN(s->newlines, 2U));
        else if (s->blanks + s->newlines > 0)
                secure_buf_append(out, " ", 1);
        s->blanks = s->newlines = 0;
}

static void put_character(struct shape *s, char c, struct secure_buf *out) {
        put_white_space(s, out);
        note_character(s, c);
        s->started = true;
        secure_buf_append(out, &c, 1);
}

/* Sentences and headlines */

static void sentence_blank(struct shape *s, char c) {
        if (!s->started)
                return;
        s->word_n = 0;
        if (c == '\n')
                s->newlines++;
        else
                s->blanks++;
        if (s->type == WIRE_SUMMARY_HEADLINE && s->newlines > 0)
                s->done = true;
}

static void sentence_character(struct shape *s, char c, struct secure_buf *out) {
        bool headline = s->type == WIRE_SUMMARY_HEADLINE;

        if (s->after_end && s->blanks + s->newlines > 0 && !islower((unsigned char)c)) {
                s->made++;
                s->words = headline ? s->words : 0;
                s->done = headline || s->made == s->count;
        }
        if (headline && c == '"' && (s->quoted || !s->started)) {
                s->quoted = true;
                return;
        }
        if (headline && s->word_n == 0 && s->words == s->count)
                s->done = true;
        if (!s->done)
                put_character(s, c, out);
}

/* Key points: one line each */

static bool is_marker(const char *p, size_t n) {
        if (n == 1)
                return p[0] == '-' || p[0] == '*' || p[0] == '+';
        if (n == 3 && memcmp(p, "\xe2\x80\xa2", 3) == 0)
                return true; /* U+2022 */
        return (n == 2 || n == 3) && isdigit((unsigned char)p[0]) &&
               (n == 2 || isdigit((unsigned char)p[1])) && (p[n - 1] == '.' || p[n - 1] == ')');
}

static void begin_line(struct shape *s, struct secure_buf *out) {
        if (s->made > 0)
                secure_buf_puts(out, "\n");
        secure_buf_puts(out, s->format == WIRE_FORMAT_MARKDOWN ? "- " : "\xe2\x80\xa2 ");
        s->in_line = true;
        s->blanks = s->newlines = 0;
}

/* What looked like a marker is text. */
static void put_marker(struct shape *s, struct secure_buf *out) {
        begin_line(s, out);
        for (uint32_t i = 0; i < s->marker_n; i++)
                put_character(s, s->marker[i], out);
        s->marker_n = 0;
}

static void line_blank(struct shape *s, char c, struct secure_buf *out) {
        if (s->marker_n > 0) {
                if (is_marker(s->marker, s->marker_n))
                        s->marker_n = 0;
                else
                        put_marker(s, out);
        }
        if (!s->in_line)
                return;
        if (c != '\n') {
                s->blanks++;
                return;
        }
        s->in_line = false;
        s->blanks = 0;
        s->done = ++s->made == s->count;
}

static void line_character(struct shape *s, char c, struct secure_buf *out) {
        if (!s->in_line && s->marker_n < sizeof(s->marker)) {
                s->marker[s->marker_n++] = c;
                return;
        }
        if (!s->in_line)
                put_marker(s, out);
        put_character(s, c, out);
}

static void shape_character(struct shape *s, char c, struct secure_buf *out) {
        bool lines = s->type == WIRE_SUMMARY_KEY_POINTS;

        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
                if (lines)
                        line_blank(s, c, out);
                else
                        sentence_blank(s, c);
        } else if (lines) {
                line_character(s, c, out);
        } else {
                sentence_character(s, c, out);
        }
}

/* Bold and italics of Markdown: two or more asterisks in a row are none in plain text. */
static void without_stars(struct shape *s, char c, struct secure_buf *out) {
        if (s->format != WIRE_FORMAT_PLAIN) {
                shape_character(s, c, out);
        } else if (c == '*') {
                s->star = !s->star;
        } else {
                if (s->star)
                        shape_character(s, '*', out);
                s->star = false;
                if (!s->done)
                        shape_character(s, c, out);
        }
}

bool shape_feed(struct shape *s, const char *text, size_t n, struct secure_buf *out) {
        for (size_t i = 0; i < n && !s->done; i++)
                without_stars(s, text[i], out);
        return s->done;
}

void shape_end(struct shape *s, struct secure_buf *out) {
        if (!s->done && s->marker_n > 0 && !is_marker(s->marker, s->marker_n))
                put_marker(s, out);
        s->done = true;
        explicit_bzero(s->word, sizeof(s->word));
        explicit_bzero(s->marker, sizeof(s->marker));
}
