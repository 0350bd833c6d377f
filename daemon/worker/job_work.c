/* What a job runs once it is admitted: one generation, a summary, a task of several generations, or
 * vectors. Each tells its progress and text through here to the owner of the job, and ends it. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/job_internal.h"
#include "daemon/worker/receipt.h"
#include "daemon/worker/session.h"
#include "daemon/worker/summarize_prompt.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"

/* As asked for, or by type and length; never more than the limit of this user. */
static uint32_t summary_max_tokens(const struct job *j) {
        uint32_t n = j->spec.params.max_tokens, limit = j->spec.user->limits.max_output_tokens;

        if (n == 0)
                n = summary_tokens(j->spec.type, j->spec.length);
        return limit ? MIN(n, limit) : n;
}

uint64_t job_max_tokens(const struct job *j) {
        return j->spec.verb == WIRE_VERB_SUMMARIZE ? summary_max_tokens(j) : j->tokens_wanted;
}

/* Whose kept keys a job may use: 0 would be nobody's. A session shares with nobody, so that all of
 * it can be wiped. */
static uint64_t owner_of(const struct job *j) {
        return j->spec.session ? session_owner(j->spec.session) : user_owner(j->spec.user);
}

/* So many jobs of one client do not beat one of another: a connection, or a name on the bus. */
static uint64_t client_of(const struct job *j) {
        return j->spec.conn ? j->spec.conn : j->spec.client;
}

struct summarize_request job_summary_request(struct job *j) {
        return (struct summarize_request){
                .scheduler = j->w->scheduler,
                .model = j->model,
                .user = user_for_scheduler(j->spec.user),
                .owner = owner_of(j),
                .client = client_of(j),
                .job = j->ref,
                .background = j->spec.params.priority == WIRE_PRIORITY_BACKGROUND,
                .document = j->spec.text.p,
                .n = j->spec.text.n,
                .context = j->spec.context,
                .type = j->spec.type,
                .length = j->spec.length,
                .format = j->spec.format,
                .max_output_tokens = summary_max_tokens(j),
                .sampling = j->spec.params.sampling,
                .userdata = j,
        };
}

struct task_request job_task_request(struct job *j) {
        return (struct task_request){
                .scheduler = j->w->scheduler,
                .model = j->model,
                .verb = j->spec.verb,
                .options = &j->spec.task,
                .text = task_rewrites(j->spec.verb) ? j->spec.text.p : NULL,
                .n = j->spec.text.n,
                .prompt = j->prompt,
                .user = user_for_scheduler(j->spec.user),
                .owner = owner_of(j),
                .client = client_of(j),
                .job = j->ref,
                .background = j->spec.params.priority == WIRE_PRIORITY_BACKGROUND,
                .sampling = j->spec.params.sampling,
                .max_piece_tokens = j->spec.user->limits.max_output_tokens,
                .userdata = j,
        };
}

static void give_text(struct job *j) {
        if (j->out.n > 0 && j->spec.session)
                session_text(j->w, j->spec.session, j->out.p, j->out.n);
        if (j->out.n > 0 && j->receipt)
                receipt_text(j->receipt, j->out.p, j->out.n);
        if (j->out.n > 0 && j->events)
                j->events->text(j->userdata, j->out.p, j->out.n);
        secure_buf_consume(&j->out, j->out.n);
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct job *j = userdata;
        bool stopped;

        if (j->ending != ENDING_NO)
                return;
        stopped = stop_filter_feed(&j->stop, text, n, &j->out);
        if (j->out.failed) {
                job_cancel(j, ERROR_OVERLOADED);
                return;
        }
        if (stopped) {
                j->ending = ENDING_STOP_STRING;
                scheduler_cancel(j->w->scheduler, j->generation);
        }
        give_text(j);
}

static void on_token_odds(void *userdata, const struct token_odds *records, size_t n) {
        struct job *j = userdata;

        if (j->ending == ENDING_NO && j->events && j->events->token_odds)
                j->events->token_odds(j->userdata, records, n);
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct job *j = userdata;

        j->progress.tokens_read = tokens_read;
        j->progress.tokens_out = tokens_out;
        j->progress.state = tokens_out > 0 ? WIRE_STATE_GENERATING : WIRE_STATE_PREFILL;
        job_report(j);
}

