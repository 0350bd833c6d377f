/* Completion of command lines: what could stand where the cursor is. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "client/options.h"

/* words: those after "bnctl", the last one is to be completed. Prints a candidate a line, a tab and
 * what it is; or the line ":files" where a file is wanted. split: the shell hands "--type=x" over
 * as three words and wants only what follows the "=". o: where the daemon is. */
void complete(FILE *out, struct options *o, char **words, int n, bool split);
