/* Character classes, from utf8proc's tables. White_Space is a fixed list: it is a property, not a
 * category (U+0085 is a control character, U+200B looks like a space and is none). */

#include <stdbool.h>

#include <utf8proc.h>

#include "engine/text/unicode.h"

static bool is_space(uint32_t cp) {
        if (cp < 0x80)
                return cp == ' ' || (cp >= 9 && cp <= 13);
        return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
               cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

unsigned unicode_class(uint32_t cp) {
        if (is_space(cp))
                return UNICODE_SPACE;
        if (cp > 0x10ffff)
                return 0;
        switch (utf8proc_category((utf8proc_int32_t)cp)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
                return UNICODE_LETTER;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
                return UNICODE_NUMBER;
        case UTF8PROC_CATEGORY_PC:
        case UTF8PROC_CATEGORY_PD:
        case UTF8PROC_CATEGORY_PS:
        case UTF8PROC_CATEGORY_PE:
        case UTF8PROC_CATEGORY_PI:
        case UTF8PROC_CATEGORY_PF:
        case UTF8PROC_CATEGORY_PO:
                return UNICODE_PUNCT;
        default:
                return 0;
        }
}
