/* Summarise any length: split at paragraphs and sentences by token count, map the pieces in one
 * batch, reduce in rounds until the text fits one prompt, stream the last answer. The pieces tile
 * the input exactly; the coverage record counts every byte. Document bytes never become control
 * tokens. Runs on the main thread, in bounded steps. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/scheduler.h"

struct summarize;

struct coverage {
        uint64_t bytes, tokens;  /* received; tokens of the document alone */
        uint64_t tokens_used;    /* of them, read by the model in the map stage */
        uint64_t dropped;        /* bytes not read: 0 unless the job failed */
        uint32_t pieces;       /* of the document; 1 when it fit into one prompt */
        uint32_t rounds;       /* map and reduce rounds before the last answer; 0 for one prompt */
        uint32_t left;         /* rewrite, proofread: pieces left as they were (task.h) */
        bool cut;              /* the answer ended at its token limit, not by itself */
};

/* Of all generations together. */
struct summarize_usage {
        uint64_t in, out;
        uint64_t cached;       /* of in: what generation_usage says */
};

struct summarize_request {
        struct scheduler *scheduler;
        const struct model *model;
        char *document;          /* malloc'd UTF-8, checked; taken over, wiped when freed */
        size_t n;
        char *context;           /* optional: what the reader wants to know; taken over, or NULL */
        struct scheduler_user user;    /* as in struct generation_request, like these: */
        uint64_t owner, client, job;
        bool background;
        void (*held)(void *userdata, bool held);
        uint32_t type, length, format; /* enum wire_summary_type, _length, wire_text_format */
        uint32_t max_output_tokens;    /* 0: by type and length */
        struct sampling sampling;
        /* stage: "split", "map", "reduce", "final" */
        void (*progress)(void *userdata, const char *stage, uint32_t piece, uint32_t pieces,
                         uint64_t tokens_read, uint64_t tokens_out);
        void (*text)(void *userdata, const char *text, size_t n);    /* the final text, streamed */
        /* Exactly once, last. error: enum error_code. */
        void (*end)(void *userdata, int error, const struct coverage *coverage,
                    const struct summarize_usage *usage);
        void *userdata;
};

/* Estimated tokens in and out before work starts, for admission. Only type, length, n,
 * max_output_tokens and (optional) scheduler, model and user are looked at. */
void summarize_estimate(const struct summarize_request *r, uint64_t *ret_in, uint64_t *ret_out);
/* Takes the request over on success: document and context then belong to the job. 0, -ENOMEM,
 * -ENOENT (model not added), -E2BIG (context text too long for the model's context, or the KV
 * budget too small for any summary). */
int summarize_start(struct summarize **ret, struct summarize_request *r);
/* end follows with ERROR_CANCELLED from a later scheduler_dispatch or summarize_run. */
void summarize_cancel(struct summarize *s);
void summarize_pause(struct summarize *s, bool pause);
void summarize_set_background(struct summarize *s, bool background);
/* Do bounded work (splitting, submitting); true when there is more to do at once. Call it after
 * summarize_start, and after every scheduler_dispatch, until end was called: s is freed when end
 * returns (also when that happens in here; false is returned then). */
bool summarize_run(struct summarize *s);
