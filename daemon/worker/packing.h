/* How to store ternary weights on this machine. */
#pragma once

#include "engine/model/pack.h"

/* Which packing multiplies faster from memory, on one thread. Takes half a second and 128 MiB
 * for that time; without the memory the answer is 2 bits. */
enum ternary_packing packing_measure(unsigned cpu_flags);
