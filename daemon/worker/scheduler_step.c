/* What goes into the next step. Problem: a step should use the machine well (many rows) and still
 * end soon (few rows), on machines of very different speed. So the cost of steps is measured as the
 * work goes (scheduler_cost.h), and the chunk of prefill follows from it.
 * Invariant: every decoding generation that may go on takes part in its lane's step, unless it
 * gives way to the class whose step it is; prefill of that class fills what is left of the time,
 * the least served first. */
#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"

bool generation_runnable(const struct generation *g) {
        return !g->cancel && !g->pause && !mailbox_full(g);
}

static bool decodes(const struct generation *g) {
        return g->read == g->prompt_n;
}

/* Interactive ones go on decoding in a background step: a row more costs little. */
static bool takes_part(const struct generation *g, const struct plan *p) {
        if (!generation_runnable(g))
                return false;
        return class_of_generation(g) == p->class ||
               (class_of_generation(g) == TURN_INTERACTIVE && decodes(g));
}

/* What was seen of one kind of step serves for the other until that was seen, too. */
static double plan_cost(const struct plan *p) {
        const struct lane *l = p->lane;
        uint32_t rows = p->decode_rows + p->guess_rows + p->prefill_rows;
        double mixed = step_cost(&l->mixed, rows), decode = step_cost(&l->decode, rows);

        if (p->prefill_rows == 0)
                return decode > 0 ? decode : mixed;
        return mixed > 0 ? mixed : decode;
}

/* Rows of prefill, beside those of decoding, for a step of so much time; together whole units. */
static uint32_t chunk_rows(const struct plan *p, double usec) {
        uint32_t rows = step_rows(&p->lane->mixed, usec, ENGINE_MAX_ROWS);

        if (rows == 0)
                rows = step_rows(&p->lane->decode, usec, ENGINE_MAX_ROWS);
        if (rows == 0)
                return FIRST_CHUNK;
        rows = MAX(rows, p->decode_rows + LEAST_CHUNK + CHUNK_UNIT - 1);
        return rows / CHUNK_UNIT * CHUNK_UNIT - p->decode_rows;
}

/* What others of its owner have read meanwhile it need not read. */
static void catch_up(struct generation *g) {
        uint32_t read;

        if (g->request.owner == 0)
                return;
        read = (uint32_t)sequence_catch_up(g->sequence, g->request.prompt.ids, g->prompt_n);
        g->usage.cached += read - g->read;
        g->read = read;
}

/* Decoding rows and all rows of prefill that could be taken. */
static void count_rows(struct plan *p) {
        struct generation *g;
        uint64_t prefill = 0;

        TAILQ_FOREACH(g, &p->lane->running, in_stage) {
                g->guess.n = g->guess.rows = 0;
                if (!takes_part(g, p))
                        continue;
                if (decodes(g)) {
                        p->decode_rows++;
                        continue;
                }
                catch_up(g);
                prefill += g->prompt_n - g->read;
        }
        p->prefill_rows = (uint32_t)MIN(prefill, (uint64_t)(ENGINE_MAX_ROWS - p->decode_rows));
}

/* The next token stands at the end, not in the sequence yet; those after it must fit, too. */
static void guess_next(struct generation *g) {
        size_t n = sequence_length(g->sequence);
        uint32_t left = g->request.max_tokens - g->out;

        guess_find(&g->guess, sequence_ids(g->sequence), n, g->token,
                   MIN((uint32_t)GUESS_MOST, left - 1));
}

/* Add guesses to a step that only decodes. A text is looked through in microseconds. */
static void plan_guesses(struct plan *p, enum guessing guessing, double usec_left) {
        double usec = MIN(usec_left, p->decode_rows > 1 ? STEP_USEC : LONE_STEP_USEC),
               tokens = p->decode_rows;
        struct generation *g;

        TAILQ_FOREACH(g, &p->lane->running, in_stage) {
                if (!takes_part(g, p) || !decodes(g)) /* what is still read has no last token */
                        continue;
                guess_next(g);
                if (guessing == GUESSING_ALWAYS)
                        g->guess.rows = g->guess.n;
                else
                        guess_choose(&g->guess, &g->odds, &p->lane->decode,
                                     p->decode_rows + p->guess_rows, tokens, usec);
                tokens += guess_expected(&g->guess, &g->odds);
                p->guess_rows += g->guess.rows;
        }
        p->expected_usec = plan_cost(p);
}

