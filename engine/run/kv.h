/* Keys and values of all sequences: pages of KV_PAGE tokens from one fixed budget.
 *
 * A page holds its tokens for every layer and KV head: [layer][kv head][K, V], in f16, or in 16 or
 * 8 bits with a scale for each token, KV head and half (kernels.h says how K and V lie). Not
 * thread-safe, except that the pages of a sequence may be written by several threads in different
 * places. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"
#include "engine/run/arena.h"
#include "kernels/kernels.h"

struct kv_pool {
        struct arena arena;
        uint8_t *pages;       /* the first of n_pages, one after the other */
        uint8_t **free_pages; /* [n_pages], the first n_free are free */
        uint32_t *holders;     /* [n_pages] sequences and prefixes that hold it; 0: free */
        size_t n_pages, n_free;
        size_t least_free;     /* since kv_trim: free pages below it were never touched */
        size_t head_bytes;     /* of one head's K (or V) in a page */
        size_t page_bytes;     /* of a whole page */
        enum kv_form form;
        uint32_t n_head_kv;
};

/* As many pages as fit into `bytes`, at least none. */
int kv_pool_init(struct kv_pool *kv, const struct hparams *hp, enum kv_form form, size_t bytes);
void kv_pool_done(struct kv_pool *kv);

static inline size_t kv_pages_of(size_t tokens) {
        return tokens / KV_PAGE + (tokens % KV_PAGE != 0);
}

static inline size_t kv_page_bytes(const struct kv_pool *kv) {
        return kv->page_bytes;
}

/* Take n pages into pages[], or none: -ENOSPC. Each has one holder then. */
int kv_take(struct kv_pool *kv, uint8_t **pages, size_t n);
/* One holder more of a page that somebody holds. It must not be written any more. */
void kv_hold(struct kv_pool *kv, uint8_t *page);
/* One holder less of each of n pages. With the last one a page becomes free; the first `dirty` of
 * them have been written and are wiped then. */
void kv_give(struct kv_pool *kv, uint8_t **pages, size_t n, size_t dirty);

/* Give the memory of free pages back to the kernel; they stay free, and zero. */
void kv_trim(struct kv_pool *kv);

/* Bytes of pages that have been touched. Who comes back last goes out first, so that this is the
 * most that were taken at once. */
static inline size_t kv_touched(const struct kv_pool *kv) {
        return (kv->n_pages - kv->least_free) * kv->page_bytes;
}

static inline size_t kv_index(const struct kv_pool *kv, const uint8_t *page) {
        return (size_t)(page - kv->pages) / kv->page_bytes;
}

static inline uint32_t kv_holders(const struct kv_pool *kv, const uint8_t *page) {
        return kv->holders[kv_index(kv, page)];
}

/* Where K and V of a layer and KV head begin inside a page. */
static inline size_t kv_offset(const struct kv_pool *kv, uint32_t layer, uint32_t head) {
        return ((size_t)layer * kv->n_head_kv + head) * 2 * kv->head_bytes;
}
