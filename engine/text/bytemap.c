/* The inverse byte map. Printable bytes of Latin-1 stand for themselves; the other 68, in
 * increasing order, are written as U+0100, U+0101, …: 0 to 32, 127 to 160, 173. */

#include "engine/text/bytemap.h"
#include "engine/text/utf8.h"

static int byte_of(uint32_t cp) {
        if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
                return (int)cp;
        if (cp < 0x100 || cp > 0x143)
                return -1;
        int k = (int)(cp - 0x100);
        if (k <= 32)
                return k;
        return k <= 66 ? k - 33 + 127 : 173;
}

bool bytemap_decode(struct view text, uint8_t *out, size_t *ret_n) {
        size_t n = 0;
        for (size_t i = 0; i < text.n;) {
                uint32_t cp;
                i += utf8_decode(text.p + i, text.n - i, &cp);
                int b = byte_of(cp);
                if (b < 0)
                        return false;
                out[n++] = (uint8_t)b;
        }
        *ret_n = n;
        return true;
}
