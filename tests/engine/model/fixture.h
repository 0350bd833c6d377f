/* Models for the tests of the packer: made in memory, changed at one place, packed into a memfd. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/model/gguf_write.h"
#include "engine/model/pack.h"
#include "tests/tools/synthetic.h"

enum edit_op {
        EDIT_NONE,
        SET_U32,       /* key = number, added or replaced */
        SET_F32,       /* key = bits of a float */
        SET_STRING,    /* key = text */
        SET_BOOL,
        SET_U32_ARRAY, /* key becomes an array of one number */
        DROP_KEY,
        DROP_TENSOR,
        RENAME_TENSOR, /* to text */
        COPY_TENSOR,   /* again under the name in text */
        ADD_F32,       /* a vector of `number` floats 1.0 */
        SWAP_DIMS,     /* ne[0] and ne[1] */
        SPLIT_DIMS,    /* ne[1] becomes ne[1] / 2, ne[2] becomes 2 */
        RETYPE,        /* type = number; the bytes stay */
        POKE,          /* byte `at` of the data = number (at < 0: from the end) */
};

struct edit {
        enum edit_op op;
        const char *name; /* of the key or tensor */
        uint32_t number;
        const char *text;
        int64_t at;
};

/* A whole file in memory of exactly its size; free(p). */
struct bytes fixture_model(const struct synthetic *s);
/* The same file with edits, `n` of them, data aligned as said. */
struct bytes fixture_edit(struct bytes src, const struct edit *edits, size_t n,
                          uint32_t alignment);

/* A memfd with these bytes; an empty one for none. */
int fixture_fd(struct bytes b);
struct bytes fixture_read(int fd);

extern const struct pack_options fixture_options;
