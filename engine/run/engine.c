/* The engine object, its sequences, and the checks around a step.
 *
 * Problem: callers juggle many conversations and may be wrong about lengths and ids; nothing they
 * pass may reach a kernel unchecked, and a step that fails or is cancelled must leave no trace.
 * All arguments are checked before the first thread starts, and a sequence grows only when the
 * step has succeeded; keys already stored past its end are never read and are overwritten later.
 *
 * The engine owns scratch and KV pages and borrows model, kernels and threads. A sequence owns its
 * list of pages and holds the pages in it; the first n_shared of them others may hold, too, so it
 * neither writes them again nor forgets a part of them. The scratch holds traces of text: it is
 * wiped when the engine goes.
 */
#include "engine/run/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/run/linear.h"
#include "engine/run/rope.h"
#include "engine/run/state.h"

static void take_quantized(struct arena *a, struct quantized *b, size_t rows, uint32_t columns) {
        size_t groups = groups_of(columns);

        b->q = arena_take(a, rows * groups, GROUP_COLS);
        b->scale = arena_take(a, rows * groups, sizeof(float));
        b->sum = arena_take(a, rows * groups, sizeof(int32_t));
        b->inverse = arena_take(a, rows, sizeof(float));
}

static void take_input(struct arena *a, struct input_buffer *b, size_t rows, size_t float_rows,
                       uint32_t columns) {
        b->x = arena_take(a, float_rows * row_stride(columns), sizeof(float));
        take_quantized(a, &b->by_token, rows, columns);
        take_quantized(a, &b->by_group, rows, columns);
}

/* Whether a matrix multiplies normalised rows as they are, not quantised. */
static bool multiplies_floats(const struct model *m) {
        unsigned forms = m->hp.pooling == POOLING_NONE ? input_form(&m->hp, &m->output) : 0;

        for (uint32_t i = 0; i < m->hp.n_layer; i++) {
                const struct layer *l = &m->layers[i];
                const struct weight_matrix *const all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate,
                                                           &l->up, &l->down};

                for (size_t j = 0; j < ARRAY_SIZE(all); j++)
                        forms |= input_form(&m->hp, all[j]);
        }
        return forms & INPUT_FLOAT;
}

/* What attention works on and what the gated part works on, in one place: neither is needed while
 * the other is there. */
static void take_layer(struct arena *a, struct run_state *run, const struct hparams *hp) {
        size_t rows = ENGINE_MAX_ROWS, at = a->used, end,
               heads = row_stride(hp->n_head * hp->head_dim),
               heads_kv = row_stride(hp->n_head_kv * hp->head_dim);

        run->q = arena_take(a, rows * heads, sizeof(float));
        run->k = arena_take(a, rows * heads_kv, sizeof(float));
        run->v = arena_take(a, rows * heads_kv, sizeof(float));
        run->heads = arena_take(a, rows * heads, sizeof(float));
        end = a->used;
        a->used = at;
        run->gate = arena_take(a, rows * row_stride(hp->n_ff), sizeof(float));
        a->used = MAX(a->used, end);
        run->up = arena_take(a, rows * row_stride(MAX(hp->n_ff, hp->n_embd)), sizeof(float));
        run->projected = run->up;
}

/* Carve all scratch out of the arena, or only count it. Logits come last: seldom all touched. */
static void take_scratch(struct engine *e) {
        const struct hparams *hp = &e->model->hp;
        struct run_state *run = &e->run;
        struct arena *a = &e->arena;
        size_t rows = ENGINE_MAX_ROWS, half = hp->rope_dim / 2,
               partial = attention_partial(hp->head_dim);

        for (unsigned i = 0; i < pool_threads(e->pool); i++) {
                struct thread_state *ts = &e->threads[i];

                take_input(a, &ts->input, 1, 1, widest_input(hp));
                ts->scratch = arena_take(a, ATTENTION_SCRATCH, sizeof(float));
                ts->known = arena_take(a, task_queries(hp) * partial, sizeof(float));
                ts->fresh = arena_take(a, ATTENTION_QUERIES * partial, sizeof(float));
        }
        run->cosines = arena_take(a, rows * half, sizeof(float));
        run->sines = arena_take(a, rows * half, sizeof(float));
        run->h = arena_take(a, rows * row_stride(hp->n_embd), sizeof(float));
        take_layer(a, run, hp);
        run->partials = arena_take(a, split_slots(hp) * hp->n_head * partial, sizeof(float));
        run->arrived = arena_take(a, (size_t)SPLIT_BELOW * pool_threads(e->pool),
                                  sizeof(*run->arrived));
        take_input(a, &run->input, rows, multiplies_floats(e->model) ? rows : 0,
                   widest_input(hp));
        run->logits = arena_take(a, rows * row_stride(n_outputs(hp)), sizeof(float));
}

