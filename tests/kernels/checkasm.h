/* checkasm: every kernel of every instruction set of this machine against the C reference, bit for
 * bit. A check is a function that receives the reference table and the table under test; it builds
 * inputs between guard pages, calls both and compares whole output buffers, so that a byte written
 * where it should not be is a difference as well. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

struct checkasm {
        uint64_t rng;
        const char *level;            /* name of the level under test */
        const struct kernel_ops *ref; /* C */
        const struct kernel_ops *new; /* the level */
        const struct kernel_ops *old; /* the level below: equal pointers need no second check */
        uint64_t compared;            /* outputs compared so far */
        unsigned failed;
        char what[160];               /* what runs now, for the report of a crash */
};

/* Where a buffer touches an inaccessible page. */
enum place { PLACE_END, PLACE_START, _PLACE_MAX };

struct buffer {
        void *p;        /* `size` bytes, filled with BUFFER_FILL */
        size_t size;
        void *map;
        size_t map_size;
};

enum { BUFFER_FILL = 0xa5 };

void buffer_init(struct buffer *b, size_t size, enum place place);
void buffer_done(struct buffer *b);

uint64_t rng_next(struct checkasm *c);
uint32_t rng_below(struct checkasm *c, uint32_t n);
float rng_float(struct checkasm *c, float magnitude); /* uniform in +-magnitude */
void rng_fill(struct checkasm *c, void *p, size_t n);

/* Describe the comparison that follows. */
void check_begin(struct checkasm *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Compare two buffers of `elem`-byte elements (1, 2 or 4) byte by byte. */
void check_equal(struct checkasm *c, const struct buffer *expected, const struct buffer *got,
                 size_t elem);

void check_matmul_q(struct checkasm *c);
void check_matmul_float(struct checkasm *c);
void check_vectors(struct checkasm *c);
void check_attention(struct checkasm *c);
/* Against numbers that do not come from the reference: runs for every level, C included. */
void check_known(struct checkasm *c);
