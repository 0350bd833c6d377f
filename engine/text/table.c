/* Token tables. A vocabulary is loaded when a worker starts and kept as long as the model, so
 * the tables are flat arrays of four bytes a slot: 23 bits of entry number plus one (0: empty)
 * under 9 bits of the hash. Linear probing at half load keeps a failed lookup, the common case
 * while merging, at one or two cache lines, and the stored bits save the look at an entry
 * elsewhere in memory. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/table.h"
#include "engine/text/vocab.h"

enum { TAG_SHIFT = 23 };

static uint32_t tag_of(uint32_t hash) {
        return hash >> TAG_SHIFT;
}

static uint32_t slot_value(uint32_t hash, uint32_t entry) {
        return tag_of(hash) << TAG_SHIFT | (entry + 1);
}

static uint32_t slot_entry(uint32_t slot) {
        return (slot & (uint32_t)TABLE_MAX) - 1;
}

/* Smallest power of two with room for n entries at half load, minus 1. */
static uint32_t mask_for(uint32_t n) {
        uint32_t room = 16;
        while (room < 2 * (uint64_t)n)
                room *= 2;
        return room - 1;
}

static uint64_t mix(uint64_t h) {
        h *= UINT64_C(0x9e3779b97f4a7c15);
        return h ^ h >> 29;
}

static uint32_t hash_text(const uint8_t *p, size_t n) {
        uint64_t h = n;
        for (; n >= 8; p += 8, n -= 8) {
                uint64_t word;
                memcpy(&word, p, 8);
                h = mix(h ^ word);
        }
        uint64_t tail = 0;
        for (size_t i = 0; i < n; i++)
                tail |= (uint64_t)p[i] << 8 * i;
        return (uint32_t)(mix(mix(h ^ tail)) >> 32);
}

static uint32_t hash_pair(int32_t left, int32_t right) {
        return (uint32_t)(mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) >> 32);
}

int text_table_new(struct text_table *ret, uint32_t n) {
        uint32_t mask = mask_for(n);
        uint32_t *slots = calloc((size_t)mask + 1, sizeof(*slots));
        if (!slots)
                return -ENOMEM;
        *ret = (struct text_table){.slots = slots, .mask = mask};
        return 0;
}

void text_table_done(struct text_table *t) {
        free(t->slots);
        *t = (struct text_table){0};
}

/* The slot that holds the text, or the empty slot where it would go. */
static uint32_t text_slot(const struct text_table *t, const struct texts *texts, uint32_t hash,
                          const uint8_t *p, size_t n) {
        uint32_t i = hash & t->mask;
        for (; t->slots[i]; i = (i + 1) & t->mask) {
                if (tag_of(t->slots[i]) != tag_of(hash))
                        continue;
                struct view text = texts_at(texts, slot_entry(t->slots[i]));
                if (text.n == n && memcmp(text.p, p, n) == 0)
                        break;
        }
        return i;
}

void text_table_add(struct text_table *t, const struct texts *texts, uint32_t id) {
        struct view text = texts_at(texts, id);
        uint32_t hash = hash_text(text.p, text.n);
        uint32_t *slot = &t->slots[text_slot(t, texts, hash, text.p, text.n)];
        if (!*slot)
                *slot = slot_value(hash, id);
}

uint32_t text_table_announce(const struct text_table *t, const uint8_t *p, size_t n) {
        uint32_t hash = hash_text(p, n);
        __builtin_prefetch(&t->slots[hash & t->mask]);
        return hash;
}

int32_t text_table_find_announced(const struct text_table *t, const struct texts *texts,
                                  uint32_t announced, const uint8_t *p, size_t n) {
        uint32_t slot = t->slots[text_slot(t, texts, announced, p, n)];
        return slot ? (int32_t)slot_entry(slot) : TOKEN_NONE;
}

int32_t text_table_find(const struct text_table *t, const struct texts *texts, const uint8_t *p,
                        size_t n) {
        return text_table_find_announced(t, texts, hash_text(p, n), p, n);
}

int merge_table_new(struct merge_table *ret, uint32_t n) {
        uint32_t mask = mask_for(n);
        uint32_t *slots = calloc((size_t)mask + 1, sizeof(*slots));
        struct merge *merges = calloc(MAX(n, 1u), sizeof(*merges));
        if (!slots || !merges) {
                free(slots);
                free(merges);
                return -ENOMEM;
        }
        *ret = (struct merge_table){.merges = merges, .slots = slots, .mask = mask};
        return 0;
}

void merge_table_done(struct merge_table *t) {
        free(t->merges);
        free(t->slots);
        *t = (struct merge_table){0};
}

static uint32_t merge_slot(const struct merge_table *t, uint32_t hash, int32_t left,
                           int32_t right) {
        uint32_t i = hash & t->mask;
        for (; t->slots[i]; i = (i + 1) & t->mask) {
                if (tag_of(t->slots[i]) != tag_of(hash))
                        continue;
                const struct merge *m = &t->merges[slot_entry(t->slots[i])];
                if (m->left == left && m->right == right)
                        break;
        }
        return i;
}

void merge_table_add(struct merge_table *t, struct merge m) {
        t->merges[t->n++] = m;
}

/* The slots of hundreds of thousands of merges do not fit a cache: ask for them ahead of time. */
void merge_table_index(struct merge_table *t) {
        enum { AHEAD = 16 };
        for (uint32_t i = 0; i < t->n; i++) {
                const struct merge *m = &t->merges[i];
                const struct merge *later = &t->merges[MIN(i + AHEAD, t->n - 1)];
                __builtin_prefetch(&t->slots[hash_pair(later->left, later->right) & t->mask]);
                uint32_t hash = hash_pair(m->left, m->right);
                uint32_t slot = merge_slot(t, hash, m->left, m->right);
                if (!t->slots[slot])
                        t->slots[slot] = slot_value(hash, i);
        }
}

uint32_t merge_table_find(const struct merge_table *t, int32_t left, int32_t right) {
        uint32_t slot = t->slots[merge_slot(t, hash_pair(left, right), left, right)];
        return slot ? slot_entry(slot) : UINT32_MAX;
}
