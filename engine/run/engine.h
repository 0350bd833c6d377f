/* Forward passes over many sequences at once.
 *
 * A sequence holds KV pages of 32 tokens, taken from the engine's budget when it is made, and wiped
 * when nobody holds them any more: the sequence, others that begin with the same tokens, and the
 * engine, which keeps pages for those to come as long as their memory is not wanted. A step takes
 * rows (sequence, token); rows of one sequence stand together and continue it in order. Results of
 * a row do not depend on what else is in the step, on the number of threads or on the instruction
 * set, to the last bit. Not thread-safe: one caller at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"
#include "engine/run/pool.h"
#include "kernels/kernels.h"

struct engine;
struct sequence;

enum { ENGINE_MAX_ROWS = 512 }; /* rows in one step */

/* Of an owner (sequence_resume): what is kept for it goes after what is kept for others. */
#define ENGINE_OWNER_LASTING (UINT64_C(1) << 63)

/* model, ops and pool are borrowed and must outlive the engine. kv_form: how keys and values are
 * kept (KV_S16 unless memory or bandwidth is short); kv_bytes: budget for all sequences. Scratch
 * for ENGINE_MAX_ROWS rows is taken here, nothing per token. */
int engine_new(struct engine **ret, const struct model *model, const struct kernel_ops *ops,
               struct pool *pool, enum kv_form kv_form, size_t kv_bytes);
struct engine *engine_free(struct engine *e);

/* Bytes of a budget for so many tokens, a multiple of KV_PAGE for each sequence. */
static inline size_t kv_bytes_of(const struct hparams *hp, enum kv_form form, size_t tokens) {
        return tokens * hp->n_layer * hp->n_head_kv * 2 * kv_page_bytes_of(form, hp->head_dim) /
               KV_PAGE;
}
size_t engine_kv_bytes(const struct engine *e, size_t tokens); /* what a sequence would take */
/* What new sequences may take: free pages, and those that are only kept for reuse. */
size_t engine_kv_free(const struct engine *e);
/* Bytes of the pages that are kept for sequences of this owner. */
size_t engine_kept(const struct engine *e, uint64_t owner);
/* Forget what is kept for this owner: wiped at once, or when its last sequence is freed. */
void engine_forget(struct engine *e, uint64_t owner);
/* Forget everything that is kept for reuse. */
void engine_drop_prefixes(struct engine *e);
/* Give back to the kernel what no sequence and no kept prefix needs. */
void engine_trim(struct engine *e);

/* Bytes that were touched: private_bytes of all, kv_bytes of keys and values that somebody holds,
 * of those kept_bytes only for reuse. */
struct engine_memory {
        size_t private_bytes, kv_bytes, kept_bytes;
};
struct engine_memory engine_memory(const struct engine *e);

/* Room for max_tokens positions. -ENOSPC when the budget is taken, -E2BIG over the context. */
int sequence_new(struct sequence **ret, struct engine *e, size_t max_tokens);
/* The same, for a sequence that will begin with these n >= 1 ids and may share pages with others of
 * this owner (not 0). It has as many of the ids already as were found, whole pages of them and
 * never all: sequence_length says how many. Only whether there is memory for a sequence of its own
 * decides about -ENOSPC. */
int sequence_resume(struct sequence **ret, struct engine *e, uint64_t owner, const int32_t *ids,
                    size_t n, size_t max_tokens);
/* Others may have computed more of the ids meanwhile: take it over. Nothing of s may be beyond what
 * it has of these ids. Returns its length, as sequence_resume would have it or longer. */
size_t sequence_catch_up(struct sequence *s, const int32_t *ids, size_t n);
struct sequence *sequence_free(struct sequence *s);
size_t sequence_length(const struct sequence *s);
/* The tokens of its positions [length]; valid until it is freed. */
const int32_t *sequence_ids(const struct sequence *s);
/* Let others of its owner share all pages that are full. Without an owner nothing happens. */
void sequence_share(struct sequence *s);
/* Forget positions >= length. -EINVAL: some of them are shared. */
int sequence_truncate(struct sequence *s, size_t length);

struct engine_row {
        struct sequence *seq;
        int32_t token;
        bool want_logits;
};

/* Run n <= ENGINE_MAX_ROWS rows. For each row with want_logits, in row order, *logits of the next
 * slot points to n_vocab floats, valid until the next step; where the model pools, to its state of
 * n_embd floats: rms_norm(h, output_norm). cancel, when not NULL, is read between
 * layers: non-zero makes the step return -ECANCELED and leaves every sequence as it was before.
 * -EINVAL: token id out of range; -ENOSPC: a sequence is full. */
int engine_step(struct engine *e, const struct engine_row *rows, size_t n, const float **logits,
                const volatile int *cancel);
