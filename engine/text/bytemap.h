/* Byte-level BPE writes token texts with one printable character for every byte value
 * (formats-and-models 5.2). Tokens are kept as plain bytes here, so the map is only inverted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

/* Turn mapped text into the bytes it stands for; out has room for text.n bytes. False when a
 * character stands for no byte. */
bool bytemap_decode(struct view text, uint8_t *out, size_t *ret_n);
