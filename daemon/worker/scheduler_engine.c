/* The engine thread: end what was cancelled, admit what fits, plan a step, run it, hand out what it
 * gave, and again; asleep when there is nothing to do or no lease. Invariant: it computes only
 * under a lease, and starts no step that will not end within it, except that the first step under
 * a grant may start in any case (otherwise a slow machine would never get anywhere). */
#include <errno.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"

#define ODDS_WEIGHT 0.125
#define LANE_ODDS_WEIGHT 0.015625

/* Lock held, and given up for a while: wiping many pages takes time. Nobody else frees g. */
static void retire(struct scheduler *s, struct generation *g, enum finish finish) {
        struct sampler *sampler = TAKE_PTR(g->sampler);
        struct sequence *sequence = TAKE_PTR(g->sequence);
        struct constraint *constraint = TAKE_PTR(g->request.constraint);
        uint64_t kept = 0;

        TAILQ_REMOVE(&g->lane->running, g, in_stage);
        s->n_running--;
        s->n_background -= g->request.background;
        pthread_mutex_unlock(&s->lock);
        sequence_free(sequence);
        sampler_free(sampler);
        constraint_free(constraint);
        embed_end(g);
        tokens_done(&g->request.prompt);
        if (g->request.owner & ENGINE_OWNER_LASTING)
                kept = engine_kept(g->lane->engine, g->request.owner);
        pthread_mutex_lock(&s->lock);
        g->usage.kept = kept;
        if (secure_buf_reserve(&g->text, sizeof(g->utf8.pending)))
                g->text.n += utf8_stream_end(&g->utf8, g->text.p + g->text.n);
        g->finish = g->text.failed ? FINISH_FAILED : finish;
        g->stage = STAGE_ENDED;
        mailbox_mark(s, g);
}

static struct generation *find_cancelled(struct scheduler *s) {
        struct generation *g;

        for (size_t i = 0; i < s->n_lanes; i++)
                TAILQ_FOREACH(g, &s->lanes[i]->running, in_stage)
                        if (g->cancel)
                                return g;
        return NULL;
}

/* The tokens that a repetition penalty has to know. */
static void accept_prompt(struct generation *g) {
        const struct tokens *t = &g->request.prompt;
        size_t n = MIN(t->n, (size_t)g->request.sampling.repeat_last);

        for (size_t i = t->n - n; i < t->n; i++)
                sampler_accept(g->sampler, t->ids[i]);
}

static int begin_sequence(struct generation *g) {
        size_t n = (size_t)g->prompt_n + g->request.max_tokens;
        int r;

        r = g->request.owner == 0 || makes_vector(g)
                    ? sequence_new(&g->sequence, g->lane->engine, n)
                    : sequence_resume(&g->sequence, g->lane->engine, g->request.owner,
                                      g->request.prompt.ids, g->prompt_n, n);
        if (r >= 0 && makes_vector(g))
                r = embed_begin(g);
        else if (r >= 0)
                r = sampler_new(&g->sampler, g->lane->model->hp.n_vocab, &g->request.sampling);
        if (r < 0)
                return r;
        g->read = (uint32_t)sequence_length(g->sequence);
        g->odds = g->lane->odds;
        if (g->sampler)
                accept_prompt(g);
        return 0;
}

/* Lock held, and given up for a while: pages that were kept for reuse are wiped first. False: wait
 * until others give pages back. */
static bool admit(struct scheduler *s, struct generation *g) {
        const struct engine *e = g->lane->engine;
        int r;

        if (generation_kv_bytes(g) > engine_kv_free(e))
                return false;
        TAILQ_REMOVE(&s->waiting[class_of_generation(g)], g, in_stage);
        TAILQ_INSERT_TAIL(&g->lane->running, g, in_stage);
        g->stage = STAGE_RUNNING;
        s->n_running++;
        s->n_background += g->request.background;
        pthread_mutex_unlock(&s->lock);
        r = begin_sequence(g);
        pthread_mutex_lock(&s->lock);
        if (r < 0)
                retire(s, g, FINISH_FAILED);
        else
                g->usage.cached = g->read;
        return true;
}

static void admit_waiting(struct scheduler *s) {
        struct generation *g;

        while ((g = order_waiting(s)) && admit(s, g))
                ;
}

/* Lock held: the engines are this thread's, and no step runs. */
static void drop_caches(struct scheduler *s) {
        for (size_t i = 0; i < s->n_lanes; i++) {
                if (s->drop) {
                        engine_drop_prefixes(s->lanes[i]->engine);
                        engine_trim(s->lanes[i]->engine);
                }
                for (unsigned k = 0; k < s->n_forget; k++)
                        engine_forget(s->lanes[i]->engine, s->forget[k]);
        }
        s->drop = false;
        s->n_forget = 0;
}

