/* Landlock: no file, no TCP port, no abstract socket, no signal to others. */
#pragma once

#include <stdint.h>

enum { LANDLOCK_ABI_KNOWN = 9 }; /* newest interface whose rights are known here */

/* What an ABI can restrict; ABIs above the known one count as it. Zero where there is nothing. */
struct landlock_rights {
        uint64_t fs, net, scoped;
        uint64_t size; /* bytes of the structure that this ABI knows, 0: no Landlock */
};
struct landlock_rights landlock_rights(unsigned abi);

/* The kernel's ABI; 0 when there is none: not built in, switched off at boot, or refused by the
 * filter of a container. */
unsigned landlock_abi(void);

/* Take every right away from this thread and what it will make; needs no_new_privs. Returns the ABI
 * in force, 0 when the kernel has none, or a negative errno. */
int landlock_enter(void);
