/* The life of a request:
 *
 *   NEW       waits for its model (asks the broker for it)
 *   ADMIT     tokens are counted, the broker is asked; nothing came back yet
 *   QUEUED    the broker gave an id, the job waits
 *   RUNNING   admitted: a generation or a summary runs
 *   ZOMBIE    ended here while the broker's first answer was under way; waits for the id
 *   ENDED     freed at the end of the loop pass
 *
 * What is only counted ends with ADMIT, or before it when it was paid for.
 *
 * Invariants: the owner hears `end` exactly once; the broker gets exactly one DONE for every job
 * it knows (a bus job always, an HTTP job once it has an id); a generation or summary is never
 * freed under the scheduler: ending a running job asks it to stop and waits for its own end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/defaults.h"
#include "daemon/worker/embed.h"
#include "daemon/worker/job.h"
#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/prompt.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/session.h"
#include "daemon/worker/summarize_prompt.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"

static const uint64_t PROGRESS_INTERVAL = 200 * USEC_PER_MSEC; /* to the broker */
static const uint64_t TELL_INTERVAL = 500 * USEC_PER_MSEC;     /* to a client */

enum job_step { STEP_NEW, STEP_ADMIT, STEP_QUEUED, STEP_RUNNING, STEP_ZOMBIE, STEP_ENDED };

/* Why a running job was asked to stop. */
enum job_ending { ENDING_NO, ENDING_STOP_STRING, ENDING_ERROR };

struct job {
        struct job *next;
        struct worker *w;
        const struct job_events *events; /* NULL: abandoned */
        void *userdata;
        struct job_spec spec;
        char model_name[WIRE_NAME_MAX];
        const struct model *model;
        uint64_t ref, id;
        enum job_step step;
        enum job_ending ending;
        uint64_t deadline;               /* 0: none */

        struct tokens prompt;            /* until the generation takes it */
        uint64_t tokens_in, tokens_wanted;
        struct constraint *constraint;   /* until the generation takes it */
        struct generation *generation;
        struct summarize *summarize;
        struct tokens *inputs;           /* embed: [messages.n], until it takes them */
        struct embed *embed;
        bool paused, held;               /* by its reader; by interactive work */
        bool busy;                       /* the summary has more to do at once */
        struct stop_filter stop;
        struct secure_buf out;           /* one text event on its way */
        struct job_progress progress;
        bool progress_new;
        uint64_t progress_sent;
        struct job_result result;
};

void job_spec_done(struct job_spec *s) {
        params_done(&s->params);
        messages_done(&s->messages);
        secure_buf_done(&s->text);
        secure_free(s->context);
        explicit_bzero(s, sizeof(*s));
}

static void job_free(struct job *j) {
        if (j->inputs)
                embed_inputs_free(j->inputs, j->spec.messages.n);
        tokens_done(&j->prompt);
        constraint_free(j->constraint);
        stop_filter_done(&j->stop);
        secure_buf_done(&j->out);
        job_spec_done(&j->spec);
        if (j->model)
                models_release(j->w->models, j->model);
        free(j);
}

int job_start(struct worker *w, struct job_spec *spec, const struct job_events *events,
              void *userdata, struct job **ret) {
        struct job *j = calloc(1, sizeof(*j));

        if (!j)
                return -ENOMEM;
        j->w = w;
        j->events = events;
        j->userdata = userdata;
        j->spec = *spec;
        *spec = (struct job_spec){};
        j->ref = j->spec.ref ? j->spec.ref : (++w->next_ref | WIRE_REF_WORKER);
        j->id = j->spec.ref;
        j->result.kv_kept = GENERATION_KEPT_UNKNOWN;
        j->stop.list = &j->spec.params.stops;
        j->progress.state = WIRE_STATE_LOADING;
        if (j->spec.params.deadline_usec)
                j->deadline = w->now + j->spec.params.deadline_usec;
        j->next = w->jobs;
        w->jobs = j;
        *ret = j;
        return 0;
}

uint64_t job_id(const struct job *j) {
        return j->id;
}

const struct job_progress *job_progress(const struct job *j) {
        return &j->progress;
}

const char *job_model_name(const struct job *j) {
        return j->model_name;
}

const struct vocab *job_vocab(const struct job *j) {
        return j->model ? j->model->vocab : NULL;
}

