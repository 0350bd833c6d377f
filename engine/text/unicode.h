/* The four Unicode properties that pre-tokenizers test. */
#pragma once

#include <stdint.h>

enum {
        UNICODE_LETTER = 1, /* general category L* */
        UNICODE_NUMBER = 2, /* N* */
        UNICODE_PUNCT = 4,  /* P* */
        UNICODE_SPACE = 8,  /* property White_Space (formats-and-models 5.1) */
};

/* Set of the bits above; 0 for everything else, UTF8_BAD included. */
unsigned unicode_class(uint32_t cp);