static void on_held(void *userdata, bool held) {
        struct job *j = userdata;

        j->held = held;
        job_report(j);
}

static void on_end(void *userdata, enum finish how, const struct generation_usage *usage) {
        struct job *j = userdata;

        j->generation = NULL;
        j->result.tokens_in = j->tokens_in;
        j->result.tokens_out = usage->out;
        j->result.tokens_cached = usage->cached;
        j->result.kv_kept = usage->kept;
        if (j->ending == ENDING_NO) {
                stop_filter_end(&j->stop, &j->out);
                give_text(j);
        }
        j->result.stop_string = j->ending == ENDING_STOP_STRING;
        j->result.length = j->ending == ENDING_NO && how == FINISH_LENGTH;
        if (j->ending == ENDING_NO && (how == FINISH_FAILED || how == FINISH_CANCELLED))
                j->result.error.code = ERROR_FAILED;
        else if (j->result.length && j->spec.verb == WIRE_VERB_EXTRACT)
                request_fail_range(&j->result.error, ERROR_FAILED, "max_tokens",
                                   "The extract was not whole when its tokens were spent.",
                                   usage->out, j->tokens_wanted);
        job_finish(j);
}

static void start_generation(struct job *j) {
        struct generation_request r = {
                .model = j->model,
                .user = user_for_scheduler(j->spec.user),
                .owner = owner_of(j),
                .client = client_of(j),
                .job = j->ref,
                .prompt = j->prompt,
                .max_tokens = (uint32_t)j->tokens_wanted,
                .sampling = j->spec.params.sampling,
                .constraint = j->constraint,
                .background = j->spec.params.priority == WIRE_PRIORITY_BACKGROUND,
                .odds = j->spec.params.logprobs,
                .n_top = MIN(j->spec.params.top_logprobs, j->model->hp.n_vocab),
                .text = on_text,
                .token_odds = on_token_odds,
                .progress = on_progress,
                .held = on_held,
                .end = on_end,
                .userdata = j,
        };
        int e = scheduler_submit(j->w->scheduler, &r, &j->generation);

        if (e < 0) {
                job_fail(j, e == -E2BIG ? ERROR_CONTEXT_TOO_LONG : ERROR_OVERLOADED);
                return;
        }
        j->prompt = (struct tokens){};
        j->constraint = NULL;
        messages_done(&j->spec.messages); /* the tokens carry the text from here on */
        secure_buf_done(&j->spec.text);
        if (j->paused)
                scheduler_pause(j->w->scheduler, j->generation, true);
}

static void on_pieces_progress(void *userdata, const char *stage, uint32_t piece,
                               uint32_t pieces, uint64_t tokens_read, uint64_t tokens_out) {
        struct job *j = userdata;

        j->progress.stage = stage;
        j->progress.piece = piece;
        j->progress.pieces = pieces;
        j->progress.tokens_read = tokens_read;
        j->progress.tokens_out = tokens_out;
        j->tokens_in = j->progress.tokens_in = MAX(j->tokens_in, tokens_read); /* was estimated */
        j->progress.state = strcmp(stage, "split") == 0    ? WIRE_STATE_READING
                            : strcmp(stage, "map") == 0    ? WIRE_STATE_PREFILL
                            : strcmp(stage, "reduce") == 0 ? WIRE_STATE_MERGING
                                                           : WIRE_STATE_GENERATING;
        job_report(j);
}

static void on_pieces_text(void *userdata, const char *text, size_t n) {
        struct job *j = userdata;

        if (j->ending == ENDING_NO && j->receipt)
                receipt_text(j->receipt, text, n);
        if (j->ending == ENDING_NO && j->events)
                j->events->text(j->userdata, text, n);
}

static void end_pieces(struct job *j, int error, const struct coverage *coverage,
                       const struct summarize_usage *usage) {
        j->result.coverage = *coverage;
        j->result.length = coverage->cut;
        j->result.tokens_in = usage->in;
        j->result.tokens_out = usage->out;
        j->result.tokens_cached = usage->cached;
        if (j->ending == ENDING_NO && error != 0)
                j->result.error.code = (enum error_code)error;
        job_finish(j);
}

