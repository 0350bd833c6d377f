/* Who goes next inside the worker. Problem: a question must not wait for a document, nor one client
 * for fifty jobs of another, and yet the document must get on. policy/turns.h keeps the counters;
 * here they are fed with measured time and asked. Invariant: every microsecond of a step is charged
 * to exactly one job. All under the lock. */
#include <string.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"

/* What a generation says about giving way changes with the first and last interactive one that can
 * go on, not with each step of the background's tenth. */
static void tell_held(struct scheduler *s, bool interactive) {
        struct generation *g;

        for (size_t i = 0; i < s->n_lanes; i++)
                TAILQ_FOREACH(g, &s->lanes[i]->running, in_stage) {
                        bool held = interactive && g->request.background;

                        if (g->held == held)
                                continue;
                        g->held = held;
                        mailbox_mark(s, g);
                }
}

void order_look(struct scheduler *s) {
        bool interactive = false;
        struct generation *g;

        turns_look(&s->turns);
        for (unsigned class = 0; class < _TURN_CLASS_MAX; class++)
                TAILQ_FOREACH(g, &s->waiting[class], in_stage)
                        turn_wants(g->turn);
        for (size_t i = 0; i < s->n_lanes; i++)
                TAILQ_FOREACH(g, &s->lanes[i]->running, in_stage)
                        if (generation_runnable(g)) {
                                turn_wants(g->turn);
                                interactive |= !g->request.background;
                        }
        turns_looked(&s->turns);
        tell_held(s, interactive);
}

bool order_class(struct scheduler *s, enum turn_class *ret, bool *ret_contended) {
        bool runs[_TURN_CLASS_MAX] = {false};
        struct generation *g;

        for (size_t i = 0; i < s->n_lanes; i++)
                TAILQ_FOREACH(g, &s->lanes[i]->running, in_stage)
                        runs[class_of_generation(g)] |= generation_runnable(g);
        *ret_contended = runs[TURN_INTERACTIVE] && runs[TURN_BACKGROUND];
        if (*ret_contended)
                return turns_next_class(&s->turns, ret);
        *ret = runs[TURN_BACKGROUND] ? TURN_BACKGROUND : TURN_INTERACTIVE;
        return runs[TURN_INTERACTIVE] || runs[TURN_BACKGROUND];
}

/* Has its user something left for it? What another user shares the worker with him for must not be
 * more than what he would have alone. */
static bool user_has_room(const struct scheduler *s, const struct generation *g) {
        const struct scheduler_user *u = &g->request.user;
        const struct generation *i;
        uint32_t n = 0;
        uint64_t bytes = generation_kv_bytes(g);

        if (u->max_sequences == 0 && u->kv_bytes == 0)
                return true;
        for (size_t l = 0; l < s->n_lanes; l++)
                TAILQ_FOREACH(i, &s->lanes[l]->running, in_stage)
                        if (i->request.user.id == u->id) {
                                n++;
                                bytes += generation_kv_bytes(i);
                        }
        return (u->max_sequences == 0 || n < u->max_sequences) &&
               (u->kv_bytes == 0 || bytes <= u->kv_bytes);
}

/* The least served that leaves so many sequences to others, if it is one that has to. */
static struct generation *best_waiting(struct scheduler *s, enum turn_class class, uint32_t kept) {
        struct generation *g, *best = NULL;

        TAILQ_FOREACH(g, &s->waiting[class], in_stage) {
                bool leaves = g->request.background || g->request.bulk;

                if (s->n_running >= s->max_sequences - (leaves ? kept : 0))
                        continue;
                if ((!best || turn_before(g->turn, best->turn)) && user_has_room(s, g))
                        best = g;
        }
        return best;
}

/* Of several sequences the background may have one, the last one even, when it has none and is
 * behind; otherwise its tenth would be nothing. */
struct generation *order_waiting(struct scheduler *s) {
        uint32_t kept = s->max_sequences > 1 ? 1 : 0;
        enum turn_class class;
        struct generation *g = NULL;

        if (kept > 0 && s->n_background == 0 && turns_next_class(&s->turns, &class) &&
            class == TURN_BACKGROUND)
                g = best_waiting(s, TURN_BACKGROUND, 0);
        if (!g)
                g = best_waiting(s, TURN_INTERACTIVE, kept);
        return g ? g : best_waiting(s, TURN_BACKGROUND, kept);
}

/* With more users than there is room for, the last are not counted. */
static void count_share(struct scheduler *s, uint64_t user, uint64_t usec) {
        size_t i = 0;

        while (i < s->n_shares && s->shares[i].user != user)
                i++;
        if (i == SHARES_MOST)
                return;
        if (i == s->n_shares)
                s->shares[s->n_shares++] = (struct scheduler_share){ .user = user };
        s->shares[i].usec += usec;
}

size_t scheduler_shares(struct scheduler *s, struct scheduler_share *ret, size_t n) {
        pthread_mutex_lock(&s->lock);
        n = MIN(n, s->n_shares);
        s->n_shares -= n;
        memcpy(ret, s->shares + s->n_shares, n * sizeof(*ret));
        pthread_mutex_unlock(&s->lock);
        return n;
}

void order_charge(struct scheduler *s, uint64_t usec) {
        uint64_t rows = 0, sum = 0, charged = 0;

        for (uint32_t i = 0; i < s->n_members; i++)
                rows += s->members[i]->rows;
        for (uint32_t i = 0; i < s->n_members; i++) {
                uint64_t upto;

                sum += s->members[i]->rows;
                upto = usec * sum / rows;
                turns_charge(&s->turns, s->members[i]->turn, upto - charged);
                count_share(s, s->members[i]->request.user.id, upto - charged);
                charged = upto;
        }
}
