/* Repeated merging of the best pair of neighbours: the heart of both tokenizers.
 *
 * A text is a row of symbols. A rule says whether two neighbours may become one, which token
 * that is, and how urgent it is (smaller key first, leftmost on a tie). merge_run applies the
 * rule until no pair is left. Time O(n log n), memory 24 bytes per byte of the text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"

enum { MERGE_NEVER = UINT32_MAX };

struct vocab;

/* Symbols are named by the position of their first byte: size[i] and id[i] mean something only
 * where a symbol starts, the next one starts at i + size[i]. */
struct merger {
        uint32_t *memory; /* the six arrays below */
        size_t room;      /* bytes of text they are good for */
        uint32_t *size, *prev, *key, *heap, *slot;
        int32_t *id;
        uint32_t n, heap_n;
        struct view text;
};

/* Room for a text of n bytes; -ENOMEM, or -E2BIG above 2^30. What was there is lost. */
int merger_prepare(struct merger *m, struct view text);
void merger_done(struct merger *m); /* wipes */

/* Key of joining the symbols at i and j, and the token they become. */
typedef uint32_t (*merge_rule)(const struct vocab *v, const struct merger *m, uint32_t i,
                               uint32_t j, int32_t *ret_id);

/* size and id hold the first symbols; runs to the end. */
void merge_run(struct merger *m, const struct vocab *v, merge_rule rule);