/* Lock held: what the main thread may be asked for. */
static void look_at_memory(struct scheduler *s) {
        for (size_t i = 0; i < s->n_lanes; i++)
                s->lanes[i]->memory = engine_memory(s->lanes[i]->engine);
}

static void publish(struct scheduler *s, struct scheduler_state state) {
        bool changed = state.has_work != s->state.has_work ||
                       state.computing != s->state.computing || state.renew != s->state.renew ||
                       state.until_usec != s->state.until_usec;

        s->state = state;
        if (changed)
                scheduler_signal(s);
}

/* Lock held. Tell the main thread where we are; true when *ret is a step to be run now. */
static bool next_step(struct scheduler *s, struct plan *ret) {
        uint64_t now = scheduler_now(), left = s->until > now ? s->until - now : 0;
        bool work, step;

        step = plan_step(s, left, s->fresh && left > 0, ret, &work) && left > 0;
        if (!step)
                s->until = s->half = 0;
        publish(s, (struct scheduler_state){
                           .has_work = work,
                           .computing = step,
                           .renew = step && now + (uint64_t)ret->expected_usec >= s->half,
                           .until_usec = s->until,
                   });
        return step;
}

/* Put the bytes of a token into the mailbox, whole characters only. */
static void say(struct generation *g, int32_t token) {
        struct view v = vocab_bytes(g->lane->model->vocab, token, false);
        char *to = secure_buf_reserve(&g->text, 3 * (v.n + sizeof(g->utf8.pending)));

        if (to)
                g->text.n += utf8_stream_feed(&g->utf8, v.p, v.n, to);
}

static bool is_end(const struct generation *g, int32_t token) {
        return vocab_is_end(g->lane->model->vocab, token) && !g->request.ignore_end &&
               g->request.forced.n == 0;
}

/* A token was made (or none could be). Lock held. True when the generation has ended. */
static bool take_token(struct generation *g, int32_t token, bool last, enum finish *ret) {
        if (token == TOKEN_NONE || is_end(g, token)) {
                *ret = token == TOKEN_NONE ? FINISH_FAILED : FINISH_STOP;
                return true;
        }
        g->token = token;
        g->out++;
        say(g, token);
        *ret = g->text.failed ? FINISH_FAILED : last ? FINISH_STOP : FINISH_LENGTH;
        return g->text.failed || last || g->out == g->request.max_tokens;
}

/* The token at this place of the answer, within the constraint if there is one. *ret_last: the
 * answer ends with it. TOKEN_NONE: there is no memory. */
static int32_t next_token(struct generation *g, uint32_t place, const float *logits,
                          bool *ret_last) {
        struct constraint *c = g->request.constraint;
        const uint64_t *mask = NULL;
        int32_t token;

        *ret_last = false;
        if (g->request.forced.n > 0)
                return g->request.forced.ids[place];
        if (!c)
                return sampler_next(g->sampler, logits);
        if (constraint_mask(c, &mask) < 0)
                return TOKEN_NONE;
        token = sampler_next_of(g->sampler, logits, mask);
        if (token == TOKEN_NONE || constraint_accept(c, token) < 0)
                return TOKEN_NONE;
        *ret_last = constraint_over(c);
        return token;
}

/* Before the next step changes the logits. */
static void note_odds(struct generation *g, const float *logits, int32_t token) {
        const struct generation_request *r = &g->request;
        size_t n = odds_bytes(r);
        char *to;

        if (!r->odds || token == TOKEN_NONE || is_end(g, token))
                return;
        to = secure_buf_reserve(&g->fresh, n);
        if (!to)
                return;
        sampler_odds(logits, g->lane->model->hp.n_vocab, token, r->n_top,
                     (struct token_odds *)(void *)to);
        g->fresh.n += n;
}

/* The tokens of one generation's step into made[]: the next one, and as long as it is what was
 * guessed, the one after it, whose logits are there, too. The sampler sees what it would have seen
 * without guesses, so it chooses the same. Returns how many. */
static uint32_t sample(struct generation *g, const float **logits, uint32_t n, int32_t *made,
                       bool *ret_last) {
        uint32_t n_made = 0, left = g->request.max_tokens - g->out;

        do {
                made[n_made] = next_token(g, g->out + n_made, logits[n_made], ret_last);
                note_odds(g, logits[n_made], made[n_made]);
                n_made++;
        } while (n_made < n && n_made < left && made[n_made - 1] == g->guess.ids[n_made - 1] &&
                 !is_end(g, made[n_made - 1]) && !*ret_last);
        return n_made;
}

/* Guesses that were wrong are forgotten (never refused: what is shared is older than the step), and
 * what was right or wrong is counted. */
