/* Beginnings of texts whose keys and values are kept.
 *
 * Problem: a chat sends its whole conversation again with every turn, and many requests share their
 * first words; computing the same keys again is most of their cost. But memory that somebody needs
 * must not be kept for somebody who might come, and no owner may learn from a quick answer what
 * another one has asked: a node belongs to one owner and is found by that one only.
 *
 * Invariants: a node holds its page (kv_hold), and a sequence that holds the page of a node holds
 * those of all its parents. by_use has every node, each after all its children; so the first one in
 * it that nobody else holds has no children left, and may go. Nodes are taken when the engine is
 * made, one for each page of the budget. Their ids are text: wiped when a node is left.
 */
#include "engine/run/prefix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/run/engine.h"

int prefixes_init(struct prefixes *p, struct kv_pool *kv) {
        *p = (struct prefixes){.kv = kv, .most_idle = kv->n_pages / 2};
        LIST_INIT(&p->first);
        TAILQ_INIT(&p->by_use);
        p->nodes = calloc(kv->n_pages + 1, sizeof(*p->nodes));
        return p->nodes ? 0 : -ENOMEM;
}

/* A node without children. */
static void leave(struct prefixes *p, struct prefix_page *node) {
        uint8_t *page = node->page;

        LIST_REMOVE(node, beside);
        TAILQ_REMOVE(&p->by_use, node, in_use);
        explicit_bzero(node, sizeof(*node));
        kv_give(p->kv, &page, 1, 1);
}

void prefixes_drop(struct prefixes *p) {
        struct prefix_page *node;

        while ((node = TAILQ_FIRST(&p->by_use)))
                leave(p, node);
}

/* All nodes of a tree have one owner, so children go before their parents here, too. */
void prefixes_forget(struct prefixes *p, uint64_t owner) {
        struct prefix_page *node = TAILQ_FIRST(&p->by_use), *next;

        for (; node; node = next) {
                next = TAILQ_NEXT(node, in_use);
                if (node->owner == owner)
                        leave(p, node);
        }
}

void prefixes_done(struct prefixes *p) {
        if (!p->nodes)
                return;
        prefixes_drop(p);
        free(p->nodes);
        *p = (struct prefixes){0};
}

static bool is_idle(const struct prefixes *p, const struct prefix_page *node) {
        return kv_holders(p->kv, node->page) == 1;
}

size_t prefixes_idle(const struct prefixes *p) {
        const struct prefix_page *node;
        size_t n = 0;

        TAILQ_FOREACH(node, &p->by_use, in_use)
                n += is_idle(p, node);
        return n;
}

size_t prefixes_of(const struct prefixes *p, uint64_t owner) {
        const struct prefix_page *node;
        size_t n = 0;

        TAILQ_FOREACH(node, &p->by_use, in_use)
                n += node->owner == owner;
        return n;
}

/* Of `idle` idle pages n shall stay. Returns how many are idle then. */
static size_t leave_idle(struct prefixes *p, size_t idle, size_t n, bool lasting) {
        struct prefix_page *node = TAILQ_FIRST(&p->by_use), *next;

        for (; node && idle > n; node = next) {
                next = TAILQ_NEXT(node, in_use);
                if (is_idle(p, node) && (lasting || !(node->owner & ENGINE_OWNER_LASTING))) {
                        leave(p, node);
                        idle--;
                }
        }
        return idle;
}

void prefixes_shrink(struct prefixes *p, size_t n) {
        size_t idle = leave_idle(p, prefixes_idle(p), n, false);

        leave_idle(p, idle, n, true);
}

static struct prefix_page *find(const struct prefix_list *list, uint64_t owner,
                                const int32_t *ids) {
        struct prefix_page *node;

        LIST_FOREACH(node, list, beside)
                if (node->owner == owner && memcmp(node->ids, ids, sizeof(node->ids)) == 0)
                        return node;
        return NULL;
}

/* From the last page to the first, so that parents come to stand after their children. */
static void note_use(struct prefixes *p, struct prefix_page *last) {
        for (struct prefix_page *node = last; node; node = node->parent) {
                TAILQ_REMOVE(&p->by_use, node, in_use);
                TAILQ_INSERT_TAIL(&p->by_use, node, in_use);
        }
}

size_t prefixes_find(struct prefixes *p, uint64_t owner, const int32_t *ids, uint8_t **pages,
                     size_t n) {
        struct prefix_page *node, *last = NULL;
        size_t found = 0;

        for (; found < n; found++) {
                node = find(last ? &last->after : &p->first, owner, ids + found * KV_PAGE);
                if (!node)
                        break;
                kv_hold(p->kv, node->page);
                pages[found] = node->page;
                last = node;
        }
        note_use(p, last);
        return found;
}

static struct prefix_page *enter(struct prefixes *p, struct prefix_page *parent, uint64_t owner,
                                 const int32_t *ids, uint8_t *page) {
        struct prefix_page *node = &p->nodes[kv_index(p->kv, page)];

        *node = (struct prefix_page){.parent = parent, .owner = owner, .page = page};
        memcpy(node->ids, ids, sizeof(node->ids));
        LIST_INIT(&node->after);
        LIST_INSERT_HEAD(parent ? &parent->after : &p->first, node, beside);
        TAILQ_INSERT_TAIL(&p->by_use, node, in_use);
        kv_hold(p->kv, page);
        return node;
}

void prefixes_add(struct prefixes *p, uint64_t owner, const int32_t *ids, uint8_t **pages,
                  size_t n) {
        struct prefix_page *last = NULL;

        for (size_t i = 0; i < n; i++) {
                struct prefix_page *node = find(last ? &last->after : &p->first, owner,
                                                ids + i * KV_PAGE);

                if (!node)
                        node = enter(p, last, owner, ids + i * KV_PAGE, pages[i]);
                if (node->page != pages[i]) {
                        kv_hold(p->kv, node->page);
                        kv_give(p->kv, &pages[i], 1, 1);
                        pages[i] = node->page;
                }
                last = node;
        }
        note_use(p, last);
}
