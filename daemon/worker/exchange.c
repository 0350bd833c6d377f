/* Ties one job to one connection. The head of a stream is sent when the job is admitted (so that a
 * refusal still gets its own status), or at the first heartbeat when waiting takes long; the first
 * event always waits for admission, because it names the job. Errors after the head become the last
 * event. The exchange is freed in its job's end callback or when
 * the connection goes, whichever is first, and each side forgets the other then. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/worker/exchange.h"
#include "daemon/worker/http.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

enum { TRAILER_MAX = 512 };

static const uint64_t BEAT_INTERVAL = 10 * USEC_PER_SEC; /* clients may count on 15 */

static void send_head(struct exchange *x) {
        if (x->head_sent)
                return;
        x->head_sent = true;
        reply_stream(x->conn,
                     x->bare            ? "text/plain; charset=utf-8"
                     : x->format->lines ? "application/x-ndjson"
                                        : "text/event-stream",
                     x->bare ? x->format->trailer_names : NULL, job_id(x->job));
}

static void on_admitted(void *userdata) {
        struct exchange *x = userdata;

        snprintf(x->model, sizeof(x->model), "%s", job_model_name(x->job));
        x->admitted = x->conn->w->now;
        if (!x->stream)
                return;
        send_head(x);
        if (x->format->begin && !x->bare)
                x->format->begin(x);
}

static void give_text(struct exchange *x, const char *text, size_t n) {
        bool call = x->tools && tool_reader_calls(&x->call);

        x->logprobs.text += n;

        if (!x->stream || (call && !x->format->call))
                secure_buf_append(&x->text, text, n);
        else if (x->bare)
                reply_bytes(x->conn, text, n);
        else if (call)
                x->format->call(x, text, n);
        else
                x->format->text(x, text, n);
}

/* A call is told apart from text, and its arguments from what stands around them. */
static void give_answer(struct exchange *x, const char *text, size_t n) {
        bool before = tool_reader_calls(&x->call);
        struct secure_buf piece = {};

        tool_reader_feed(&x->call, text, n, &piece);
        if (!before && tool_reader_calls(&x->call) && x->stream && x->format->call)
                x->format->call(x, "", 0);
        if (piece.n > 0)
                give_text(x, piece.p, piece.n);
        x->text.failed |= piece.failed;
        secure_buf_done(&piece);
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct exchange *x = userdata;

        if (!x->text_came)
                x->first_text = x->conn->w->now;
        x->text_came = true;
        if (x->tools)
                give_answer(x, text, n);
        else
                give_text(x, text, n);
}

static void on_token_odds(void *userdata, const struct token_odds *records, size_t n) {
        struct exchange *x = userdata;

        x->logprobs.vocab = job_vocab(x->job);
        logprobs_add(&x->logprobs, records, n);
        x->text.failed |= x->logprobs.records.failed;
}

static void on_correction(void *userdata, uint64_t start, uint64_t end, const char *text,
                          size_t n) {
        struct exchange *x = userdata;
        json_t *v = result_correction(start, end, text, n);

        if (x->bare) {
                json_decref(v);
        } else if (x->stream) {
                x->format->correction(x, v);
        } else {
                if (!x->corrections)
                        x->corrections = json_array();
                x->text.failed |= json_array_append_new(x->corrections, v) < 0;
        }
}

static void on_progress(void *userdata, const struct job_progress *p) {
        struct exchange *x = userdata;

        /* the text itself shows progress once it flows */
        if (!x->stream || !x->head_sent || x->bare || x->text_came || !x->format->progress ||
            !job_progress_due(&x->pace, p, x->conn->w->now))
                return;
        x->format->progress(x, p);
        x->next_beat = x->conn->w->now + BEAT_INTERVAL;
}

static struct exchange *exchange_free(struct exchange *x) {
        secure_buf_done(&x->text);
        logprobs_done(&x->logprobs);
        json_decref(x->corrections);
        tool_reader_done(&x->call);
        if (x->own)
                x->format->free_own(x->own);
        free(x);
        return NULL;
}

static void end_stream(struct exchange *x, const struct job_result *r) {
        bool ok = r->error.code == ERROR_NONE;
        char trailer[TRAILER_MAX] = "";

        if (x->bare && ok && x->format->trailer)
                x->format->trailer(r, trailer, sizeof(trailer));
        if (!x->bare && ok)
                x->format->end(x, r);
        else if (!x->bare && x->format->fail)
                x->format->fail(x, r);
        else if (!x->bare && x->format->lines)
                reply_line(x->conn, reply_error_json(x->conn, &r->error));
        else if (!x->bare)
                reply_event(x->conn, x->format->error_event, http_error_json(&r->error));
        reply_stream_end(x->conn, trailer, ok, x->bare && !ok);
}

