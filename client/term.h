/* What goes to the person: model text made harmless for a terminal, progress on stderr. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Write model text. With `safe`, control characters (except newline and tab), C1 controls and
 * bidirectional overrides are shown as escapes: model output must not drive a terminal. The text
 * is whole UTF-8 characters. Returns false when the reader is gone. */
bool term_text(FILE *out, const char *text, size_t n, bool safe);

/* A transient status line on stderr, only when stderr is a terminal and not quiet. NULL clears. */
void term_progress(const char *line);

/* "bnctl: TEXT" on stderr. */
void term_error(const char *text);