static void send_done(struct job *j) {
        const struct job_result *r = &j->result;
        const struct coverage *c = &r->coverage;
        bool summary = j->spec.verb == WIRE_VERB_SUMMARIZE;
        bool failed = r->error.code != ERROR_NONE;
        union wire_message m = { .done = {
                .h.type = WIRE_DONE,
                .job = j->id,
                .error = r->error.code,
                .finish = r->length,
                .pieces = c->pieces,
                .rounds = c->rounds,
                .tokens_in = r->tokens_in,
                .tokens_out = r->tokens_out,
                .bytes_in = j->spec.input_bytes,
                .bytes_covered = summary ? c->bytes - c->dropped
                                         : failed ? 0 : j->spec.input_bytes,
                .value = r->error.value,
                .limit = r->error.limit,
                .tokens_cached = r->tokens_cached,
        } };

        link_send(j->w->link, &m);
}

/* Nothing runs any more; j->result is final. */
static void finish(struct job *j) {
        const struct job_events *events = TAKE_PTR(j->events);
        bool unanswered = j->step == STEP_ADMIT && j->id == 0;

        if (j->step >= STEP_ZOMBIE)
                return;
        j->step = unanswered ? STEP_ZOMBIE : STEP_ENDED;
        if (j->spec.session)
                session_end_turn(j->w, j->spec.session, &j->result);
        if (!unanswered && j->id != 0)
                send_done(j);
        if (events)
                events->end(j->userdata, &j->result);
}

static void fail(struct job *j, const struct request_error *e) {
        j->result.error = *e;
        finish(j);
}

static void fail_code(struct job *j, enum error_code code) {
        struct request_error e = { .code = code };

        fail(j, &e);
}

void job_cancel(struct job *j, enum error_code reason) {
        if (j->step >= STEP_ZOMBIE || j->ending == ENDING_ERROR)
                return;
        if (!j->generation && !j->summarize && !j->embed) {
                fail_code(j, reason);
                return;
        }
        j->ending = ENDING_ERROR;
        j->result.error = (struct request_error){ .code = reason };
        if (j->generation)
                scheduler_cancel(j->w->scheduler, j->generation);
        else if (j->embed)
                embed_cancel(j->embed);
        else
                summarize_cancel(j->summarize);
}

void job_abandon(struct job *j) {
        j->events = NULL;
        job_cancel(j, ERROR_CANCELLED);
}

void job_pause(struct job *j, bool pause) {
        if (j->paused == pause)
                return;
        j->paused = pause;
        j->progress_new = true;
        if (j->generation)
                scheduler_pause(j->w->scheduler, j->generation, pause);
        else if (j->summarize)
                summarize_pause(j->summarize, pause);
}

/* --- counting and admission --- */

/* A length that was asked for is made possible or refused, never cut. */
static int check_max_tokens(const struct job *j, struct request_error *e) {
        uint32_t wanted = j->spec.params.max_tokens, limit = j->w->limits.max_output_tokens;

        if (limit == 0 || wanted <= limit)
                return 0;
        return request_fail_range(e, ERROR_INVALID_INPUT, "max_tokens",
                                  "So many tokens of answer are not allowed.", wanted, limit);
}

/* 0, -EBADMSG with *e, or another negative errno. */
static int count_prompt(struct job *j, struct request_error *e) {
        uint32_t n_ctx = scheduler_max_tokens(j->w->scheduler, j->model);
        uint64_t wanted = j->spec.params.max_tokens ? j->spec.params.max_tokens
                                                    : default_max_tokens(j->spec.verb);
        int r = prompt_encode(j->model, &j->spec, n_ctx, &j->prompt, e);

        if (r < 0)
                return r;
        if (j->prompt.n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "prompt", "The prompt is empty.");
        if (j->w->limits.max_output_tokens)
                wanted = MIN(wanted, (uint64_t)j->w->limits.max_output_tokens);
        j->tokens_wanted = MIN(wanted, (uint64_t)(n_ctx - j->prompt.n));
        j->tokens_in = j->prompt.n;
        return 0;
}

/* As asked for, or by type and length; never more than the limit of this worker. */
static uint32_t summary_max_tokens(const struct job *j) {
        uint32_t n = j->spec.params.max_tokens, limit = j->w->limits.max_output_tokens;

        if (n == 0)
                n = summary_tokens(j->spec.type, j->spec.length);
        return limit ? MIN(n, limit) : n;
}

/* Whose kept keys a job may use: 0 would be nobody's. A session shares with nobody, so that all of
 * it can be wiped. */
static uint64_t owner_of(const struct job *j) {
        return j->spec.session ? session_owner(j->spec.session) : (uint64_t)j->w->uid + 1;
}

