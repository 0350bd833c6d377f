/* The two lookups of a tokenizer: bytes to token, and pair of tokens to merge. Both are
 * open-addressed tables of fixed size, at most half full, built once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

/* Texts of all tokens, one after the other: token i is bytes[offsets[i]] to bytes[offsets[i +
 * 1]]. */
struct texts {
        uint8_t *bytes;
        uint32_t *offsets; /* n + 1 */
        uint32_t n;
};

static inline struct view texts_at(const struct texts *t, uint32_t id) {
        return (struct view){.p = t->bytes + t->offsets[id],
                             .n = t->offsets[id + 1] - t->offsets[id]};
}

enum { TABLE_MAX = (1 << 23) - 1 }; /* entries of either table */

struct text_table {
        uint32_t *slots; /* see table.c */
        uint32_t mask;
};

/* Room for n texts, at most TABLE_MAX. 0 or -ENOMEM. */
int text_table_new(struct text_table *ret, uint32_t n);
void text_table_done(struct text_table *t);
/* The first of two equal texts wins. */
void text_table_add(struct text_table *t, const struct texts *texts, uint32_t id);
/* Token with exactly these bytes, or TOKEN_NONE. */
int32_t text_table_find(const struct text_table *t, const struct texts *texts, const uint8_t *p,
                        size_t n);

/* The same in two steps, for many lookups in a row: announce some, then find them. */
uint32_t text_table_announce(const struct text_table *t, const uint8_t *p, size_t n);
int32_t text_table_find_announced(const struct text_table *t, const struct texts *texts,
                                  uint32_t announced, const uint8_t *p, size_t n);

struct merge {
        int32_t left, right, result;
};

struct merge_table {
        struct merge *merges; /* by rank; the table owns it */
        uint32_t *slots;
        uint32_t n, mask;
};

/* Room for n merges, at most TABLE_MAX. 0 or -ENOMEM. */
int merge_table_new(struct merge_table *ret, uint32_t n);
void merge_table_done(struct merge_table *t);
/* Append the next rank; when all are there, make them findable. The first of two equal pairs
 * wins. */
void merge_table_add(struct merge_table *t, struct merge m);
void merge_table_index(struct merge_table *t);
/* Rank of a pair, or UINT32_MAX. */
uint32_t merge_table_find(const struct merge_table *t, int32_t left, int32_t right);
