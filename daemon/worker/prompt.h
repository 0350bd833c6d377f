/* From what a job says to the tokens that the model reads. */
#pragma once

#include "daemon/worker/job.h"
#include "engine/model/model.h"
#include "engine/text/vocab.h"

/* The prompt of a chat (messages, which may be none) or a completion (text). n_ctx: what prompt and
 * answer may have together, of which the answer needs one at least. 0; -EBADMSG with *e
 * (ERROR_CONTEXT_TOO_LONG, with the tokens and the limit); or another negative errno. */
int prompt_encode(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                  struct tokens *ret, struct request_error *e);

/* The tokens of the same prompt, which may be longer than n_ctx. -EBADMSG with *e only when it is
 * so much longer that counting would take seconds (ERROR_CONTEXT_TOO_LONG: at least that many). */
int prompt_count(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                 uint64_t *ret, struct request_error *e);

/* The texts of an embedding (messages) as tokens, [messages.n]; each must fit into n_ctx by itself.
 * The caller frees them in any case. Adds to *tokens. Returns as prompt_encode. */
int prompt_inputs(const struct model *model, const struct job_spec *spec, uint32_t n_ctx,
                  struct tokens **inputs, uint64_t *tokens, struct request_error *e);

/* Models that pool have no words, and the others no vectors: 0, or -EBADMSG with *e. */
int prompt_check_kind(const struct model *model, const struct job_spec *spec,
                      struct request_error *e);
