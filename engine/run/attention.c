/* Attention of one layer: every query head of every row over the keys of its sequence.
 *
 * Problem: reading K and V is most of the work, so the heads that share a KV head, and the rows of
 * a chunk, must meet each block of keys together; yet one row with five KV heads has to keep any
 * number of threads equally busy. kernels.h cuts the keys of a query into blocks whose partial
 * results are merged in order. That order is fixed; who computes a block is not:
 *
 * - many rows: a task is a group of rows and one KV head, all blocks one after the other, merged on
 *   the way. Late rows cost many times what early ones do, so tasks are drawn from a counter,
 *   the largest first.
 * - few rows ("split"): a task is one block of such a group. Threads take equal shares of keys, the
 *   partial results go to shared memory, and whoever finishes the last block of a group and
 *   KV head merges them. No barrier is needed for it.
 *
 * Query head i reads KV head i / (n_head / n_head_kv). Keys past a row's own position are never
 * read for it, so what a cancelled step left there does not matter.
 */
#include <math.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/run/state.h"

enum {
        GROUP_ROWS = 32,    /* rows that go together at most */
        TASK_QUERIES = 128, /* the same in queries, as long as a row has fewer */
        SPLIT_SLOTS = 512,  /* rows times blocks for which there is room */
};

/* The queries of a group of rows and one KV head. Query i is row i / heads and, of the heads that
 * share the KV head, the one at i % heads. */
struct task {
        struct step *s;
        struct thread_state *ts;
        const struct row_group *rows;
        uint32_t layer, head_kv, heads;
};

struct block_pages {
        const void *k[ATTENTION_BLOCK / KV_PAGE], *v[ATTENTION_BLOCK / KV_PAGE];
};

