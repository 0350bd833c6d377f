/* The throw-away worker that turns a GGUF file into a packed one. */
#pragma once

/* Inside the sandbox, after READY: receive the two files, pack, answer PACKED. cpu_flags:
 * what serving will use. Returns 0 when an
 * answer was sent (also a refusal), or a negative errno. */
int pack_mode(int link_fd, unsigned cpu_flags);
