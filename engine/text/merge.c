/* The merge loop. Naive merging is quadratic, and one piece may be a whole document (a megabyte of
 * one letter), so candidates live in a heap. Every symbol has at most one entry, for the pair with
 * its right neighbour, and knows its slot in the heap: entries are updated in place, never stale,
 * and the heap cannot outgrow the text. Scratch memory spells out user text and is wiped. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/merge.h"

enum { NONE = UINT32_MAX, ARRAYS = 6, TEXT_MAX = 1 << 30 };

void merger_done(struct merger *m) {
        if (m->memory)
                explicit_bzero(m->memory, m->room * ARRAYS * sizeof(*m->memory));
        free(m->memory);
        *m = (struct merger){0};
}

static int grow(struct merger *m, size_t n) {
        size_t room = MAX(n, MAX((size_t)256, MIN(2 * m->room, (size_t)TEXT_MAX)));
        merger_done(m);
        m->memory = calloc(room, ARRAYS * sizeof(*m->memory));
        if (!m->memory)
                return -ENOMEM;
        m->room = room;
        m->size = m->memory;
        m->prev = m->memory + room;
        m->key = m->memory + 2 * room;
        m->heap = m->memory + 3 * room;
        m->slot = m->memory + 4 * room;
        m->id = (int32_t *)(m->memory + 5 * room);
        return 0;
}

int merger_prepare(struct merger *m, struct view text) {
        if (text.n > TEXT_MAX)
                return -E2BIG;
        int r = text.n > m->room ? grow(m, text.n) : 0;
        if (r < 0)
                return r;
        m->text = text;
        m->n = (uint32_t)text.n;
        m->heap_n = 0;
        return 0;
}

static bool before(const struct merger *m, uint32_t a, uint32_t b) {
        return m->key[a] < m->key[b] || (m->key[a] == m->key[b] && a < b);
}

static void place(struct merger *m, uint32_t slot, uint32_t symbol) {
        m->heap[slot] = symbol;
        m->slot[symbol] = slot;
}

static void sift_up(struct merger *m, uint32_t slot) {
        uint32_t symbol = m->heap[slot];
        while (slot > 0 && before(m, symbol, m->heap[(slot - 1) / 2])) {
                place(m, slot, m->heap[(slot - 1) / 2]);
                slot = (slot - 1) / 2;
        }
        place(m, slot, symbol);
}

static void sift_down(struct merger *m, uint32_t slot) {
        uint32_t symbol = m->heap[slot];
        for (;;) {
                uint32_t child = 2 * slot + 1;
                if (child >= m->heap_n)
                        break;
                if (child + 1 < m->heap_n && before(m, m->heap[child + 1], m->heap[child]))
                        child++;
                if (before(m, symbol, m->heap[child]))
                        break;
                place(m, slot, m->heap[child]);
                slot = child;
        }
        place(m, slot, symbol);
}

static void take_out(struct merger *m, uint32_t symbol) {
        uint32_t slot = m->slot[symbol];
        if (slot == NONE)
                return;
        m->slot[symbol] = NONE;
        uint32_t last = m->heap[--m->heap_n];
        if (last == symbol)
                return;
        place(m, slot, last);
        sift_up(m, slot);
        sift_down(m, m->slot[last]);
}

/* Make symbol i's entry right after it or its right neighbour changed. */
static void consider(struct merger *m, const struct vocab *v, merge_rule rule, uint32_t i) {
        int32_t id;
        uint32_t j = i + m->size[i];
        uint32_t key = j < m->n ? rule(v, m, i, j, &id) : (uint32_t)MERGE_NEVER;
        if (key == (uint32_t)MERGE_NEVER) {
                take_out(m, i);
                return;
        }
        m->key[i] = key;
        if (m->slot[i] == NONE)
                place(m, m->heap_n++, i);
        sift_up(m, m->slot[i]);
        sift_down(m, m->slot[i]);
}

static void join(struct merger *m, const struct vocab *v, merge_rule rule, uint32_t i) {
        int32_t id = m->id[i];
        uint32_t j = i + m->size[i];
        rule(v, m, i, j, &id);
        take_out(m, j);
        m->id[i] = id;
        m->size[i] += m->size[j];
        uint32_t next = i + m->size[i];
        if (next < m->n)
                m->prev[next] = i;
        consider(m, v, rule, i);
        if (m->prev[i] != NONE)
                consider(m, v, rule, m->prev[i]);
}

void merge_run(struct merger *m, const struct vocab *v, merge_rule rule) {
        uint32_t prev = NONE;
        for (uint32_t i = 0; i < m->n; i += m->size[i]) {
                m->prev[i] = prev;
                m->slot[i] = NONE;
                prev = i;
        }
        for (uint32_t i = 0; i < m->n; i += m->size[i])
                consider(m, v, rule, i);
        while (m->heap_n > 0)
                join(m, v, rule, m->heap[0]);
}
