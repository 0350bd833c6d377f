/* One mapping that is carved up once and given back whole: zero at first, on huge pages where the
 * kernel likes, never in a core dump, wiped before it goes. Pages nobody touches cost nothing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { ARENA_ALIGN = 64 };

struct arena {
        uint8_t *base;
        size_t size, used; /* base NULL: only count, to learn the size */
};

/* Take n elements of `element` bytes, aligned to 64. Returns NULL while counting. */
void *arena_take(struct arena *a, size_t n, size_t element);

/* Map what was counted and start again from the beginning. 0 or -ENOMEM. */
int arena_map(struct arena *a);

/* Give the memory back to the kernel; it reads as zero then. */
void arena_trim(struct arena *a);
/* Wipe the first `dirty` bytes and unmap. */
void arena_done(struct arena *a, size_t dirty);