static int allocate(struct engine *e, enum kv_form kv_form, size_t kv_bytes) {
        const struct hparams *hp = &e->model->hp;
        int r;

        e->threads = calloc(pool_threads(e->pool), sizeof(*e->threads));
        e->frequency = calloc(hp->rope_dim / 2 + 1, sizeof(*e->frequency));
        if (!e->threads || !e->frequency)
                return -ENOMEM;
        rope_frequencies(e->frequency, hp, e->model->rope_freqs);
        take_scratch(e);
        r = arena_map(&e->arena);
        if (r < 0)
                return r;
        take_scratch(e);
        r = kv_pool_init(&e->kv, hp, kv_form, kv_bytes);
        return r < 0 ? r : prefixes_init(&e->prefixes, &e->kv);
}

int engine_new(struct engine **ret, const struct model *model, const struct kernel_ops *ops,
               struct pool *pool, enum kv_form kv_form, size_t kv_bytes) {
        struct engine *e;
        int r;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        e->model = model;
        e->ops = ops;
        e->pool = pool;
        r = allocate(e, kv_form, kv_bytes);
        if (r < 0) {
                engine_free(e);
                return r;
        }
        *ret = e;
        return 0;
}

/* Wiping memory that was never touched would make the kernel provide it first: of the logits, by
 * far the largest part and the last, only the rows that some step has filled are wiped. */
struct engine *engine_free(struct engine *e) {
        if (!e)
                return NULL;
        prefixes_done(&e->prefixes);
        kv_pool_done(&e->kv);
        arena_done(&e->arena, e->dirty);
        free(e->frequency);
        free(e->threads);
        free(e);
        return NULL;
}

size_t engine_kv_bytes(const struct engine *e, size_t tokens) {
        size_t bytes;

        if (__builtin_mul_overflow(kv_pages_of(tokens), kv_page_bytes(&e->kv), &bytes))
                return SIZE_MAX;
        return bytes;
}

size_t engine_kv_free(const struct engine *e) {
        return (e->kv.n_free + prefixes_idle(&e->prefixes)) * kv_page_bytes(&e->kv);
}

size_t engine_kept(const struct engine *e, uint64_t owner) {
        return prefixes_of(&e->prefixes, owner) * kv_page_bytes(&e->kv);
}

void engine_forget(struct engine *e, uint64_t owner) {
        prefixes_forget(&e->prefixes, owner);
}

void engine_drop_prefixes(struct engine *e) {
        prefixes_drop(&e->prefixes);
}

/* Scratch holds nothing from one step to the next, and what the kernel takes is wiped. */
void engine_trim(struct engine *e) {
        kv_trim(&e->kv);
        arena_trim(&e->arena);
        e->dirty = 0;
}

struct engine_memory engine_memory(const struct engine *e) {
        size_t page = kv_page_bytes(&e->kv);

        return (struct engine_memory){
                .private_bytes = kv_touched(&e->kv) + e->dirty,
                .kv_bytes = (e->kv.n_pages - e->kv.n_free) * page,
                .kept_bytes = prefixes_idle(&e->prefixes) * page,
        };
}

static int take_pages(struct engine *e, uint8_t **pages, size_t n) {
        size_t idle = prefixes_idle(&e->prefixes);

        if (n > e->kv.n_free + idle)
                return -ENOSPC;
        if (n > e->kv.n_free)
                prefixes_shrink(&e->prefixes, e->kv.n_free + idle - n);
        return kv_take(&e->kv, pages, n);
}

static struct sequence *sequence_allocate(struct engine *e, size_t max_tokens) {
        size_t n_pages = kv_pages_of(max_tokens);
        struct sequence *s = calloc(1, sizeof(*s) + 2 * n_pages * sizeof(s->pages[0]));

        if (!s)
                return NULL;
        *s = (struct sequence){.engine = e, .room = max_tokens, .n_pages = n_pages};
        s->ids = calloc(max_tokens + 1, sizeof(*s->ids));
        if (s->ids)
                return s;
        free(s);
        return NULL;
}

/* Its memory alone: no page is held. */
static void sequence_deallocate(struct sequence *s) {
        explicit_bzero(s->ids, s->room * sizeof(*s->ids));
        free(s->ids);
        free(s);
}

int sequence_new(struct sequence **ret, struct engine *e, size_t max_tokens) {
        struct sequence *s;
        int r;

        if (max_tokens > e->model->hp.n_ctx)
                return -E2BIG;
        s = sequence_allocate(e, max_tokens);
        if (!s)
                return -ENOMEM;
        r = take_pages(e, s->pages, s->n_pages);
        if (r < 0) {
                sequence_deallocate(s);
                return r;
        }
        *ret = s;
        return 0;
}

/* What is found counts as memory of its own: whether others hold it, too, may change at any time
 * and is nobody's business. Once a full set of pages fits, the rest of them does. */
static int resume_pages(struct sequence *s, const int32_t *ids, size_t n) {
        struct engine *e = s->engine;
        int r;

        if (s->n_pages > e->kv.n_free + prefixes_idle(&e->prefixes))
                return -ENOSPC;
        s->n_shared = prefixes_find(&e->prefixes, s->owner, ids, s->pages, (n - 1) / KV_PAGE);
        s->length = s->written = s->n_shared * KV_PAGE;
        memcpy(s->ids, ids, s->length * sizeof(*ids));
        r = take_pages(e, s->pages + s->n_shared, s->n_pages - s->n_shared);
        if (r < 0)
                kv_give(&e->kv, s->pages, s->n_shared, s->n_shared);
        return r;
}

