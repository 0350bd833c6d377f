/* Terminal hygiene. A model can be talked into printing escape sequences; on a terminal they are
 * shown, never executed. */

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "client/term.h"

/* Code point of the UTF-8 character at p and its length; bad bytes count as themselves. */
static uint32_t decode(const unsigned char *p, size_t n, size_t *ret_length) {
        static const uint8_t lengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
        size_t length = lengths[p[0] >> 4];
        uint32_t c;

        if (length == 1 || length > n) {
                *ret_length = 1;
                return p[0];
        }
        c = p[0] & (0xffu >> (length + 1));
        for (size_t i = 1; i < length; i++)
                c = c << 6 | (p[i] & 0x3fu);
        *ret_length = length;
        return c;
}

static bool is_unsafe(uint32_t c) {
        if (c == '\n' || c == '\t')
                return false;
        if (c < 0x20 || (c >= 0x7f && c < 0xa0))
                return true;
        return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e ||
               c == 0x200f || c == 0x061c;
}

bool term_text(FILE *out, const char *text, size_t n, bool safe) {
        const unsigned char *p = (const unsigned char *)text;

        while (n > 0) {
                size_t length;
                uint32_t c = decode(p, n, &length);

                if (safe && is_unsafe(c))
                        fprintf(out, c < 0x100 ? "\\x%02x" : "\\u%04x", c);
                else
                        fwrite(p, 1, length, out);
                p += length;
                n -= length;
        }
        return fflush(out) == 0 && !ferror(out);
}

void term_progress(const char *line) {
        if (!isatty(STDERR_FILENO))
                return;
        fprintf(stderr, "\r\033[K%s", line ? line : "");
        fflush(stderr);
}

void term_error(const char *text) {
        term_progress(NULL);
        fprintf(stderr, "bnctl: %s\n", text);
}