static uint32_t blocks_of(uint32_t keys) {
        return (uint32_t)((keys + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK);
}

static uint32_t group_heads(const struct hparams *hp) {
        return hp->n_head / hp->n_head_kv;
}

uint32_t task_queries(const struct hparams *hp) {
        return MAX((uint32_t)TASK_QUERIES, group_heads(hp));
}

uint32_t split_slots(const struct hparams *hp) {
        return MAX((uint32_t)SPLIT_SLOTS, blocks_of(hp->n_ctx));
}

/* Cut the rows into groups of at most `most`. */
static void group_rows(struct step *s, uint32_t most) {
        struct attention_plan *plan = &s->attention;
        struct row_group *g = plan->groups;

        plan->n_groups = plan->blocks = 0;
        plan->keys = 0;
        for (uint32_t row = 0; row < s->n; row += g->n) {
                g = &plan->groups[plan->n_groups++];
                *g = (struct row_group){.row = row, .n = 1};
                while (g->n < most && row + g->n < s->n &&
                       s->rows[row + g->n].seq == s->rows[row].seq)
                        g->n++;
                g->keys = s->positions[row + g->n - 1] + 1;
                plan->keys += (uint64_t)g->keys * g->n;
                plan->blocks = MAX(plan->blocks, blocks_of(g->keys));
        }
}

/* Large groups read K and V less often, small ones make more tasks; splitting does both. */
void plan_attention(struct step *s) {
        struct attention_plan *plan = &s->attention;
        const struct hparams *hp = &s->e->model->hp;
        uint32_t enough = SPLIT_BELOW * pool_threads(s->e->pool), tasks,
                 most = MAX(1U, MIN((uint32_t)GROUP_ROWS, TASK_QUERIES / group_heads(hp)));

        for (;; most /= 2) {
                group_rows(s, most);
                tasks = plan->n_groups * hp->n_head_kv;
                plan->split = tasks < enough && plan->blocks > 1 &&
                              (size_t)s->n * plan->blocks <= split_slots(hp);
                if (plan->split || tasks >= enough || most == 1)
                        return;
        }
}

static size_t query_offset(const struct task *t, uint32_t query) {
        const struct hparams *hp = &t->s->e->model->hp;
        size_t row = t->rows->row + query / t->heads,
               head = t->head_kv * t->heads + query % t->heads;

        return row * row_stride(hp->n_head * hp->head_dim) + head * hp->head_dim;
}

static uint32_t query_position(const struct task *t, uint32_t query) {
        return t->s->positions[t->rows->row + query / t->heads];
}

/* Where the result of one block of a split task goes. */
static float *split_slot(const struct task *t, uint32_t query, uint32_t block) {
        const struct engine *e = t->s->e;
        const struct hparams *hp = &e->model->hp;
        size_t row = t->rows->row + query / t->heads,
               head = t->head_kv * t->heads + query % t->heads;

        return e->run.partials + ((row * t->s->attention.blocks + block) * hp->n_head + head) *
                                         attention_partial(hp->head_dim);
}

/* The pages of a block. Those behind the last page of these rows are the last again: they are only
 * fetched, never used. */
static void find_pages(struct block_pages *ret, const struct task *t, uint32_t block) {
        const struct kv_pool *kv = &t->s->e->kv;
        const struct sequence *seq = t->s->rows[t->rows->row].seq;
        size_t offset = kv_offset(kv, t->layer, t->head_kv), first = block * ARRAY_SIZE(ret->k),
               last = (t->rows->keys - 1) / KV_PAGE;

        for (size_t i = 0; i < ARRAY_SIZE(ret->k); i++) {
                const uint8_t *k = seq->pages[MIN(first + i, last)] + offset;

                ret->k[i] = k;
                ret->v[i] = k + kv->head_bytes;
        }
}

/* Up to 8 queries from `first` on against block `block`; returns how many. What is known of them
 * afterwards lies in their slots (split) or in ts->known. */
static uint32_t attend_queries(const struct task *t, struct attention_block *b, uint32_t first,
                               uint32_t block) {
        const struct engine *e = t->s->e;
        size_t partial = attention_partial(b->head_dim);
        bool split = t->s->attention.split, fresh = !split && block > 0;

        b->n = MIN((uint32_t)ATTENTION_QUERIES, t->rows->n * t->heads - first);
        for (uint32_t i = 0; i < b->n; i++) {
                uint32_t keys = query_position(t, first + i) + 1 - block * ATTENTION_BLOCK;

                b->q[i] = e->run.q + query_offset(t, first + i);
                b->n_keys[i] = MIN(keys, (uint32_t)ATTENTION_BLOCK);
                b->partial[i] = split   ? split_slot(t, first + i, block)
                                : fresh ? t->ts->fresh + i * partial
                                        : t->ts->known + (first + i) * partial;
        }
        if (e->kv.form == KV_S16)
                e->ops->attention_s16(b);
        else if (e->kv.form == KV_S8)
                e->ops->attention_s8(b);
        else
                e->ops->attention(b);
        for (uint32_t i = 0; fresh && i < b->n; i++)
                e->ops->attention_merge(t->ts->known + (first + i) * partial, b->partial[i],
                                        b->head_dim);
        return b->n;
}

/* All queries of a task that see any of block `block`. Afterwards block `next` will be read. */
static void attend_block(const struct task *t, uint32_t block, uint32_t next) {
        const struct hparams *hp = &t->s->e->model->hp;
        uint32_t first_key = block * ATTENTION_BLOCK, position = query_position(t, 0),
                 blind = first_key > position ? first_key - position : 0;
        struct attention_block b = {
                .head_dim = hp->head_dim,
                .scale = (float)(1 / sqrt((double)hp->head_dim)),
                .scratch = t->ts->scratch,
        };
        struct block_pages pages, ahead;

        find_pages(&pages, t, block);
        find_pages(&ahead, t, next);
        memcpy(b.k, pages.k, sizeof(b.k));
        memcpy(b.v, pages.v, sizeof(b.v));
        b.next = ahead.k;
        for (uint32_t i = blind * t->heads; i < t->rows->n * t->heads;)
                i += attend_queries(t, &b, i, block);
}

static void attend_whole(const struct task *t) {
        const struct engine *e = t->s->e;
        uint32_t head_dim = e->model->hp.head_dim;

        for (uint32_t block = 0; block < blocks_of(t->rows->keys); block++)
                attend_block(t, block, MIN(block + 1, blocks_of(t->rows->keys) - 1));
        for (uint32_t i = 0; i < t->rows->n * t->heads; i++)
                e->ops->attention_finish(e->run.heads + query_offset(t, i),
                                         t->ts->known + i * attention_partial(head_dim), head_dim);
}

/* All blocks of a split task are there: put them together. */
static void merge_slots(const struct task *t) {
        const struct engine *e = t->s->e;
        uint32_t head_dim = e->model->hp.head_dim;

        for (uint32_t i = 0; i < t->rows->n * t->heads; i++) {
                uint32_t blocks = blocks_of(query_position(t, i) + 1);
                float *known = split_slot(t, i, 0);

                for (uint32_t block = 1; block < blocks; block++)
                        e->ops->attention_merge(known, split_slot(t, i, block), head_dim);
                e->ops->attention_finish(e->run.heads + query_offset(t, i), known, head_dim);
        }
}

/* Blocks [from, to) of a split task. The last to arrive sees what all others wrote. */
static void attend_part(const struct task *t, uint32_t from, uint32_t to) {
        const struct run_state *run = &t->s->e->run;
        size_t group = (size_t)(t->rows - t->s->attention.groups);
        atomic_uint *arrived = &run->arrived[group * t->s->e->model->hp.n_head_kv + t->head_kv];

        for (uint32_t block = from; block < to; block++)
                attend_block(t, block, MIN(block + 1, blocks_of(t->rows->keys) - 1));
        if (atomic_fetch_add_explicit(arrived, to - from, memory_order_acq_rel) + to - from <
            blocks_of(t->rows->keys))
                return;
        atomic_store_explicit(arrived, 0, memory_order_relaxed);
        merge_slots(t);
}

/* How many blocks of a group lie before a mark, where `at` is where its keys begin. A block lies
 * where its middle is. Keys count once for each row. */
static uint32_t blocks_before(const struct row_group *g, uint64_t at, uint64_t mark) {
        uint64_t keys = mark > at ? (mark - at) / g->n : 0;

        if (keys >= g->keys)
                return blocks_of(g->keys);
        return (uint32_t)((keys + ATTENTION_BLOCK / 2 - 1) / ATTENTION_BLOCK);
}

/* The keys of all groups and KV heads are one list, cut into equal parts. */
static void attend_split(struct task *t, unsigned thread) {
        const struct attention_plan *plan = &t->s->attention;
        uint32_t n_head_kv = t->s->e->model->hp.n_head_kv;
        uint64_t threads = pool_threads(t->s->e->pool), total = plan->keys * n_head_kv,
                 begin = total * thread / threads, end = total * (thread + 1) / threads, at = 0;

        for (uint32_t task = 0; task < plan->n_groups * n_head_kv; task++) {
                const struct row_group *g = &plan->groups[task / n_head_kv];
                uint32_t from = blocks_before(g, at, begin), to = blocks_before(g, at, end);

                t->rows = g;
                t->head_kv = task % n_head_kv;
                if (from < to)
                        attend_part(t, from, to);
                at += (uint64_t)g->keys * g->n;
        }
}

static void attend_drawn(struct task *t) {
        const struct attention_plan *plan = &t->s->attention;
        uint32_t n_head_kv = t->s->e->model->hp.n_head_kv;

        for (;;) {
                uint32_t task = atomic_fetch_add_explicit(&t->s->next_task, 1,
                                                          memory_order_relaxed);

                if (task >= plan->n_groups * n_head_kv)
                        return;
                t->rows = &plan->groups[plan->n_groups - 1 - task / n_head_kv];
                t->head_kv = task % n_head_kv;
                attend_whole(t);
        }
}

void attend(struct step *s, unsigned thread, uint32_t layer) {
        struct task t = {
                .s = s,
                .ts = &s->e->threads[thread],
                .layer = layer,
                .heads = group_heads(&s->e->model->hp),
        };

        if (s->attention.split)
                attend_split(&t, thread);
        else
                attend_drawn(&t);
}