int sequence_resume(struct sequence **ret, struct engine *e, uint64_t owner, const int32_t *ids,
                    size_t n, size_t max_tokens) {
        struct sequence *s;
        int r;

        if (max_tokens > e->model->hp.n_ctx)
                return -E2BIG;
        if (n == 0 || n > max_tokens || owner == 0)
                return -EINVAL;
        s = sequence_allocate(e, max_tokens);
        if (!s)
                return -ENOMEM;
        s->owner = owner;
        r = resume_pages(s, ids, n);
        if (r < 0) {
                sequence_deallocate(s);
                return r;
        }
        *ret = s;
        return 0;
}

size_t sequence_catch_up(struct sequence *s, const int32_t *ids, size_t n) {
        struct kv_pool *kv = &s->engine->kv;
        uint8_t **found = s->pages + s->n_pages;
        size_t n_found, length, written = kv_pages_of(s->written);

        if (s->owner == 0 || n == 0 || n > s->room)
                return s->length;
        n_found = prefixes_find(&s->engine->prefixes, s->owner, ids, found, (n - 1) / KV_PAGE);
        length = n_found * KV_PAGE;
        if (length <= s->length) {
                kv_give(kv, found, n_found, n_found);
                return s->length;
        }
        kv_give(kv, s->pages, n_found, MIN(n_found, written));
        memcpy(s->pages, found, n_found * sizeof(*found));
        memcpy(s->ids, ids, length * sizeof(*ids));
        s->n_shared = n_found;
        s->length = length;
        s->written = MAX(s->written, length);
        return length;
}

struct sequence *sequence_free(struct sequence *s) {
        if (!s)
                return NULL;
        kv_give(&s->engine->kv, s->pages, s->n_pages, kv_pages_of(s->written));
        prefixes_shrink(&s->engine->prefixes, s->engine->prefixes.most_idle);
        sequence_deallocate(s);
        return NULL;
}

size_t sequence_length(const struct sequence *s) {
        return s->length;
}

const int32_t *sequence_ids(const struct sequence *s) {
        return s->ids;
}

void sequence_share(struct sequence *s) {
        size_t full = s->length / KV_PAGE;

        if (s->owner == 0 || full == s->n_shared)
                return;
        prefixes_add(&s->engine->prefixes, s->owner, s->ids, s->pages, full);
        s->n_shared = full;
}

int sequence_truncate(struct sequence *s, size_t length) {
        if (length < s->n_shared * KV_PAGE)
                return -EINVAL;
        s->length = MIN(s->length, length);
        return 0;
}

/* Where a row stands in its sequence, counting the rows of this step before it. */
static int place_row(struct step *s, uint32_t i) {
        struct sequence *seq = s->rows[i].seq;

        if (seq->engine != s->e || s->rows[i].token < 0 ||
            (uint32_t)s->rows[i].token >= s->e->model->hp.n_vocab)
                return -EINVAL;
        if (seq->length + seq->pending >= seq->room)
                return -ENOSPC;
        s->positions[i] = (uint32_t)(seq->length + seq->pending++);
        seq->ids[s->positions[i]] = s->rows[i].token;
        if (s->rows[i].want_logits)
                s->logit_rows[s->n_logits++] = i;
        return 0;
}

/* Forget what place_row counted; `keep`: the rows now belong to their sequences. */
static void settle_rows(struct step *s, bool keep) {
        for (uint32_t i = 0; i < s->n; i++) {
                struct sequence *seq = s->rows[i].seq;

                if (keep)
                        seq->length += seq->pending;
                seq->pending = 0;
        }
}

static void note_dirty(struct engine *e, size_t n_logits) {
        size_t filled = n_logits * row_stride(n_outputs(&e->model->hp)) * sizeof(float);
        size_t dirty = (size_t)((uint8_t *)e->run.logits - e->arena.base) + filled;

        e->dirty = MAX(e->dirty, dirty);
}

static int run_step(struct step *s) {
        for (uint32_t i = 0; i < s->n; i++) {
                int r = place_row(s, i);

                if (r < 0)
                        return r;
        }
        for (uint32_t i = 0; i < s->n; i++) {
                struct sequence *seq = s->rows[i].seq;

                seq->written = MAX(seq->written, seq->length + seq->pending);
        }
        plan_attention(s);
        note_dirty(s->e, s->n_logits);
        pool_run(s->e->pool, forward, s);
        return s->stop ? -ECANCELED : 0;
}

int engine_step(struct engine *e, const struct engine_row *rows, size_t n, const float **logits,
                const volatile int *cancel) {
        struct step s = {.e = e, .rows = rows, .n = (uint32_t)n, .cancel = cancel};
        int r;

        if (n > ENGINE_MAX_ROWS)
                return -EINVAL;
        if (n == 0)
                return 0;
        r = run_step(&s);
        settle_rows(&s, r == 0);
        for (uint32_t i = 0; r == 0 && i < s.n_logits; i++)
                logits[i] = e->run.logits + i * row_stride(n_outputs(&e->model->hp));
        return r;
}
