/* Encoding prompts, and refusing those that cannot fit with the numbers that say why, without
 * spending seconds on them. Used by jobs, and by sessions to know how full they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/embed.h"
#include "daemon/worker/prompt.h"
#include "daemon/worker/task_prompt.h"
#include "engine/base/macro.h"
#include "engine/text/chat.h"

/* Prompts are counted to here even when they do not fit, so that the error can name their size. */
enum { COUNT_TOKENS_MAX = 1 << 20, COUNT_BYTES_MAX = 1 << 18 };

static int encode(const struct vocab *v, const struct job_spec *spec, size_t max,
                  struct tokens *ret) {
        int r;

        if (spec->verb == WIRE_VERB_CHAT)
                return chat_encode(v, (enum chat_format)vocab_chat_format(v),
                                   spec->messages.items, spec->messages.n, max, ret);
        if (task_verb(spec->verb))
                return task_prompt_encode(v, spec->verb, &spec->task, spec->text.p, spec->text.n,
                                          max, ret);
        if (vocab_add_bos(v) && (r = tokens_push(ret, vocab_bos(v))) < 0)
                return r;
        return vocab_encode(v, spec->text.p ? spec->text.p : "", spec->text.n, false, max, ret);
}

/* The fewest tokens that a text of n bytes can have. Encoding takes seconds for megabytes without a
 * break, in which nobody of this worker is heard: what cannot fit is refused without it. */
static size_t fewest_tokens(const struct model *model, size_t n) {
        size_t longest = 1;

        if (n <= COUNT_BYTES_MAX)
                return 0;
        for (uint32_t i = 0; i < model->hp.n_vocab; i++)
                longest = MAX(longest, vocab_bytes(model->vocab, (int32_t)i, true).n);
        return n / longest;
}

/* Bytes of the user's in a prompt, whichever field they came in. */
static size_t content_bytes(const struct job_spec *spec) {
        const struct task_options *o = &spec->task;

        if (spec->verb == WIRE_VERB_CHAT)
                return spec->messages.text.n;
        return spec->text.n + o->labels.text.n + (o->schema ? strlen(o->schema) : 0) +
               (o->instructions ? strlen(o->instructions) : 0);
}

static int too_long(const struct job_spec *spec, size_t tokens, size_t limit, bool at_least,
                    struct request_error *e) {
        return request_fail_range(e, ERROR_CONTEXT_TOO_LONG,
                                  spec->verb == WIRE_VERB_CHAT    ? "messages"
                                  : spec->verb == WIRE_VERB_EMBED ? "input"
                                  : task_verb(spec->verb)         ? "text"
                                                                  : "prompt",
                                  at_least ? "There are at least that many tokens." : NULL, tokens,
                                  limit);
}

/* As prompt_encode, but it need not fit. */
static int encode_any(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                      struct tokens *ret, struct request_error *e) {
        size_t most = MAX((size_t)n_ctx, (size_t)COUNT_TOKENS_MAX);
        size_t fewest = fewest_tokens(model, content_bytes(spec));
        int r;

        if (fewest > n_ctx)
                return too_long(spec, fewest, n_ctx, true, e);
        r = encode(model->vocab, spec, most, ret);
        return r == -E2BIG ? too_long(spec, most, n_ctx, true, e) : r;
}

int prompt_encode(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                  struct tokens *ret, struct request_error *e) {
        int r = encode_any(model, spec, n_ctx, ret, e);

        if (r < 0)
                return r;
        return ret->n < n_ctx ? 0 : too_long(spec, ret->n, n_ctx, false, e);
}

int prompt_count(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                 uint64_t *ret, struct request_error *e) {
        struct tokens tokens = {};
        int r = encode_any(model, spec, n_ctx, &tokens, e);

        *ret = r < 0 ? 0 : tokens.n;
        tokens_done(&tokens);
        return r < 0 ? r : 0;
}

static int encode_input(const struct model *model, const struct job_spec *spec,
                        const struct chat_message *text, size_t n_ctx, struct tokens *ret,
                        struct request_error *e) {
        size_t fewest = fewest_tokens(model, text->n);
        int r;

        if (fewest > n_ctx)
                return too_long(spec, fewest, n_ctx, true, e);
        r = embed_encode(model->vocab, text->content, text->n, COUNT_TOKENS_MAX, ret);
        if (r == -E2BIG)
                return too_long(spec, COUNT_TOKENS_MAX, n_ctx, true, e);
        if (r < 0)
                return r;
        if (ret->n > n_ctx)
                return too_long(spec, ret->n, n_ctx, false, e);
        if (ret->n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "input", "A text has no tokens.");
        return 0;
}

int prompt_inputs(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                  struct tokens **inputs, uint64_t *tokens, struct request_error *e) {
        const struct messages *m = &spec->messages;

        *inputs = calloc(m->n, sizeof(**inputs));
        if (!*inputs)
                return -ENOMEM;
        for (size_t i = 0; i < m->n; i++) {
                int r = encode_input(model, spec, &m->items[i], n_ctx, &(*inputs)[i], e);

                if (r < 0)
                        return r;
                *tokens += (*inputs)[i].n;
        }
        return 0;
}

int prompt_check_kind(const struct model *model, const struct job_spec *spec,
                      struct request_error *e) {
        bool pools = model->hp.pooling != POOLING_NONE;

        if (!pools && spec->verb == WIRE_VERB_EMBED)
                return request_fail(e, ERROR_UNSUPPORTED, "model",
                                    "This model generates text; embeddings are made by models "
                                    "whose file names a pooling.");
        if (pools && spec->verb != WIRE_VERB_EMBED)
                return request_fail(e, ERROR_UNSUPPORTED, "model",
                                    "This model makes embeddings and cannot generate text.");
        if (spec->dimensions && spec->dimensions != model->hp.n_embd)
                return request_fail_range(e, ERROR_UNSUPPORTED, "dimensions",
                                          "Vectors are not shortened; the limit is their length.",
                                          spec->dimensions, model->hp.n_embd);
        return 0;
}