static void on_end(void *userdata, const struct job_result *r) {
        struct exchange *x = userdata;
        struct request_error e = r->error;
        struct conn *c = x->conn;

        if (x->format->rename)
                x->format->rename(&e);
        c->exchange = NULL;
        if (x->head_sent) {
                refusals_add(c->w, &e, job_id(x->job));
                end_stream(x, r);
        } else if (e.code != ERROR_NONE)
                reply_error(c, &e, job_id(x->job));
        else if (x->text.failed)
                reply_memory(c);
        else
                x->format->whole(x, r);
        exchange_free(x);
}

static const struct job_events events = {
        .admitted = on_admitted, .text = on_text, .token_odds = on_token_odds,
        .correction = on_correction, .progress = on_progress, .end = on_end,
};

void exchange_start(struct conn *c, const struct exchange_format *format, struct job_spec *spec,
                    bool bare) {
        struct exchange *x = calloc(1, sizeof(*x));

        if (!x) {
                reply_memory(c);
                return;
        }
        x->conn = c;
        x->format = format;
        x->verb = spec->verb;
        x->stream = spec->params.stream;
        x->include_usage = spec->params.include_usage;
        x->tools = spec->params.tools.offered;
        x->logprobs.wanted = spec->params.logprobs;
        x->logprobs.n_top = spec->params.top_logprobs;
        x->bare = bare;
        x->created = (uint64_t)time(NULL);
        x->started = c->w->now;
        x->next_beat = c->w->now + BEAT_INTERVAL;
        spec->conn = c->id;
        spec->user = c->user;
        if (job_start(c->w, spec, &events, x, &x->job) < 0) {
                exchange_free(x);
                reply_memory(c);
                return;
        }
        c->exchange = x;
        secure_buf_done(&c->request.body); /* the job has what it needs of them */
        secure_buf_done(&c->request.url);
}

struct exchange *exchange_abandon(struct exchange *x) {
        if (!x)
                return NULL;
        job_abandon(x->job);
        return exchange_free(x);
}

/* Only events have comments, which clients skip. */
static bool has_heartbeat(const struct exchange *x) {
        return x->stream && !x->bare && !x->format->lines && !x->text_came;
}

void exchange_poll(const struct exchange *x, struct poller *p) {
        if (has_heartbeat(x))
                poller_deadline(p, x->next_beat);
}

/* A comment says in words and numbers what is being waited for. */
static void send_beat(struct exchange *x) {
        const struct job_progress *p = job_progress(x->job);
        uint64_t now = x->conn->w->now;
        char text[160] = ": waiting\n\n", when[64] = "";

        if (p->starts_at > now)
                snprintf(when, sizeof(when), ", starts in about %" PRIu64 " s",
                         (p->starts_at - now + USEC_PER_SEC - 1) / USEC_PER_SEC);
        if (p->state == WIRE_STATE_QUEUED && p->position > 0)
                snprintf(text, sizeof(text),
                         ": queued, position %" PRIu32 ", %" PRIu64 " tokens ahead%s\n\n",
                         p->position, p->tokens_ahead, when);
        else if (p->state == WIRE_STATE_PREFILL && p->tokens_in > 0)
                snprintf(text, sizeof(text),
                         ": prefill, %" PRIu64 " of %" PRIu64 " tokens read\n\n", p->tokens_read,
                         p->tokens_in);
        send_head(x);
        reply_bytes(x->conn, text, strlen(text));
        x->next_beat = now + BEAT_INTERVAL;
}

void exchange_tick(struct exchange *x) {
        struct conn *c = x->conn;

        if (has_heartbeat(x) && c->w->now >= x->next_beat)
                send_beat(x);
        if (!x->paused && c->out.n > CONN_OUT_HIGH)
                x->paused = true;
        else if (x->paused && c->out.n < CONN_OUT_LOW)
                x->paused = false;
        job_pause(x->job, x->paused);
}

const char *exchange_finish(const struct exchange *x, const struct job_result *r) {
        return x->call.step == TOOL_WHOLE ? "tool_calls" : result_finish(r);
}

json_t *exchange_logprobs(struct exchange *x, const struct job_result *r) {
        return tool_reader_calls(&x->call) ? NULL
                                           : logprobs_content(&x->logprobs, r && !r->stop_string);
}

const char *exchange_id(const struct exchange *x, char *buf, size_t size) {
        snprintf(buf, size, "%s%" PRIu64, x->format->id_prefix, job_id(x->job));
        return buf;
}
