/* The header of a packed file: everything before the weights. */
#pragma once

#include "engine/model/gguf_write.h"
#include "engine/model/pack_plan.h"

enum { PACK_ALIGNMENT = 4096 };

/* w: fresh, with PACK_ALIGNMENT. Gives every matrix and vector of the plan its offset in the blob,
 * which starts at ret->n; the file ends w->data_size later. ret->p is the caller's. 0 or negative
 * errno with the plan's err. */
int pack_header(struct pack_plan *p, struct gguf_writer *w, struct bytes *ret);
