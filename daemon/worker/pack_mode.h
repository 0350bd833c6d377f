/* The throw-away worker that turns a GGUF file into a packed one. */
#pragma once

/* Inside the sandbox, after READY: receive the two files, pack, answer PACKED. Returns 0 when an
 * answer was sent (also a refusal), or a negative errno. */
int pack_mode(int link_fd);
