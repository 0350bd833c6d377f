/* Small files of text, as a whole. */
#pragma once

#include <stddef.h>

/* The text and a zero byte after it into buf. 0; -EFBIG: it has size bytes or more; -EILSEQ: it
 * holds a zero byte; or what opening and reading it say. */
int text_file_read(const char *path, char *buf, size_t size);
