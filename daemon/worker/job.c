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
#include "daemon/worker/job_internal.h"
#include "daemon/worker/link.h"
#include "daemon/worker/models.h"
#include "daemon/worker/prompt.h"
#include "daemon/worker/receipt.h"
#include "daemon/worker/scheduler.h"
#include "daemon/worker/session.h"
#include "daemon/worker/user.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"
#include "policy/quota.h"

static const uint64_t PROGRESS_INTERVAL = 200 * USEC_PER_MSEC; /* to the broker */
static const uint64_t TELL_INTERVAL = 500 * USEC_PER_MSEC;     /* to a client */

void job_spec_done(struct job_spec *s) {
        params_done(&s->params);
        messages_done(&s->messages);
        secure_buf_done(&s->text);
        secure_free(s->context);
        task_options_done(&s->task);
        explicit_bzero(s, sizeof(*s));
}

static void job_free(struct job *j) {
        if (j->inputs)
                embed_inputs_free(j->inputs, j->spec.messages.n);
        tokens_done(&j->prompt);
        constraint_free(j->constraint);
        stop_filter_done(&j->stop);
        secure_buf_done(&j->out);
        receipt_free(j->receipt);
        user_unref(j->spec.user);
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
        if (spec->params.receipt && receipt_new(&j->receipt, spec) < 0) {
                free(j);
                return -ENOMEM;
        }
        j->w = w;
        j->events = events;
        j->userdata = userdata;
        j->spec = *spec;
        *spec = (struct job_spec){};
        user_ref(j->spec.user);
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
        bool pieces = j->spec.verb == WIRE_VERB_SUMMARIZE || task_rewrites(j->spec.verb);
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
                .bytes_covered = pieces ? c->bytes - c->dropped
                                        : failed ? 0 : j->spec.input_bytes,
                .value = r->error.value,
                .limit = r->error.limit,
                .tokens_cached = r->tokens_cached,
        } };

        link_send(j->w->link, &m);
}

/* Nothing runs any more; j->result is final. */
void job_finish(struct job *j) {
        const struct job_events *events = TAKE_PTR(j->events);
        bool unanswered = j->step == STEP_ADMIT && j->id == 0;
        struct request_error e;

        if (j->step >= STEP_ZOMBIE)
                return;
        if (events && events->result && j->result.error.code == ERROR_NONE &&
            !events->result(j->userdata, &j->result, &e))
                j->result.error = e;
        j->step = unanswered ? STEP_ZOMBIE : STEP_ENDED;
        if (j->spec.session)
                session_end_turn(j->w, j->spec.session, &j->result);
        if (!unanswered && j->id != 0)
                send_done(j);
        if (j->receipt && j->result.error.code == ERROR_NONE)
                j->result.receipt = receipt_json(j->receipt, j->w, &j->spec, j->model_name,
                                                 job_max_tokens(j), &j->result);
        if (events)
                events->end(j->userdata, &j->result);
        json_decref(TAKE_PTR(j->result.receipt));
}

static void fail(struct job *j, const struct request_error *e) {
        j->result.error = *e;
        job_finish(j);
}

void job_fail(struct job *j, enum error_code code) {
        struct request_error e = { .code = code };

        fail(j, &e);
}

void job_cancel_with(struct job *j, const struct request_error *e) {
        if (j->step >= STEP_ZOMBIE || j->ending == ENDING_ERROR)
                return;
        if (!j->generation && !j->summarize && !j->embed && !j->task) {
                fail(j, e);
                return;
        }
        j->ending = ENDING_ERROR;
        j->result.error = *e;
        if (j->generation)
                scheduler_cancel(j->w->scheduler, j->generation);
        else if (j->embed)
                embed_cancel(j->embed);
        else if (j->task)
                task_cancel(j->task);
        else
                summarize_cancel(j->summarize);
}

void job_cancel(struct job *j, enum error_code reason) {
        struct request_error e = { .code = reason };

        job_cancel_with(j, &e);
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
        else if (j->task)
                task_pause(j->task, pause);
}

/* --- counting and admission --- */

/* A length that was asked for is made possible or refused, never cut. */
static int check_max_tokens(const struct job *j, struct request_error *e) {
        uint32_t wanted = j->spec.params.max_tokens, limit = j->spec.user->limits.max_output_tokens;

        if (limit == 0 || wanted <= limit)
                return 0;
        return request_fail_range(e, ERROR_INVALID_INPUT, "max_tokens",
                                  "So many tokens of answer are not allowed.", wanted, limit);
}

/* Prompt and answer together. */
static uint32_t most_tokens(const struct job *j) {
        struct scheduler_user user = user_for_scheduler(j->spec.user);

        return scheduler_max_tokens(j->w->scheduler, j->model, &user);
}