static bool somebody_waits(const struct plan *p) {
        return p->decode_rows > 0 || p->contended;
}

static bool plan_lane(uint64_t usec_left, bool must, enum guessing guessing, struct plan *p) {
        double usec;

        count_rows(p);
        usec = (double)MIN(usec_left, somebody_waits(p) ? STEP_USEC : LONE_STEP_USEC);
        p->prefill_rows = MIN(p->prefill_rows, chunk_rows(p, usec));
        p->expected_usec = plan_cost(p);
        if (p->expected_usec > (double)usec_left && !must) {
                p->prefill_rows = 0;
                p->expected_usec = plan_cost(p);
                if (p->decode_rows == 0 || p->expected_usec > (double)usec_left)
                        return false;
        }
        if (guessing != GUESSING_NEVER && p->prefill_rows == 0 && p->decode_rows <= GUESS_BATCH)
                plan_guesses(p, guessing, (double)usec_left);
        return true;
}

/* The lane of the least served generation of the class, of those not looked at. */
static struct lane *next_lane(struct scheduler *s, enum turn_class class) {
        const struct generation *g, *best = NULL;

        for (size_t i = 0; i < s->n_lanes; i++)
                TAILQ_FOREACH(g, &s->lanes[i]->running, in_stage)
                        if (!g->lane->passed && class_of_generation(g) == class &&
                            generation_runnable(g) && (!best || turn_before(g->turn, best->turn)))
                                best = g;
        return best ? best->lane : NULL;
}

bool plan_step(struct scheduler *s, uint64_t usec_left, bool must, struct plan *ret,
               bool *ret_work) {
        struct plan p = {0};

        *ret_work = order_class(s, &p.class, &p.contended);
        if (!*ret_work)
                return false;
        for (size_t i = 0; i < s->n_lanes; i++)
                s->lanes[i]->passed = false;
        while ((p.lane = next_lane(s, p.class))) {
                *ret = p;
                if (plan_lane(usec_left, must, s->guessing, ret))
                        return true;
                p.lane->passed = true;
        }
        return false;
}

static void add_member(struct scheduler *s, struct generation *g, uint32_t rows, size_t *n) {
        const int32_t *ids = g->request.prompt.ids;

        for (uint32_t i = 0; i < rows; i++) {
                bool prefill = g->read < g->prompt_n;

                s->rows[(*n)++] = (struct engine_row){
                        .seq = g->sequence,
                        .token = prefill ? ids[g->read + i] : i ? g->guess.ids[i - 1] : g->token,
                        .want_logits = makes_vector(g) ? embed_wants(g, g->read + i)
                                                       : !prefill || g->read + i + 1 == g->prompt_n,
                };
        }
        g->rows = rows;
        s->members[s->n_members++] = g;
}

/* The least served that reads and has no rows yet; of one job the one admitted first. */
static struct generation *next_reader(const struct plan *p) {
        struct generation *g, *best = NULL;

        TAILQ_FOREACH(g, &p->lane->running, in_stage)
                if (g->rows == 0 && takes_part(g, p) && !decodes(g) &&
                    (!best || turn_before(g->turn, best->turn)))
                        best = g;
        return best;
}

size_t plan_rows(struct scheduler *s, const struct plan *plan) {
        uint32_t left = plan->prefill_rows;
        struct generation *g;
        size_t n = 0;

        s->n_members = 0;
        TAILQ_FOREACH(g, &plan->lane->running, in_stage) {
                g->rows = 0;
                if (takes_part(g, plan) && decodes(g))
                        add_member(s, g, 1 + g->guess.rows, &n);
        }
        while (left > 0 && (g = next_reader(plan))) {
                add_member(s, g, MIN(left, g->prompt_n - g->read), &n);
                left -= g->rows;
        }
        return n;
}

/* Costs of reading change as a text gets longer; those of decoding are compared with one another,
 * so they must be calm. */
void plan_measured(const struct plan *plan, uint64_t usec) {
        struct lane *l = plan->lane;
        uint32_t rows = plan->decode_rows + plan->guess_rows + plan->prefill_rows;

        if (plan->prefill_rows > 0)
                step_cost_learn(&l->mixed, rows, (double)usec, 0.5);
        else
                step_cost_learn(&l->decode, rows, (double)usec, 0.1);
}
