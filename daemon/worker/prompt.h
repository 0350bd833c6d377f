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
