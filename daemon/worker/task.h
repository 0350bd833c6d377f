/* Rewriting, proofreading and classifying: several generations that make one answer. A text is
 * rewritten piece by piece, cut as for summaries (split.h), and the answers stand in the order of
 * the pieces with the white space that was between them, so that any length is possible and
 * nothing is left out; a piece that the model has no answer about stays as it is. Labels are
 * weighed: how likely is each one, and the end of the answer after it, given the prompt. Runs on
 * the main thread, in bounded steps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/corrections.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/summarize.h"
#include "daemon/worker/task_options.h"

struct task;

enum { TASK_PIECES_MAX = 1 << 18 }; /* of one text */

struct label_score {
        double logprob;  /* natural logarithm of the likelihood of its tokens and the end */
        double score;    /* its share of those of all labels: they sum to 1 */
};

struct task_request {
        struct scheduler *scheduler;
        const struct model *model;
        uint32_t verb;                  /* enum wire_verb: rewrite, proofread or classify */
        const struct task_options *options; /* borrowed until the end */
        char *text;                     /* rewrite, proofread: malloc'd UTF-8; taken over */
        size_t n;                       /* bytes of the text; classify: of that in the prompt */
        struct tokens prompt;           /* classify: the whole prompt; taken over */
        struct scheduler_user user;     /* as in struct generation_request, like these: */
        uint64_t owner, client, job;
        bool background;
        void (*held)(void *userdata, bool held);
        struct sampling sampling;
        uint32_t max_piece_tokens;      /* of the answer about one piece; 0: no limit */
        /* stage: "split", "rewrite", "classify" */
        void (*progress)(void *userdata, const char *stage, uint32_t piece, uint32_t pieces,
                         uint64_t tokens_read, uint64_t tokens_out);
        void (*text_out)(void *userdata, const char *text, size_t n);
        /* Proofread: bytes start to end of the text were replaced, in order. */
        void (*correction)(void *userdata, uint64_t start, uint64_t end, const char *text,
                           size_t n);
        /* Exactly once, last. error: enum error_code; ERROR_INVALID_INPUT: only white space, or
         * more than TASK_PIECES_MAX pieces (then coverage.pieces is above it).
         * scores: of the labels, for the call; or NULL. */
        void (*end)(void *userdata, int error, const struct coverage *coverage,
                    const struct summarize_usage *usage, const struct label_score *scores);
        void *userdata;
};

/* Tokens in and out before work starts, for admission; a guess where they are not known. */
void task_estimate(const struct task_request *r, uint64_t *ret_in, uint64_t *ret_out);
/* The tokens of a label and the end after it, appended to out. 0 or -ENOMEM. */
int task_label_tokens(const struct vocab *v, const char *label, size_t n, struct tokens *out);
/* Takes the request over on success. 0, -ENOMEM, -ENOENT (model not added), -E2BIG (instructions
 * too long for the context, or limits too small for any piece). */
int task_start(struct task **ret, struct task_request *r);
/* end follows with ERROR_CANCELLED from a later scheduler_dispatch or task_run. */
void task_cancel(struct task *t);
void task_pause(struct task *t, bool pause);
void task_set_background(struct task *t, bool background);
/* As summarize_run. */
bool task_run(struct task *t);
