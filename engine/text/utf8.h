/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD UINT32_MAX

/* The character at p[0..n), n >= 1. Returns its length in bytes and the code point; a byte that
 * starts no whole character is a character of its own: length 1, code point UTF8_BAD. */
size_t utf8_decode(const uint8_t *p, size_t n, uint32_t *ret_cp);

/* Length of the longest prefix of p[0..n) that does not end inside a character. Bytes that cannot
 * become a character count as whole: at most 3 bytes are cut off. */
size_t utf8_cut(const uint8_t *p, size_t n);
