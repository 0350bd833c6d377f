/* Material for a verb: a file, standard input, or nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* True when standard input is a pipe, a file or a socket: somebody gives us material. A terminal
 * or /dev/null is no material. */
bool input_given(void);

/* The whole of PATH ("-": standard input), NUL-terminated. The caller frees it with input_free.
 * Returns 0 or an exit status, with the message printed. */
int input_read(const char *path, char **ret, size_t *ret_size);
void input_free(char *text, size_t size);

/* The arguments joined by spaces; free() it. NULL when out of memory. */
char *input_join(char **args, int n);
