/* Keys and values that outlive their sequence: whole pages of tokens, so that another sequence of
 * the same owner that begins with the same tokens need not compute them again.
 *
 * The pages form trees, one page of KV_PAGE tokens a node, whose children are what followed it. A
 * page nobody else holds is idle: it goes, the longest unused first, as soon as its memory is
 * wanted. Not thread-safe. Private to engine/run. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/run/kv.h"

LIST_HEAD(prefix_list, prefix_page);
TAILQ_HEAD(prefix_queue, prefix_page);

struct prefix_page {
        LIST_ENTRY(prefix_page) beside;  /* in parent->after, or in prefixes.first */
        TAILQ_ENTRY(prefix_page) in_use; /* in prefixes.by_use */
        struct prefix_list after;
        struct prefix_page *parent;      /* NULL: the first page of a text */
        uint64_t owner;
        uint8_t *page;                  /* NULL: this node is not in use */
        int32_t ids[KV_PAGE];
};

struct prefixes {
        struct kv_pool *kv;
        struct prefix_page *nodes; /* [kv->n_pages], a page is in the node of its own index */
        struct prefix_list first;
        struct prefix_queue by_use; /* longest unused first; a parent always after its children */
        size_t most_idle;           /* pages that may be idle: half of the budget */
};

/* kv is borrowed. 0 or -ENOMEM. */
int prefixes_init(struct prefixes *p, struct kv_pool *kv);
void prefixes_done(struct prefixes *p);

/* The longest known beginning of ids that is at most n pages long. Its pages are put into pages[]
 * and held for the caller. Returns how many. */
size_t prefixes_find(struct prefixes *p, uint64_t owner, const int32_t *ids, uint8_t **pages,
                     size_t n);
/* Remember n full pages and their ids [n * KV_PAGE]. A page that is known already from another
 * sequence is given back and replaced in pages[]: its contents are the same, bit for bit. */
void prefixes_add(struct prefixes *p, uint64_t owner, const int32_t *ids, uint8_t **pages,
                  size_t n);

size_t prefixes_idle(const struct prefixes *p);
/* Pages that are remembered for this owner. */
size_t prefixes_of(const struct prefixes *p, uint64_t owner);
/* Forget the longest unused until at most n pages are idle; those of lasting owners last. */
void prefixes_shrink(struct prefixes *p, size_t n);
/* Forget all of one owner, or of all. Sequences keep the pages they hold. */
void prefixes_forget(struct prefixes *p, uint64_t owner);
void prefixes_drop(struct prefixes *p);
