/* What the text of a token in a model file says about it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/macro.h"

static inline bool view_is(struct view a, const char *text) {
        return a.n == strlen(text) && memcmp(a.p, text, a.n) == 0;
}

/* Ends a generation whatever else the file says (formats-and-models 5.4). */
bool token_text_ends(struct view text);

/* Part of a chat format: never within reach of user text. */
bool token_text_is_role(struct view text);

/* Separator of a code model: ends a generation if the file has it as a control token. */
bool token_text_separates(struct view text);

/* The value of a byte token, which is written exactly <0xHH>; -1 for any other text. */
int token_text_byte(struct view s);

/* U+2581 to space; out has room for s.n bytes. False when there is a plain space, which no normal
 * text contains. */
bool token_text_from_spm(struct view s, uint8_t *out, size_t *ret_n);