/* So many jobs of one client do not beat one of another: a connection, or a name on the bus. */
static uint64_t client_of(const struct job *j) {
        return j->spec.conn ? j->spec.conn : j->spec.client;
}

static struct summarize_request summary_request(struct job *j) {
        return (struct summarize_request){
                .scheduler = j->w->scheduler,
                .model = j->model,
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

static int count_only(struct job *j, struct request_error *e) {
        j->result.context = scheduler_max_tokens(j->w->scheduler, j->model);
        return prompt_count(j->model, &j->spec, (uint32_t)j->result.context,
                            &j->result.tokens_in, e);
}

static int count_tokens(struct job *j, struct request_error *e) {
        struct summarize_request summary;
        int r = j->spec.count ? count_only(j, e) : check_max_tokens(j, e);

        if (r < 0 || j->spec.count)
                return r;
        if (j->spec.verb == WIRE_VERB_EMBED)
                return prompt_inputs(j->model, &j->spec,
                                     scheduler_max_tokens(j->w->scheduler, j->model), &j->inputs,
                                     &j->tokens_in, e);
        if (j->spec.verb != WIRE_VERB_SUMMARIZE)
                return count_prompt(j, e);
        summary = summary_request(j);
        summarize_estimate(&summary, &j->tokens_in, &j->tokens_wanted);
        return 0;
}

/* What the answer must be meets the vocabulary that has to write it. */
static int make_constraint(struct job *j, struct request_error *e) {
        const struct token_trie *trie;
        int r;

        if (!j->spec.params.grammar || j->spec.count)
                return 0;
        r = models_trie(j->w->models, j->model, &trie);
        if (r >= 0)
                r = constraint_new(&j->constraint, j->spec.params.grammar, trie,
                                   j->model->hp.n_vocab);
        if (r >= 0)
                j->spec.params.grammar = NULL;
        if (r == -EDOM)
                return request_fail(e, ERROR_UNSUPPORTED, "response_format",
                                    "The vocabulary of this model lacks characters that the answer "
                                    "must have.");
        return r;
}

static void ask_admission(struct job *j) {
        struct request_error e = {};
        union wire_message m = { .admit.h.type = WIRE_ADMIT };
        int r = prompt_check_kind(j->model, &j->spec, &e);

        if (r >= 0)
                r = make_constraint(j, &e);
        if (r >= 0)
                r = count_tokens(j, &e);
        if (r < 0) {
                if (r != -EBADMSG)
                        e.code = r == -ENOMEM ? ERROR_OVERLOADED : ERROR_FAILED;
                fail(j, &e);
                return;
        }
        if (j->spec.count && !j->spec.conn) {
                finish(j);
                return;
        }
        m.admit.ref = j->ref;
        m.admit.conn = j->spec.conn;
        memcpy(m.admit.model, j->model_name, sizeof(m.admit.model));
        m.admit.verb = j->spec.verb;
        m.admit.priority = j->spec.params.priority;
        m.admit.input_bytes = j->spec.input_bytes;
        m.admit.tokens_in = j->tokens_in;
        m.admit.tokens_wanted = j->tokens_wanted;
        m.admit.count = j->spec.count;
        j->step = STEP_ADMIT;
        j->progress.state = WIRE_STATE_QUEUED;
        j->progress.tokens_in = j->tokens_in;
        if (link_send(j->w->link, &m) < 0)
                fail_code(j, ERROR_OVERLOADED);
}

static void get_model(struct job *j) {
        struct request_error e = {};
        int r = models_get(j->w->models, j->spec.model, &j->model, j->model_name, &e);

        if (r < 0)
                fail(j, &e);
        else if (r == 0) {
                models_hold(j->w->models, j->model);
                models_keep(j->w->models, j->model, &j->spec.params.keep);
                ask_admission(j);
        }
}

bool job_progress_due(struct job_pace *pace, const struct job_progress *p, uint64_t now) {
        if (pace->stage == p->stage && pace->piece == p->piece &&
            now - pace->told < TELL_INTERVAL)
                return false;
        *pace = (struct job_pace){ .stage = p->stage, .piece = p->piece, .told = now };
        return true;
}

/* --- running --- */

static void report(struct job *j) {
        j->progress_new = true;
        if (j->events && j->events->progress)
                j->events->progress(j->userdata, &j->progress);
}

static void give_text(struct job *j) {
        if (j->out.n > 0 && j->spec.session)
                session_text(j->w, j->spec.session, j->out.p, j->out.n);
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
        report(j);
}

static void on_held(void *userdata, bool held) {
        struct job *j = userdata;

        j->held = held;
        report(j);
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
        finish(j);
}

static void start_generation(struct job *j) {
        struct generation_request r = {
                .model = j->model,
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
                fail_code(j, e == -E2BIG ? ERROR_CONTEXT_TOO_LONG : ERROR_OVERLOADED);
                return;
        }
        j->prompt = (struct tokens){};
        j->constraint = NULL;
        messages_done(&j->spec.messages); /* the tokens carry the text from here on */
        secure_buf_done(&j->spec.text);
        if (j->paused)
                scheduler_pause(j->w->scheduler, j->generation, true);
}

static void on_summary_progress(void *userdata, const char *stage, uint32_t piece,
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
        report(j);
}

static void on_summary_text(void *userdata, const char *text, size_t n) {
        struct job *j = userdata;

        if (j->ending == ENDING_NO && j->events)
                j->events->text(j->userdata, text, n);
}

static void on_summary_end(void *userdata, int error, const struct coverage *coverage,
                           const struct summarize_usage *usage) {
        struct job *j = userdata;

        j->summarize = NULL;
        j->result.coverage = *coverage;
        j->result.length = coverage->cut;
        j->result.tokens_in = usage->in;
        j->result.tokens_out = usage->out;
        j->result.tokens_cached = usage->cached;
        if (j->ending == ENDING_NO && error != 0)
                j->result.error.code = (enum error_code)error;
        finish(j);
}

static void start_summary(struct job *j) {
        struct summarize_request r = summary_request(j);
        int e;

        r.progress = on_summary_progress;
        r.held = on_held;
        r.text = on_summary_text;
        r.end = on_summary_end;
        e = summarize_start(&j->summarize, &r);
        if (e < 0) {
                fail_code(j, e == -E2BIG ? ERROR_CONTEXT_TOO_LONG : ERROR_OVERLOADED);
                return;
        }
        j->spec.text = (struct secure_buf){};
        j->spec.context = NULL;
        if (j->paused)
                summarize_pause(j->summarize, true);
}

static void on_embed_progress(void *userdata, uint64_t tokens_read) {
        struct job *j = userdata;

        j->progress.tokens_read = tokens_read;
        report(j);
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
        finish(j);
}

static void start_embedding(struct job *j) {
        struct embed_request r = {
                .scheduler = j->w->scheduler,
                .model = j->model,
                .inputs = j->inputs,
                .n = j->spec.messages.n,
                .background = j->spec.params.priority == WIRE_PRIORITY_BACKGROUND,
                .progress = on_embed_progress,
                .end = on_embed_end,
                .userdata = j,
        };

        if (embed_start(&j->embed, &r) < 0)
                fail_code(j, ERROR_OVERLOADED);
        else
                j->inputs = NULL;
}

/* --- the broker's answers --- */

static struct job *find_ref(struct worker *w, uint64_t ref) {
        for (struct job *j = w->jobs; j; j = j->next)
                if (j->ref == ref && j->step != STEP_ENDED)
                        return j;
        return NULL;
}

static bool bury(struct job *j) {
        if (j->step != STEP_ZOMBIE)
                return false;
        send_done(j);
        j->step = STEP_ENDED;
        return true;
}

void jobs_queued(struct worker *w, const struct wire_queued *m) {
        struct job *j = find_ref(w, m->ref);

        if (!j || (j->step != STEP_ADMIT && j->step != STEP_QUEUED && j->step != STEP_ZOMBIE))
                return;
        j->id = m->job;
        if (bury(j))
                return;
        j->step = STEP_QUEUED;
        j->progress.position = m->position;
        j->progress.tokens_ahead = m->tokens_ahead;
        j->progress.starts_at = m->wait_usec ? w->now + m->wait_usec : 0;
        report(j);
}

void jobs_admitted(struct worker *w, const struct wire_admitted *m) {
        struct job *j = find_ref(w, m->ref);

        if (!j || j->step == STEP_NEW || j->step == STEP_RUNNING)
                return;
        j->id = m->job;
        if (bury(j))
                return;
        j->step = STEP_RUNNING;
        j->progress.state = WIRE_STATE_PREFILL;
        report(j);
        if (j->events && j->events->admitted)
                j->events->admitted(j->userdata);
        if (j->step != STEP_RUNNING)
                return;
        if (j->spec.verb == WIRE_VERB_SUMMARIZE)
                start_summary(j);
        else if (j->spec.verb == WIRE_VERB_EMBED)
                start_embedding(j);
        else
                start_generation(j);
}

void jobs_refused(struct worker *w, const struct wire_refused *m) {
        struct job *j = find_ref(w, m->ref);
        struct request_error e = { .code = (enum error_code)m->error,
                                   .value = m->value,
                                   .limit = m->limit,
                                   .retry_after_ms = m->retry_after_ms,
                                   .by_broker = true };

        if (!j || j->step == STEP_NEW || j->step == STEP_RUNNING)
                return;
        if (j->step == STEP_ZOMBIE)
                j->step = STEP_ENDED;
        else if (j->spec.ref == 0 && j->step == STEP_ADMIT)
                j->step = STEP_NEW; /* the broker never gave it an id: it wants no DONE */
        if (j->step != STEP_ENDED)
                fail(j, &e);
}

void jobs_passed(struct worker *w, const struct wire_passed *m) {
        struct job *j = find_ref(w, m->ref);

        if (!j || !j->spec.count || (j->step != STEP_ADMIT && j->step != STEP_ZOMBIE))
                return;
        if (j->step == STEP_ADMIT) {
                j->step = STEP_NEW; /* nothing more comes of it */
                finish(j);
        }
        j->step = STEP_ENDED;
}

void jobs_cancel(struct worker *w, const struct wire_cancel *m) {
        for (struct job *j = w->jobs; j; j = j->next)
                if (j->id == m->job && j->step < STEP_ZOMBIE) {
                        job_cancel(j, m->reason == ERROR_NONE ? ERROR_CANCELLED
                                                              : (enum error_code)m->reason);
                        return;
                }
}

void jobs_set_priority(struct worker *w, const struct wire_set_priority *m) {
        for (struct job *j = w->jobs; j; j = j->next)
                if (j->id == m->job && j->step < STEP_ZOMBIE) {
                        bool background = m->priority == WIRE_PRIORITY_BACKGROUND;

                        j->spec.params.priority = m->priority;
                        if (j->generation)
                                scheduler_set_background(w->scheduler, j->generation, background);
                        if (j->summarize)
                                summarize_set_background(j->summarize, background);
                        if (j->embed)
                                embed_set_background(j->embed, background);
                        return;
                }
}

/* --- the loop --- */

static void send_progress(struct job *j) {
        union wire_message m = { .progress = {
                .h.type = WIRE_PROGRESS,
                .job = j->id,
                .state = j->paused || j->held ? (uint32_t)WIRE_STATE_PAUSED
                                              : j->progress.state,
                .pieces = j->progress.pieces,
                .pieces_done = j->progress.piece,
                .tokens_in = j->tokens_in,
                .tokens_read = j->progress.tokens_read,
                .tokens_out = j->progress.tokens_out,
                .bytes_in = j->spec.input_bytes,
        } };

        if (!j->progress_new || j->id == 0 || j->step >= STEP_ZOMBIE ||
            j->w->now - j->progress_sent < PROGRESS_INTERVAL)
                return;
        j->progress_new = false;
        j->progress_sent = j->w->now;
        link_send(j->w->link, &m);
}

void jobs_poll(struct worker *w, struct poller *p) {
        for (struct job *j = w->jobs; j; j = j->next) {
                poller_deadline(p, j->step < STEP_ZOMBIE ? j->deadline : 0);
                if (j->step == STEP_ENDED)
                        poller_deadline(p, w->now);
                if (j->progress_new && j->id != 0 && j->step < STEP_ZOMBIE)
                        poller_deadline(p, j->progress_sent + PROGRESS_INTERVAL);
                if (j->busy)
                        poller_deadline(p, w->now);
        }
}

static void advance(struct job *j) {
        if (j->deadline != 0 && j->w->now >= j->deadline && j->step < STEP_ZOMBIE) {
                j->deadline = 0;
                job_cancel(j, ERROR_DEADLINE);
        }
        if (j->step == STEP_NEW)
                get_model(j);
        j->busy = j->summarize && summarize_run(j->summarize);
        send_progress(j);
}

void jobs_run(struct worker *w) {
        struct job **p;

        for (struct job *j = w->jobs; j; j = j->next)
                advance(j);
        for (p = &w->jobs; *p;) {
                struct job *j = *p;

                if (j->step != STEP_ENDED) {
                        p = &j->next;
                        continue;
                }
                *p = j->next;
                job_free(j);
        }
}