/* 0, -EBADMSG with *e, or another negative errno. */
static int count_prompt(struct job *j, struct request_error *e) {
        uint32_t n_ctx = most_tokens(j), limit = j->spec.user->limits.max_output_tokens;
        uint64_t wanted = j->spec.params.max_tokens ? j->spec.params.max_tokens
                                                    : default_max_tokens(j->spec.verb);
        int r = prompt_encode(j->model, &j->spec, n_ctx, &j->prompt, e);

        if (r < 0)
                return r;
        if (j->prompt.n == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "prompt", "The prompt is empty.");
        if (limit)
                wanted = MIN(wanted, (uint64_t)limit);
        j->tokens_wanted = MIN(wanted, (uint64_t)(n_ctx - j->prompt.n));
        j->tokens_in = j->prompt.n;
        return 0;
}

/* The prompt and each label must fit together. */
static int count_labels(struct job *j, struct request_error *e) {
        uint32_t n_ctx = most_tokens(j);
        size_t longest = 0, n = j->spec.task.labels.n;
        int r = prompt_encode(j->model, &j->spec, n_ctx, &j->prompt, e);

        for (size_t i = 0; i < n && r >= 0; i++) {
                const struct chat_message *label = &j->spec.task.labels.items[i];
                _cleanup_(tokens_done) struct tokens t = {0};

                r = task_label_tokens(j->model->vocab, label->content, label->n, &t);
                longest = MAX(longest, t.n);
                j->tokens_wanted += t.n;
        }
        if (r < 0)
                return r;
        /* labels after the first one find the prompt kept */
        j->tokens_in = quota_cost(n * j->prompt.n, (n - 1) * j->prompt.n, 0);
        if (j->prompt.n + longest <= n_ctx)
                return 0;
        return request_fail_range(e, ERROR_CONTEXT_TOO_LONG, "text", NULL, j->prompt.n + longest,
                                  n_ctx);
}

static int count_only(struct job *j, struct request_error *e) {
        j->result.context = most_tokens(j);
        return prompt_count(j->model, &j->spec, (uint32_t)j->result.context,
                            &j->result.tokens_in, e);
}

static int count_tokens(struct job *j, struct request_error *e) {
        struct summarize_request summary;
        struct task_request task;
        int r = j->spec.count ? count_only(j, e) : check_max_tokens(j, e);

        if (r < 0 || j->spec.count)
                return r;
        if (j->spec.verb == WIRE_VERB_EMBED)
                return prompt_inputs(j->model, &j->spec, most_tokens(j), &j->inputs,
                                     &j->tokens_in, e);
        if (j->spec.verb == WIRE_VERB_CLASSIFY)
                return count_labels(j, e);
        if (j->spec.verb == WIRE_VERB_SUMMARIZE) {
                summary = job_summary_request(j);
                summarize_estimate(&summary, &j->tokens_in, &j->tokens_wanted);
        } else if (task_rewrites(j->spec.verb)) {
                task = job_task_request(j);
                task_estimate(&task, &j->tokens_in, &j->tokens_wanted);
        } else {
                return count_prompt(j, e);
        }
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

        if (r >= 0 && j->receipt && !receipt_possible(j->spec.verb))
                r = request_fail(&e, ERROR_UNSUPPORTED, "bn.receipt",
                                 "Receipts are for chats, completions and summaries.");
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
                job_finish(j);
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
                job_fail(j, ERROR_OVERLOADED);
}

static void get_model(struct job *j) {
        struct request_error e = {};
        int r = models_get(j->w->models, j->spec.user, j->spec.model, &j->model, j->model_name,
                           &e);

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

void job_report(struct job *j) {
        j->progress_new = true;
        if (j->events && j->events->progress)
                j->events->progress(j->userdata, &j->progress);
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
        job_report(j);
}

void jobs_admitted(struct worker *w, const struct wire_admitted *m) {
        struct job *j = find_ref(w, m->ref);

        if (!j || j->step == STEP_NEW || j->step == STEP_RUNNING)
                return;
        j->id = m->job;
        if (bury(j))
                return;
        j->step = STEP_RUNNING;
        if (j->receipt)
                receipt_admitted(j->receipt, m);
        j->progress.state = WIRE_STATE_PREFILL;
        job_report(j);
        if (j->events && j->events->admitted)
                j->events->admitted(j->userdata);
        if (j->step != STEP_RUNNING)
                return;
        job_work(j);
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
                job_finish(j);
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
                        if (j->task)
                                task_set_background(j->task, background);
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
        j->busy = j->summarize ? summarize_run(j->summarize) : j->task && task_run(j->task);
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
