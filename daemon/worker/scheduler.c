/* The main thread's side of the scheduler. Problem: results must reach the event loop without the
 * engine thread ever waiting for it, and a caller that does not read must not make memory grow.
 * Each generation has a mailbox that the engine thread fills and scheduler_dispatch empties; an
 * eventfd says that some mailbox is not empty. Invariant: a generation is freed on the main thread
 * only, after its stage became STAGE_ENDED, which the engine thread sets last. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"

uint64_t scheduler_now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

void scheduler_signal(struct scheduler *s) {
        uint64_t one = 1;

        /* Fails only when the counter is at its end, and then it is readable already. */
        (void)!write(s->event_fd, &one, sizeof(one));
}

void mailbox_mark(struct scheduler *s, struct generation *g) {
        if (g->dirty)
                return;
        g->dirty = true;
        TAILQ_INSERT_TAIL(&s->dirty, g, in_dirty);
        scheduler_signal(s);
}

/* Lock held. */
static void wake_engine(struct scheduler *s) {
        s->look = true;
        pthread_cond_signal(&s->wake);
}

/* A thread that libc still starts makes system calls that the sandbox, about to close, forbids. */
static bool not_looking_yet(struct scheduler *s) {
        bool look;

        pthread_mutex_lock(&s->lock);
        look = s->look;
        pthread_mutex_unlock(&s->lock);
        return look;
}

static int start_thread(struct scheduler *s) {
        sigset_t all, saved;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        s->look = true;
        r = pthread_create(&s->thread, NULL, engine_thread, s);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        s->thread_started = r == 0;
        while (r == 0 && not_looking_yet(s))
                sched_yield();
        return -r;
}

