/* The page budget of the KV cache.
 *
 * Problem: a sequence must never fail for memory in the middle of an answer, and what it leaves
 * behind must never be readable by the next one. So all pages a sequence can need are taken
 * when it is made, from one mapping made when the engine starts, and pages are wiped when they
 * come back, not when they go out: text does not outlive those who hold its page.
 *
 * Invariant: a page on the free list is all zero and has no holder; a page with several holders is
 * full and only read. The pool owns the mapping; sequences and prefixes borrow.
 */
#include "engine/run/kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/macro.h"

int kv_pool_init(struct kv_pool *kv, const struct hparams *hp, enum kv_form form, size_t bytes) {
        int r;

        *kv = (struct kv_pool){.n_head_kv = hp->n_head_kv, .form = form};
        kv->head_bytes = kv_page_bytes_of(form, hp->head_dim);
        kv->page_bytes = (size_t)hp->n_layer * hp->n_head_kv * 2 * kv->head_bytes;
        kv->n_pages = kv->n_free = kv->least_free = bytes / kv_page_bytes(kv);
        (void)arena_take(&kv->arena, kv->n_pages, kv_page_bytes(kv));
        r = arena_map(&kv->arena);
        if (r < 0)
                return r;
        kv->pages = arena_take(&kv->arena, kv->n_pages, kv_page_bytes(kv));
        kv->free_pages = calloc(kv->n_pages + 1, sizeof(*kv->free_pages));
        kv->holders = calloc(kv->n_pages + 1, sizeof(*kv->holders));
        if (!kv->free_pages || !kv->holders) {
                kv_pool_done(kv);
                return -ENOMEM;
        }
        /* The lowest addresses go out first, so that an idle budget stays untouched. */
        for (size_t i = 0; i < kv->n_pages; i++)
                kv->free_pages[i] = kv->pages + (kv->n_pages - 1 - i) * kv->page_bytes;
        return 0;
}

void kv_pool_done(struct kv_pool *kv) {
        arena_done(&kv->arena, 0); /* every page was wiped when it came back */
        free(kv->free_pages);
        free(kv->holders);
        *kv = (struct kv_pool){0};
}

int kv_take(struct kv_pool *kv, uint8_t **pages, size_t n) {
        if (n > kv->n_free)
                return -ENOSPC;
        for (size_t i = 0; i < n; i++) {
                pages[i] = kv->free_pages[--kv->n_free];
                kv->holders[kv_index(kv, pages[i])] = 1;
        }
        kv->least_free = MIN(kv->least_free, kv->n_free);
        return 0;
}

void kv_hold(struct kv_pool *kv, uint8_t *page) {
        kv->holders[kv_index(kv, page)]++;
}

void kv_give(struct kv_pool *kv, uint8_t **pages, size_t n, size_t dirty) {
        while (n-- > 0) {
                if (--kv->holders[kv_index(kv, pages[n])] > 0)
                        continue;
                if (n < dirty)
                        explicit_bzero(pages[n], kv_page_bytes(kv));
                kv->free_pages[kv->n_free++] = pages[n];
        }
}

/* A page that the kernel took back reads as zero, as one on the free list must. Whole pages of the
 * kernel only: what lies at the edges was wiped and stays. */
void kv_trim(struct kv_pool *kv) {
        const size_t unit = 4096;

        for (size_t first = 0, end; first < kv->n_pages; first = end + 1) {
                uintptr_t from, to;

                for (end = first; end < kv->n_pages && kv->holders[end] == 0; end++)
                        continue;
                from = ((uintptr_t)kv->pages + first * kv->page_bytes + unit - 1) & ~(unit - 1);
                to = ((uintptr_t)kv->pages + end * kv->page_bytes) & ~(unit - 1);
                if (to > from)
                        (void)madvise((void *)from, to - from, MADV_DONTNEED);
        }
        kv->least_free = kv->n_free;
}