static void settle_guess(struct generation *g, uint32_t rows, const int32_t *made, uint32_t n) {
        (void)sequence_truncate(g->sequence, sequence_length(g->sequence) - (rows - n));
        guess_learn(&g->guess, &g->odds, made, n, ODDS_WEIGHT);
        guess_learn(&g->guess, &g->lane->odds, made, n, LANE_ODDS_WEIGHT);
}

/* One generation after its step; *logits: those not used yet. */
static void advance(struct scheduler *s, struct generation *g, const float ***logits) {
        bool decode = g->read == g->prompt_n, ended = false, last = false;
        uint32_t n_logits = decode ? g->rows : 1, n_made = 0;
        int32_t made[1 + GUESS_MOST];
        enum finish finish;

        if (!decode)
                g->read += g->rows;
        if (g->read == g->prompt_n) {
                n_made = sample(g, *logits, n_logits, made, &last);
                *logits += n_logits;
                if (decode)
                        settle_guess(g, n_logits, made, n_made);
        }
        sequence_share(g->sequence);
        pthread_mutex_lock(&s->lock);
        secure_buf_append(&g->records, g->fresh.p, g->fresh.n);
        secure_buf_consume(&g->fresh, g->fresh.n);
        g->text.failed |= g->records.failed || g->fresh.failed;
        for (uint32_t i = 0; i < n_made && !ended; i++)
                ended = take_token(g, made[i], last && i + 1 == n_made, &finish);
        g->seen_read = g->read;
        g->usage.out = g->out;
        if (decode) {
                g->usage.guessed += n_logits - 1;
                g->usage.right += n_made - 1;
        }
        g->progressed = true;
        if (ended)
                retire(s, g, finish);
        else
                mailbox_mark(s, g);
        pthread_mutex_unlock(&s->lock);
}

/* The same for one that makes a vector. */
static void advance_vector(struct scheduler *s, struct generation *g, const float ***states) {
        embed_rows(g, states);
        pthread_mutex_lock(&s->lock);
        g->seen_read = g->read;
        g->progressed = true;
        if (g->read == g->prompt_n) {
                g->records = g->fresh;
                g->fresh = (struct secure_buf){0};
                retire(s, g, g->records.failed ? FINISH_FAILED : FINISH_STOP);
        } else {
                mailbox_mark(s, g);
        }
        pthread_mutex_unlock(&s->lock);
}

/* Only this thread writes members and retires them, so it may read them without the lock. */
static void end_step(struct scheduler *s, int error, uint64_t usec) {
        const float **logits = s->logits;
        uint32_t n;

        pthread_mutex_lock(&s->lock);
        order_charge(s, usec);
        n = s->n_members;
        s->n_members = 0;
        pthread_mutex_unlock(&s->lock);
        if (error == -ECANCELED)
                return; /* as if it had not been: the cancelled ones are retired next */
        for (uint32_t i = 0; i < n; i++) {
                if (error == 0 && makes_vector(s->members[i])) {
                        advance_vector(s, s->members[i], &logits);
                        continue;
                }
                if (error == 0) {
                        advance(s, s->members[i], &logits);
                        continue;
                }
                pthread_mutex_lock(&s->lock);
                retire(s, s->members[i], FINISH_FAILED);
                pthread_mutex_unlock(&s->lock);
        }
}

static void run_step(struct scheduler *s, const struct plan *plan, size_t n) {
        uint64_t begin = scheduler_now(), usec;
        int r;

        r = engine_step(plan->lane->engine, s->rows, n, s->logits, &s->interrupt);
        usec = scheduler_now() - begin;
        if (r == 0)
                plan_measured(plan, usec);
        end_step(s, r, usec);
}

void *engine_thread(void *scheduler) {
        struct scheduler *s = scheduler;
        struct generation *g;
        struct plan plan;
        size_t n;

        pthread_mutex_lock(&s->lock);
        while (!s->quit) {
                s->look = false;
                while ((g = find_cancelled(s)))
                        retire(s, g, FINISH_CANCELLED);
                drop_caches(s);
                order_look(s);
                admit_waiting(s);
                if (s->look && !s->quit)
                        continue; /* the lock was given up meanwhile */
                if (!next_step(s, &plan)) {
                        look_at_memory(s);
                        while (!s->look)
                                pthread_cond_wait(&s->wake, &s->lock);
                        continue;
                }
                s->fresh = false;
                __atomic_store_n(&s->interrupt, 0, __ATOMIC_RELAXED);
                n = plan_rows(s, &plan);
                pthread_mutex_unlock(&s->lock);
                run_step(s, &plan, n);
                pthread_mutex_lock(&s->lock);
        }
        pthread_mutex_unlock(&s->lock);
        return NULL;
}
