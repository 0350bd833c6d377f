/* Packed files with random weights, written directly: a model of any size in the time it takes to
 * write the file. */
#pragma once

#include "engine/model/pack.h"
#include "tests/tools/synthetic.h"

/* Write from offset 0 with pwrite. Projections are i2_s, embedding and head f16 (above 100 M
 * weights 8-bit rows). 0; -EINVAL for other types; other negative errno, with a line on stderr. */
int synthetic_write_packed(int fd, const struct synthetic *s, enum ternary_packing ternary,
                           uint64_t *ret_size);
