/* A request that needs the model, between its HTTP connection and its job. What is common to all
 * such paths is here; what an answer looks like is a table of functions per path. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/conn.h"
#include "daemon/worker/job.h"
#include "daemon/worker/logprobs.h"

struct exchange;

struct exchange_format {
        const char *id_prefix;                       /* "chatcmpl-" */
        void (*begin)(struct exchange *x);           /* stream: admitted; may be NULL */
        void (*text)(struct exchange *x, const char *text, size_t n); /* stream */
        /* Stream: a piece of a tool call's arguments, n = 0 when the call begins (x->call has its
         * name); NULL: x->text collects them. */
        void (*call)(struct exchange *x, const char *arguments, size_t n);
        void (*correction)(struct exchange *x, json_t *correction); /* stream; takes it; or NULL */
        void (*progress)(struct exchange *x, const struct job_progress *p); /* stream; or NULL */
        void (*end)(struct exchange *x, const struct job_result *r);  /* stream: success */
        void (*whole)(struct exchange *x, const struct job_result *r); /* not streamed: success */
        /* Bare stream: header lines that follow the text, each ended by CRLF; or NULL. */
        void (*trailer)(const struct job_result *r, char *lines, size_t size);
        const char *trailer_names;                   /* "Trailer: …" CRLF, for the head */
        const char *error_event;                     /* SSE event name of errors, or NULL */
        void (*fail)(struct exchange *x, const struct job_result *r); /* stream: error; or NULL */
        void (*rename)(struct request_error *e);     /* as its clients know the field; or NULL */
        void (*free_own)(void *own);                 /* x->own, when it is set */
        bool lines;                                  /* stream: lines of JSON, not events */
};

struct exchange {
        struct conn *conn;
        struct job *job;
        const struct exchange_format *format;
        uint32_t verb;             /* enum wire_verb */
        bool stream, include_usage;
        bool bare;                 /* text/plain instead of events or JSON */
        bool head_sent, text_came, paused;
        uint64_t created;          /* seconds since the epoch */
        uint64_t next_beat;        /* of the heartbeat */
        uint64_t started, admitted, first_text; /* on the worker's clock; 0: not yet */
        char model[WIRE_NAME_MAX];
        struct job_pace pace;
        struct secure_buf text;    /* not streamed: the answer, or the arguments of its call */
        struct logprobs logprobs;
        json_t *corrections;       /* not streamed: all of them; NULL: there was none */
        bool tools;                /* the answer may be a call: */
        struct tool_reader call;
        void *own;                 /* what its format keeps, set right after exchange_start */
};

/* Start the job of a request. Takes *spec over. Answers with an error by itself when it cannot. */
void exchange_start(struct conn *c, const struct exchange_format *format, struct job_spec *spec,
                    bool bare);
/* The connection is gone: cancel and free. */
struct exchange *exchange_abandon(struct exchange *x);
/* Heartbeats and back-pressure, once per loop pass. */
void exchange_tick(struct exchange *x);
void exchange_poll(const struct exchange *x, struct poller *p);

/* finish_reason, in OpenAI's words. */
const char *exchange_finish(const struct exchange *x, const struct job_result *r);
/* What an answer's "logprobs" is, in the shape of chats. r: it ends here; NULL: not yet. A call has
 * none. A reference, or NULL where there is nothing to tell. */
json_t *exchange_logprobs(struct exchange *x, const struct job_result *r);
const char *exchange_id(const struct exchange *x, char *buf, size_t size);
