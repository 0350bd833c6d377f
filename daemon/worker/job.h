/* One request, from parsed options to its last word: model, tokens, admission, generation, end.
 * A job knows neither HTTP nor descriptors; it tells its owner through job_events. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/messages.h"
#include "daemon/worker/params.h"
#include "daemon/worker/poller.h"
#include "daemon/worker/summarize.h"
#include "daemon/worker/task.h"
#include "daemon/worker/worker.h"

struct job;
struct user;

struct job_spec {
        struct user *user;           /* borrowed; a job that was started has a reference */
        uint32_t verb;               /* enum wire_verb */
        uint64_t ref;                /* bus: the job id; HTTP: 0 (one is made) */
        uint64_t conn;               /* HTTP: the connection; bus: 0 */
        uint64_t client;             /* bus: whose job it is among those of the user; HTTP: 0 */
        char model[WIRE_NAME_MAX];   /* "": the default */
        struct gen_params params;
        struct messages messages;    /* chat; embed: the texts, as if said by the user */
        uint32_t dimensions;         /* embed: what the vectors must have; 0: whatever they have */
        struct secure_buf text;      /* the prompt or the document; valid UTF-8 */
        char *context;               /* summarize: what the reader wants to know, or NULL */
        uint32_t type, length, format; /* summarize */
        struct task_options task;    /* rewrite, proofread, extract, classify */
        uint64_t input_bytes;        /* as received */
        uint64_t session;            /* whose turn it is; 0: none's */
        bool count;                  /* chat and completion: its tokens are wanted, no answer;
                                      * it is no job then, and costs a request (HTTP) or has
                                      * been paid for (bus) */
};
void job_spec_done(struct job_spec *s);

struct job_progress {
        uint32_t state;              /* enum wire_job_state */
        const char *stage;           /* what is done in pieces: summarize.h, task.h; else NULL */
        uint32_t piece, pieces;
        uint64_t tokens_in, tokens_read, tokens_out;
        uint32_t position;           /* queued: 1 is the next one */
        uint64_t tokens_ahead;       /* of the jobs before it, at most */
        uint64_t starts_at;          /* on the worker's clock, by estimate; 0: not known */
};

/* Is this progress worth telling? A new stage or piece always, anything else twice a second. */
struct job_pace {
        const char *stage;
        uint32_t piece;
        uint64_t told;
};
bool job_progress_due(struct job_pace *pace, const struct job_progress *p, uint64_t now);

struct job_result {
        struct request_error error;  /* code ERROR_NONE: success */
        bool length;                 /* ended by a limit, not by the model or a stop string */
        bool stop_string;            /* ended by one; its tokens' odds were told, its text not */
        uint64_t tokens_in, tokens_out;
        uint64_t tokens_cached;      /* of tokens_in: not computed, but kept from before */
        uint64_t context;            /* count: what prompt and answer may have together */
        uint64_t kv_kept;            /* as in generation_usage */
        struct coverage coverage;    /* what is done in pieces */
        const float *vectors;        /* embed: [n_vectors][n_embd], during the call */
        size_t n_vectors;
        uint32_t n_embd;
        const struct messages *labels; /* classify: these, */
        const struct label_score *scores; /* [labels->n], during the call; else NULL */
        json_t *receipt;             /* where params.receipt says so: during the call; or NULL */
};

/* Calls to the owner: from jobs_run, link or scheduler dispatch, never from job_start. */
struct job_events {
        void (*admitted)(void *userdata);
        void (*text)(void *userdata, const char *text, size_t n); /* n > 0, whole characters */
        /* Where params.logprobs says so: as generation_request.token_odds, n tokens. */
        void (*token_odds)(void *userdata, const struct token_odds *records, size_t n);
        /* Proofread: bytes of the input that were replaced; NULL: not wanted. */
        void (*correction)(void *userdata, uint64_t start, uint64_t end, const char *text,
                           size_t n);
        void (*progress)(void *userdata, const struct job_progress *progress);
        /* A result that is no text, before the end; false: the job fails with *e. NULL: it is
         * told at the end. */
        bool (*result)(void *userdata, const struct job_result *result, struct request_error *e);
        void (*end)(void *userdata, const struct job_result *result); /* once, last */
};

/* Takes *spec over on success and leaves it empty. 0 or -ENOMEM. */
int job_start(struct worker *w, struct job_spec *spec, const struct job_events *events,
              void *userdata, struct job **ret);
/* End with this error; events->end still comes (soon, or before this returns). */
void job_cancel(struct job *j, enum error_code reason);
void job_cancel_with(struct job *j, const struct request_error *e);
/* The owner goes away: no events any more, and the job is cancelled. */
void job_abandon(struct job *j);
void job_pause(struct job *j, bool pause);
uint64_t job_id(const struct job *j);          /* 0 until the broker gave one */
const struct job_progress *job_progress(const struct job *j);
const char *job_model_name(const struct job *j); /* resolved; "" before the model is loaded */

const struct vocab *job_vocab(const struct job *j); /* NULL before the model is loaded */

/* Messages of the broker about a job; unknown refs and ids are ignored (it ended meanwhile). */
void jobs_queued(struct worker *w, const struct wire_queued *m);
void jobs_admitted(struct worker *w, const struct wire_admitted *m);
void jobs_refused(struct worker *w, const struct wire_refused *m);
void jobs_passed(struct worker *w, const struct wire_passed *m);
void jobs_cancel(struct worker *w, const struct wire_cancel *m);
void jobs_set_priority(struct worker *w, const struct wire_set_priority *m);

/* Once per loop pass: deadlines of all jobs into p; advance, report, free what has ended. */
void jobs_poll(struct worker *w, struct poller *p);
void jobs_run(struct worker *w);