static void on_summary_end(void *userdata, int error, const struct coverage *coverage,
                           const struct summarize_usage *usage) {
        struct job *j = userdata;

        j->summarize = NULL;
        end_pieces(j, error, coverage, usage);
}

static void start_summary(struct job *j) {
        struct summarize_request r = job_summary_request(j);
        int e;

        r.progress = on_pieces_progress;
        r.held = on_held;
        r.text = on_pieces_text;
        r.end = on_summary_end;
        e = summarize_start(&j->summarize, &r);
        if (e < 0) {
                job_fail(j, e == -E2BIG ? ERROR_CONTEXT_TOO_LONG : ERROR_OVERLOADED);
                return;
        }
        j->spec.text = (struct secure_buf){};
        j->spec.context = NULL;
        if (j->paused)
                summarize_pause(j->summarize, true);
}

static void on_correction(void *userdata, uint64_t start, uint64_t end, const char *text,
                          size_t n) {
        struct job *j = userdata;

        if (j->ending == ENDING_NO && j->events && j->events->correction)
                j->events->correction(j->userdata, start, end, text, n);
}

static void on_task_end(void *userdata, int error, const struct coverage *coverage,
                        const struct summarize_usage *usage, const struct label_score *scores) {
        struct job *j = userdata;

        j->task = NULL;
        j->result.labels = &j->spec.task.labels;
        j->result.scores = scores;
        if (j->ending == ENDING_NO && coverage->pieces > TASK_PIECES_MAX)
                request_fail_range(&j->result.error, (enum error_code)error, "text",
                                   "The text has too many pieces.", coverage->pieces,
                                   TASK_PIECES_MAX);
        end_pieces(j, error, coverage, usage);
}

static void start_task(struct job *j) {
        struct task_request r = job_task_request(j);
        int e;

        r.progress = on_pieces_progress;
        r.held = on_held;
        r.text_out = on_pieces_text;
        r.correction = on_correction;
        r.end = on_task_end;
        e = task_start(&j->task, &r);
        if (e < 0) {
                job_fail(j, e == -E2BIG ? ERROR_CONTEXT_TOO_LONG : ERROR_OVERLOADED);
                return;
        }
        j->prompt = (struct tokens){};
        if (task_rewrites(j->spec.verb))
                j->spec.text = (struct secure_buf){};
        else
                secure_buf_done(&j->spec.text); /* the tokens carry it from here on */
        if (j->paused)
                task_pause(j->task, true);
}

static void on_embed_progress(void *userdata, uint64_t tokens_read) {
        struct job *j = userdata;

        j->progress.tokens_read = tokens_read;
        job_report(j);
}

static void on_embed_end(void *userdata, int error, const float *vectors) {
        struct job *j = userdata;

        j->embed = NULL;
        j->result.tokens_in = j->tokens_in;
        j->result.vectors = vectors;
        j->result.n_vectors = j->spec.messages.n;
        j->result.n_embd = j->model->hp.n_embd;
        if (j->ending == ENDING_NO && error != ERROR_NONE)
                j->result.error.code = (enum error_code)error;
        job_finish(j);
}

static void start_embedding(struct job *j) {
        struct embed_request r = {
                .scheduler = j->w->scheduler,
                .model = j->model,
                .user = user_for_scheduler(j->spec.user),
                .client = client_of(j),
                .job = j->ref,
                .inputs = j->inputs,
                .n = j->spec.messages.n,
                .background = j->spec.params.priority == WIRE_PRIORITY_BACKGROUND,
                .progress = on_embed_progress,
                .end = on_embed_end,
                .userdata = j,
        };

        if (embed_start(&j->embed, &r) < 0)
                job_fail(j, ERROR_OVERLOADED);
        else
                j->inputs = NULL;
}

void job_work(struct job *j) {
        if (j->spec.verb == WIRE_VERB_SUMMARIZE)
                start_summary(j);
        else if (task_rewrites(j->spec.verb) || j->spec.verb == WIRE_VERB_CLASSIFY)
                start_task(j);
        else if (j->spec.verb == WIRE_VERB_EMBED)
                start_embedding(j);
        else
                start_generation(j);
}
