/* UTF-8 decoding, and the stream that turns token bytes into whole characters. Tokens end anywhere,
 * also inside a character, but a reader must never see half of one: the stream holds back at most
 * three bytes, and what it emits does not depend on where the input was cut. */

#include <string.h>

#include "engine/text/utf8.h"
#include "engine/text/vocab.h"

/* The bytes that may follow a lead byte directly, and the length it announces (0: no lead byte). */
static size_t lead(uint8_t b, uint8_t *ret_low, uint8_t *ret_high) {
        *ret_low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
        *ret_high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
        if (b < 0x80)
                return 1;
        if (b >= 0xc2 && b <= 0xdf)
                return 2;
        if (b >= 0xe0 && b <= 0xef)
                return 3;
        return b >= 0xf0 && b <= 0xf4 ? 4 : 0;
}

/* > 0: a character of that many bytes; 0: p[0..n) is the start of one; < 0: the first -r bytes can
 * never become one (the longest such run: what the Unicode standard calls a maximal subpart). */
static int step(const uint8_t *p, size_t n, uint32_t *ret_cp) {
        uint8_t low, high;
        size_t size = lead(p[0], &low, &high);
        if (size == 0)
                return -1;
        uint32_t cp = size == 1 ? p[0] : p[0] & (0x7fu >> size);
        for (size_t i = 1; i < size; i++) {
                if (i == n)
                        return 0;
                if (p[i] < low || p[i] > high)
                        return -(int)i;
                cp = cp << 6 | (p[i] & 0x3f);
                low = 0x80;
                high = 0xbf;
        }
        *ret_cp = cp;
        return (int)size;
}

size_t utf8_decode(const uint8_t *p, size_t n, uint32_t *ret_cp) {
        int r = step(p, n, ret_cp);
        if (r > 0)
                return (size_t)r;
        *ret_cp = UTF8_BAD;
        return 1;
}

size_t utf8_cut(const uint8_t *p, size_t n) {
        uint32_t cp;
        for (size_t back = 1; back <= 3 && back <= n; back++) {
                uint8_t b = p[n - back];
                if ((b & 0xc0) == 0x80)
                        continue;
                return step(p + n - back, back, &cp) == 0 ? n - back : n;
        }
        return n;
}

static size_t put(char *out, const void *bytes, size_t n) {
        memcpy(out, bytes, n);
        return n;
}

size_t utf8_stream_feed(struct utf8_stream *s, const uint8_t *bytes, size_t n, char *out) {
        size_t w = 0;
        uint32_t cp;
        for (size_t i = 0; i < n; i++) {
                s->pending[s->n++] = bytes[i];
                while (s->n > 0) {
                        int r = step(s->pending, s->n, &cp);
                        if (r == 0)
                                break;
                        size_t used = r > 0 ? (size_t)r : (size_t)-r;
                        w += r > 0 ? put(out + w, s->pending, used)
                                   : put(out + w, "\xef\xbf\xbd", 3);
                        s->n -= used;
                        memmove(s->pending, s->pending + used, s->n);
                }
        }
        return w;
}

size_t utf8_stream_end(struct utf8_stream *s, char *out) {
        if (s->n == 0)
                return 0;
        explicit_bzero(s, sizeof(*s));
        return put(out, "\xef\xbf\xbd", 3);
}
