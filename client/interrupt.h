/* Ctrl-C: the first one cancels the job (the connection is closed, the daemon stops computing),
 * a second one ends the program at once. */
#pragma once

#include <stdbool.h>

enum { EXIT_INTERRUPTED = 130 };

void interrupt_install(void);
bool interrupted(void);
void interrupt_clear(void);