int scheduler_new(struct scheduler **ret, unsigned threads, unsigned cpu_flags,
                  uint32_t max_sequences) {
        struct scheduler *s;
        int r;

        if (max_sequences < 1 || max_sequences > SCHEDULER_MAX_SEQUENCES)
                return -EINVAL;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->wake, NULL);
        TAILQ_INIT(&s->waiting[TURN_INTERACTIVE]);
        TAILQ_INIT(&s->waiting[TURN_BACKGROUND]);
        TAILQ_INIT(&s->dirty);
        TAILQ_INIT(&s->all);
        s->max_sequences = max_sequences;
        s->turns.credit = (uint64_t)STEP_USEC * TURN_BACKGROUND_COST;
        s->guessing = GUESSING_WHERE_IT_PAYS;
        kernel_ops_init(&s->ops, cpu_flags);
        s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = s->event_fd < 0 ? -errno : pool_new(&s->pool, threads);
        if (r >= 0)
                r = start_thread(s);
        if (r < 0) {
                scheduler_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static void generation_free(struct scheduler *s, struct generation *g) {
        TAILQ_REMOVE(&s->all, g, in_all);
        pthread_mutex_lock(&s->lock);
        turns_leave(g->turn);
        pthread_mutex_unlock(&s->lock);
        sequence_free(g->sequence);
        sampler_free(g->sampler);
        constraint_free(g->request.constraint);
        tokens_done(&g->request.prompt);
        tokens_done(&g->request.forced);
        secure_buf_done(&g->text);
        secure_buf_done(&g->records);
        secure_buf_done(&g->fresh);
        embed_end(g);
        explicit_bzero(g, sizeof(*g));
        free(g);
}

static void stop_thread(struct scheduler *s) {
        if (!s->thread_started)
                return;
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        __atomic_store_n(&s->interrupt, 1, __ATOMIC_RELAXED);
        wake_engine(s);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
}

struct scheduler *scheduler_free(struct scheduler *s) {
        struct generation *g;

        if (!s)
                return NULL;
        stop_thread(s);
        while ((g = TAILQ_FIRST(&s->all)))
                generation_free(s, g);
        for (size_t i = 0; i < s->n_lanes; i++) {
                engine_free(s->lanes[i]->engine);
                free(s->lanes[i]);
        }
        free(s->lanes);
        pool_free(s->pool);
        if (s->event_fd >= 0)
                close(s->event_fd);
        pthread_cond_destroy(&s->wake);
        pthread_mutex_destroy(&s->lock);
        explicit_bzero(s->rows, sizeof(s->rows));
        free(s);
        return NULL;
}

void scheduler_set_max_sequences(struct scheduler *s, uint32_t max_sequences) {
        if (max_sequences < 1 || max_sequences > SCHEDULER_MAX_SEQUENCES)
                return;
        pthread_mutex_lock(&s->lock);
        s->max_sequences = max_sequences;
        wake_engine(s);
        pthread_mutex_unlock(&s->lock);
}

/* How many tokens of one sequence fit into the whole, unused budget, up to the context. */
static uint32_t lane_max_tokens(const struct lane *l) {
        size_t unit = engine_kv_bytes(l->engine, 1), pages = engine_kv_free(l->engine) / unit;
        uint32_t context = l->model->hp.n_ctx;

        return pages > context / KV_PAGE ? context : (uint32_t)pages * KV_PAGE;
}

void scheduler_set_kv_form(struct scheduler *s, enum kv_form form) {
        s->kv_form = form;
}

int scheduler_add_model(struct scheduler *s, const struct model *model, size_t kv_bytes) {
        struct lane *l = calloc(1, sizeof(*l)), **lanes;
        int r;

        if (!l)
                return -ENOMEM;
        l->model = model;
        for (size_t i = 0; i < GUESS_CLASSES; i++)
                l->odds.right[i] = 0.5;
        TAILQ_INIT(&l->running);
        r = engine_new(&l->engine, model, &s->ops, s->pool, s->kv_form, kv_bytes);
        if (r < 0) {
                free(l);
                return r;
        }
        l->max_tokens = lane_max_tokens(l);
        pthread_mutex_lock(&s->lock);
        lanes = reallocarray(s->lanes, s->n_lanes + 1, sizeof(*lanes));
        if (lanes) {
                s->lanes = lanes;
                s->lanes[s->n_lanes++] = l;
        }
        pthread_mutex_unlock(&s->lock);
        if (lanes)
                return 0;
        engine_free(l->engine);
        free(l);
        return -ENOMEM;
}

/* The array of lanes changes on the main thread only, so it may be read here without the lock. */
static struct lane *find_lane(const struct scheduler *s, const struct model *model) {
        for (size_t i = 0; i < s->n_lanes; i++)
                if (s->lanes[i]->model == model)
                        return s->lanes[i];
        return NULL;
}

/* What one sequence may take of the user's bytes. */
static uint32_t user_max_tokens(const struct lane *l, const struct scheduler_user *user) {
        uint32_t most = user->max_tokens > 0 ? user->max_tokens : UINT32_MAX;
        uint64_t pages = user->kv_bytes / engine_kv_bytes(l->engine, 1);

        if (user->kv_bytes > 0 && pages < most / KV_PAGE)
                most = (uint32_t)pages * KV_PAGE;
        return most;
}

uint32_t scheduler_max_tokens(const struct scheduler *s, const struct model *model,
                              const struct scheduler_user *user) {
        const struct lane *l = find_lane(s, model);

        if (!l)
                return 0;
        return user ? MIN(l->max_tokens, user_max_tokens(l, user)) : l->max_tokens;
}

static bool are_tokens(const struct lane *l, const struct tokens *t) {
        for (size_t i = 0; i < t->n; i++)
                if (t->ids[i] < 0 || (uint32_t)t->ids[i] >= l->model->hp.n_vocab)
                        return false;
        return true;
}

/* Whatever the engine would refuse in the middle of a step is refused here, because there it would
 * cost others their step, too. */
static int check_request(const struct lane *l, const struct generation_request *r) {
        uint64_t n = (uint64_t)r->prompt.n + r->max_tokens;

        if (!l)
                return -ENOENT;
        if (r->prompt.n == 0 || (r->max_tokens == 0) != (l->model->hp.pooling != POOLING_NONE))
                return -EINVAL;
        if (r->n_top > MIN((uint32_t)ODDS_TOP_MAX, l->model->hp.n_vocab))
                return -EINVAL;
        if (n > l->model->hp.n_ctx)
                return -E2BIG;
        if (n > l->max_tokens ||
            (r->user.kv_bytes > 0 && engine_kv_bytes(l->engine, n) > r->user.kv_bytes))
                return -ENOMEM;
        if (r->forced.n > 0 && r->forced.n != r->max_tokens)
                return -EINVAL;
        return are_tokens(l, &r->prompt) && are_tokens(l, &r->forced) ? 0 : -EINVAL;
}

/* Lock held. */
static int take_place(struct scheduler *s, const struct generation *g, enum turn_class class,
                      struct turn **ret) {
        const struct generation_request *q = &g->request;
        const uint64_t keys[_TURN_LEVEL_MAX] = { [TURN_USER] = q->user.id,
                                                 [TURN_CLIENT] = q->client,
                                                 [TURN_JOB] = q->job };
        int r = turns_enter(&s->turns, class, keys, ret);

        if (r >= 0)
                turn_set_weight(*ret, q->user.weight);
        return r;
}

static int enter(struct scheduler *s, struct generation *g) {
        int r;

        pthread_mutex_lock(&s->lock);
        r = take_place(s, g, class_of_generation(g), &g->turn);
        if (r >= 0) {
                TAILQ_INSERT_TAIL(&s->waiting[class_of_generation(g)], g, in_stage);
                wake_engine(s);
        }
        pthread_mutex_unlock(&s->lock);
        return r;
}

int scheduler_submit(struct scheduler *s, struct generation_request *request,
                     struct generation **ret) {
        struct lane *l = find_lane(s, request->model);
        struct generation *g;
        int r;

        r = check_request(l, request);
        if (r < 0)
                return r;
        g = calloc(1, sizeof(*g));
        if (!g)
                return -ENOMEM;
        g->lane = l;
        g->request = *request;
        g->prompt_n = (uint32_t)request->prompt.n;
        g->usage.kept = GENERATION_KEPT_UNKNOWN;
        g->request.sampling.masked = request->constraint != NULL;
        r = enter(s, g);
        if (r < 0) {
                free(g);
                return r;
        }
        request->prompt = request->forced = (struct tokens){0};
        request->constraint = NULL;
        TAILQ_INSERT_TAIL(&s->all, g, in_all);
        *ret = g;
        return 0;
}

/* Stop a step in the middle when nobody needs its result any more; otherwise its end is near. */
static void interrupt_step(struct scheduler *s) {
        for (uint32_t i = 0; i < s->n_members; i++)
                if (!s->members[i]->cancel)
                        return;
        __atomic_store_n(&s->interrupt, 1, __ATOMIC_RELAXED);
}

void scheduler_cancel(struct scheduler *s, struct generation *g) {
        pthread_mutex_lock(&s->lock);
        if (g->stage == STAGE_WAITING) {
                TAILQ_REMOVE(&s->waiting[class_of_generation(g)], g, in_stage);
                tokens_done(&g->request.prompt);
                g->stage = STAGE_ENDED;
                g->finish = FINISH_CANCELLED;
                mailbox_mark(s, g);
                wake_engine(s);
        } else if (g->stage == STAGE_RUNNING && !g->cancel) {
                g->cancel = true;
                if (s->n_members > 0)
                        interrupt_step(s);
                wake_engine(s);
        }
        pthread_mutex_unlock(&s->lock);
}

void scheduler_set_background(struct scheduler *s, struct generation *g, bool background) {
        enum turn_class class = background ? TURN_BACKGROUND : TURN_INTERACTIVE;
        struct turn *turn;

        pthread_mutex_lock(&s->lock);
        if (class_of_generation(g) != class && take_place(s, g, class, &turn) >= 0) {
                turns_leave(g->turn);
                g->turn = turn;
                if (g->stage == STAGE_WAITING) {
                        TAILQ_REMOVE(&s->waiting[class_of_generation(g)], g, in_stage);
                        TAILQ_INSERT_TAIL(&s->waiting[class], g, in_stage);
                }
                if (g->stage == STAGE_RUNNING)
                        s->n_background = background ? s->n_background + 1 : s->n_background - 1;
                g->request.background = background;
                wake_engine(s);
        }
        pthread_mutex_unlock(&s->lock);
}

void scheduler_set_guessing(struct scheduler *s, enum guessing guessing) {
        pthread_mutex_lock(&s->lock);
        s->guessing = guessing;
        pthread_mutex_unlock(&s->lock);
}

void scheduler_drop_caches(struct scheduler *s) {
        pthread_mutex_lock(&s->lock);
        s->drop = true;
        wake_engine(s);
        pthread_mutex_unlock(&s->lock);
}

void scheduler_forget(struct scheduler *s, uint64_t owner) {
        pthread_mutex_lock(&s->lock);
        if (s->n_forget < FORGET_MOST)
                s->forget[s->n_forget++] = owner;
        else
                s->drop = true;
        wake_engine(s);
        pthread_mutex_unlock(&s->lock);
}

void scheduler_pause(struct scheduler *s, struct generation *g, bool pause) {
        pthread_mutex_lock(&s->lock);
        if (g->pause != pause) {
                g->pause = pause;
                wake_engine(s);
        }
        pthread_mutex_unlock(&s->lock);
}

int scheduler_fd(const struct scheduler *s) {
        return s->event_fd;
}

/* What one generation's callbacks are to be told. */
struct mail {
        struct secure_buf text, records;
        uint32_t read;
        struct generation_usage usage;
        bool progressed, held, held_changed, ended;
        enum finish finish;
};

/* Lock held. */
static struct mail mailbox_take(struct scheduler *s, struct generation *g) {
        struct mail m = {.text = g->text, .records = g->records, .read = g->seen_read,
                         .usage = g->usage, .progressed = g->progressed,
                         .ended = g->stage == STAGE_ENDED, .finish = g->finish};

        m.held = g->held && !m.ended;
        m.held_changed = m.held != g->told_held;
        g->told_held = m.held;
        if (mailbox_full(g))
                wake_engine(s);
        g->text = g->records = (struct secure_buf){0};
        g->progressed = false;
        g->dirty = false;
        TAILQ_REMOVE(&s->dirty, g, in_dirty);
        return m;
}

static void deliver(struct scheduler *s, struct generation *g, struct mail *m) {
        struct generation_request *r = &g->request;

        if (m->held_changed && r->held)
                r->held(r->userdata, m->held);
        if (m->progressed && r->progress)
                r->progress(r->userdata, m->read, m->usage.out);
        if (m->records.n > 0 && r->vector && makes_vector(g))
                r->vector(r->userdata, (const float *)(const void *)m->records.p);
        else if (m->records.n > 0 && r->token_odds)
                r->token_odds(r->userdata, (const struct token_odds *)(const void *)m->records.p,
                              m->records.n / odds_bytes(r));
        secure_buf_done(&m->records);
        if (m->text.n > 0 && r->text)
                r->text(r->userdata, m->text.p, m->text.n);
        secure_buf_done(&m->text);
        if (!m->ended)
                return;
        r->end(r->userdata, m->finish, &m->usage);
        generation_free(s, g);
}

void scheduler_dispatch(struct scheduler *s) {
        struct generation *g;
        uint64_t count;
        size_t n = 0;

        (void)!read(s->event_fd, &count, sizeof(count)); /* nothing there: nothing to clear */
        pthread_mutex_lock(&s->lock);
        TAILQ_FOREACH(g, &s->dirty, in_dirty)
                n++;
        /* What gets dirty meanwhile signals again, so that this call comes to an end. */
        for (; n > 0 && (g = TAILQ_FIRST(&s->dirty)); n--) {
                struct mail m = mailbox_take(s, g);

                pthread_mutex_unlock(&s->lock);
                deliver(s, g, &m);
                pthread_mutex_lock(&s->lock);
        }
        if (!TAILQ_EMPTY(&s->dirty))
                scheduler_signal(s);
        pthread_mutex_unlock(&s->lock);
}

void scheduler_grant(struct scheduler *s, uint64_t until_usec) {
        uint64_t now = scheduler_now();

        pthread_mutex_lock(&s->lock);
        s->until = until_usec > now ? until_usec : 0;
        s->half = s->until ? now + (s->until - now) / 2 : 0;
        s->fresh = s->until != 0;
        s->state.renew = false;
        s->state.until_usec = s->until;
        s->state.computing = s->n_members > 0 || (s->until != 0 && s->state.has_work);
        wake_engine(s);
        pthread_mutex_unlock(&s->lock);
}

struct scheduler_state scheduler_state(struct scheduler *s) {
        struct scheduler_state state;

        pthread_mutex_lock(&s->lock);
        state = s->state;
        pthread_mutex_unlock(&s->lock);
        return state;
}
