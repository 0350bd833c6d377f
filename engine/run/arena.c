/* Memory of the engine: scratch and KV pages.
 *
 * Problem: everything a step needs has to exist before the first step, its size depends on the
 * model, and it will hold pieces of people's text. Whoever needs memory runs the same
 * carving twice: once with no base, which only counts, and once for real; the two cannot disagree.
 * A size that does not fit in size_t sticks at SIZE_MAX and fails in arena_map.
 */
#include "engine/run/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

void *arena_take(struct arena *a, size_t n, size_t element) {
        size_t bytes, end, at = a->used;

        if (__builtin_mul_overflow(n, element, &bytes) ||
            __builtin_add_overflow(bytes, ARENA_ALIGN - 1, &bytes) ||
            __builtin_add_overflow(at, bytes & ~(size_t)(ARENA_ALIGN - 1), &end)) {
                a->used = SIZE_MAX;
                return NULL;
        }
        a->used = end;
        return a->base ? a->base + at : NULL;
}

int arena_map(struct arena *a) {
        size_t size = a->used > 0 ? a->used : ARENA_ALIGN;
        void *p;

        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
        if (p == MAP_FAILED)
                return -ENOMEM;
        /* Both are wishes; a kernel that knows neither still computes the right thing. */
        (void)madvise(p, size, MADV_HUGEPAGE);
        (void)madvise(p, size, MADV_DONTDUMP);
        *a = (struct arena){.base = p, .size = size};
        return 0;
}

void arena_trim(struct arena *a) {
        (void)madvise(a->base, a->size, MADV_DONTNEED);
}

void arena_done(struct arena *a, size_t dirty) {
        if (!a->base)
                return;
        explicit_bzero(a->base, dirty < a->size ? dirty : a->size);
        munmap(a->base, a->size);
        *a = (struct arena){0};
}
