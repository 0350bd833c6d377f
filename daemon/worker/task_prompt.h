/* What the model is asked for a rewrite, a correction, an extract or a label: the text and the wish
 * as one user message. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/task_options.h"
#include "engine/text/vocab.h"

/* The beginning of the wish for a rewrite, when an answer repeats it after itself. */
#define TASK_REWRITE_ECHO "\n\nRewrite th"

/* Append the whole prompt to out. text: UTF-8 of a user, like the options never control tokens.
 * Returns as chat_encode. */
int task_prompt_encode(const struct vocab *v, uint32_t verb, const struct task_options *o,
                       const char *text, size_t n, size_t max, struct tokens *out);
