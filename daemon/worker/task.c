/* Generations of one answer, some at a time. Invariants: the pieces tile the text; each is read by
 * exactly one generation; what is given out is, in order, for each piece the model's answer
 * between the white space that surrounds the piece, or, where the answer is none, the piece
 * itself, counted in coverage.left. `none` is: nothing at all, or, for a correction, something
 * that is much longer than the piece or keeps less than half of it: a small model that comments or
 * goes on instead. So nothing of a text gets lost without a word, and corrections applied to the
 * text give the answer byte for byte. Labels are the same without a text: their tokens are forced,
 * and only their odds matter. The task owns text, answers and its generations until their end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/split.h"
#include "daemon/worker/task.h"
#include "daemon/worker/task_prompt.h"
#include "engine/base/macro.h"
#include "policy/error.h"

enum {
        PIECE_TOKENS = 384,    /* of a piece at most */
        SMALL_PIECE_TOKENS = 32, /* correcting, with fewer weights than these: a sentence or two; */
        SMALL_MODEL = 500000000, /* of more such a model forgets the beginning or the end */
        MARGIN_TOKENS = 16,    /* tokens may join differently where prompt and text meet */
        EXTRA_TOKENS = 32,     /* of an answer, beyond its share of the piece */
        IN_FLIGHT = 8,         /* generations submitted, whose answers were not given out yet */
        KEPT_SHARE = 2,        /* a correction keeps at least one byte in so many */
};

enum step { STEP_COUNT, STEP_SPLIT, STEP_RUN, STEP_END };

struct item {
        struct task *owner;
        struct generation *generation; /* NULL: not submitted, or ended */
        struct piece piece;
        struct secure_buf out;
        size_t given;                  /* bytes of out */
        uint32_t read;
        size_t empty_lines;            /* of the piece; rewrite, once submitted */
        bool enough;                   /* what still comes belongs to no answer */
        bool done;
        double logprob;
};

struct task {
        struct task_request request;
        enum step step;
        int error;                  /* the first failure; the end waits for the generations */
        bool paused;

        uint32_t room;              /* tokens a prompt and its answer may have together */
        uint32_t piece_limit;
        size_t counted;
        uint64_t tokens;
        struct splitter splitter;

        struct item *items;
        size_t n_items, items_room;
        size_t submitted, in_flight, delivered, n_held;

        struct coverage coverage;
        struct summarize_usage usage;
        uint64_t read;
        struct label_score scores[LABELS_MAX];
};

static bool classifies(const struct task *t) {
        return t->request.verb == WIRE_VERB_CLASSIFY;
}

/* --- sizes --- */

/* Most tokens that an answer about so many should need. */
static uint32_t answer_tokens(const struct task_request *r, uint32_t n) {
        if (r->verb == WIRE_VERB_PROOFREAD)
                return n + n / 4 + EXTRA_TOKENS;
        if (r->options->length == WIRE_REWRITE_SHORTER)
                return n + EXTRA_TOKENS;
        return (r->options->length == WIRE_REWRITE_LONGER ? 3 * n : n + n / 2) + EXTRA_TOKENS;
}

static uint32_t wanted_piece(const struct task_request *r) {
        bool small = r->verb == WIRE_VERB_PROOFREAD && r->model->n_params < SMALL_MODEL;

        return small ? (uint32_t)SMALL_PIECE_TOKENS : (uint32_t)PIECE_TOKENS;
}

int task_label_tokens(const struct vocab *v, const char *label, size_t n, struct tokens *out) {
        int r = vocab_encode(v, label, n, false, 0, out);

        return r < 0 || vocab_eos(v) == TOKEN_NONE ? r : tokens_push(out, vocab_eos(v));
}

/* Tokens of a prompt without a text; UINT32_MAX when it could not be made. */
static uint32_t overhead(const struct task_request *r, uint32_t room) {
        _cleanup_(tokens_done) struct tokens p = {0};

        if (task_prompt_encode(r->model->vocab, r->verb, r->options, "x", 1, room, &p) < 0)
                return UINT32_MAX;
        return (uint32_t)p.n + MARGIN_TOKENS;
}

/* Tokens of the largest piece whose prompt and answer fit; 0: none does. */
static uint32_t largest_piece(const struct task_request *r, uint32_t room, uint32_t fixed) {
        uint32_t most = r->max_piece_tokens ? r->max_piece_tokens : UINT32_MAX;
        uint32_t limit = wanted_piece(r);

        while (limit >= SPLIT_MIN_TOKENS &&
               (fixed > room || limit + answer_tokens(r, limit) > room - fixed ||
                answer_tokens(r, limit) > most))
                limit -= MIN(limit, (uint32_t)SPLIT_MIN_TOKENS);
        return limit < SPLIT_MIN_TOKENS ? 0 : limit;
}

/* Of the whole text, after its first slice; as many as bytes when that cannot be told. */
static uint64_t guess_tokens(const struct task_request *r) {
        uint64_t tokens = 0;
        size_t at = 0;

        if (split_count(r->model->vocab, r->text, r->n, &at, &tokens) < 0 || at == 0)
                return r->n;
        return (uint64_t)((double)tokens * ((double)r->n / (double)at)) + 1;
}

void task_estimate(const struct task_request *r, uint64_t *ret_in, uint64_t *ret_out) {
        uint32_t room = scheduler_max_tokens(r->scheduler, r->model, &r->user);
        uint32_t fixed = overhead(r, room), piece = largest_piece(r, room, fixed);
        uint64_t tokens = guess_tokens(r), pieces = 0;

        if (piece) /* most end before the largest size, where a sentence does */
                pieces = tokens <= piece ? 1 : 4 * tokens / (3 * piece) + 1;
        /* no piece: task_start will say so, and nothing is used */
        *ret_in = tokens + pieces * fixed;
        *ret_out = tokens <= piece ? answer_tokens(r, (uint32_t)tokens)
                                   : pieces * answer_tokens(r, piece);
}

/* --- life --- */

static struct task *task_free(struct task *t) {
        for (size_t i = 0; i < t->n_items; i++)
                secure_buf_done(&t->items[i].out);
        free(t->items);
        secure_free(t->request.text);
        tokens_done(&t->request.prompt);
        free(t);
        return NULL;
}

static int add_item(struct task *t, struct piece piece) {
        size_t room = MAX((size_t)16, 2 * t->items_room);
        struct item *items;

        if (t->n_items == t->items_room) {
                /* none is submitted yet: nobody points to them */
                items = reallocarray(t->items, room, sizeof(*items));
                if (!items)
                        return -ENOMEM;
                t->items = items;
                t->items_room = room;
        }
        t->items[t->n_items++] = (struct item){.owner = t, .piece = piece};
        return 0;
}

/* One item for each label. */
static int begin_labels(struct task *t) {
        int r = 0;

        for (size_t i = 0; i < t->request.options->labels.n && r == 0; i++)
                r = add_item(t, (struct piece){0});
        t->step = STEP_RUN;
        return r;
}

int task_start(struct task **ret, struct task_request *r) {
        struct task *t = calloc(1, sizeof(*t));
        int error;

        if (!t)
                return -ENOMEM;
        t->request = *r;
        t->room = scheduler_max_tokens(r->scheduler, r->model, &r->user);
        t->coverage = (struct coverage){.bytes = r->n, .dropped = r->n};
        if (!classifies(t))
                t->piece_limit = largest_piece(r, t->room, overhead(r, t->room));
        error = t->room == 0          ? -ENOENT
                : classifies(t)       ? begin_labels(t)
                : t->piece_limit == 0 ? -E2BIG
                                      : 0;
        if (error < 0) {
                free(t->items);
                free(t);
                return error;
        }
        r->text = NULL;
        r->prompt = (struct tokens){0};
        *ret = t;
        return 0;
}

static void tell_progress(struct task *t) {
        t->request.progress(t->request.userdata,
                            t->step < STEP_RUN ? "split" : classifies(t) ? "classify" : "rewrite",
                            (uint32_t)t->delivered, (uint32_t)t->n_items, t->read, t->usage.out);
}

/* Items before this one have no generation; from here to `submitted` a window of them may. */
static size_t first_open(const struct task *t) {
        return classifies(t) ? 0 : t->delivered;
}

static void fail(struct task *t, int error) {
        if (t->step == STEP_END)
                return;
        t->step = STEP_END;
        t->error = error;
        for (size_t i = first_open(t); i < t->submitted; i++)
                if (t->items[i].generation)
                        scheduler_cancel(t->request.scheduler, t->items[i].generation);
}

static void set_scores(struct task *t) {
        double logprobs[LABELS_MAX], shares[LABELS_MAX];

        for (size_t i = 0; i < t->n_items; i++)
                logprobs[i] = t->items[i].logprob;
        sampler_shares(logprobs, t->n_items, shares);
        for (size_t i = 0; i < t->n_items; i++)
                t->scores[i] = (struct label_score){logprobs[i], shares[i]};
}

/* The last thing that happens. */
static void end(struct task *t) {
        bool scored = classifies(t) && t->error == ERROR_NONE;

        if (scored)
                set_scores(t);
        t->request.end(t->request.userdata, t->error, &t->coverage, &t->usage,
                       scored ? t->scores : NULL);
        task_free(t);
}

/* --- what comes out --- */

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* What stands between the white space of a text. */
static struct view trim(const char *p, size_t n) {
        while (n > 0 && is_blank(p[n - 1]))
                n--;
        while (n > 0 && is_blank(*p)) {
                p++;
                n--;
        }
        return (struct view){(const uint8_t *)p, n};
}

static struct view inside(const struct task *t, const struct item *w) {
        return trim(t->request.text + w->piece.offset, w->piece.n);
}

static void give(struct task *t, const void *p, size_t n) {
        if (n > 0)
                t->request.text_out(t->request.userdata, p, n);
}

/* Bytes at the end of a text that may become the repeated wish. */
static size_t echo_begun(const char *p, size_t n) {
        size_t k = MIN(n, strlen(TASK_REWRITE_ECHO) - 1);

        while (k > 0 && memcmp(p + n - k, TASK_REWRITE_ECHO, k) != 0)
                k--;
        return k;
}

/* Of a rewrite that still runs: all but what may be its end, or beyond it. */
static void give_some(struct task *t, struct item *w) {
        size_t sure = w->done ? w->out.n : w->out.n - echo_begun(w->out.p, w->out.n);
        struct view v = trim(w->out.p, sure);
        const char *start = t->request.text + w->piece.offset;
        size_t end = v.n ? (size_t)((const char *)v.p - w->out.p) + v.n : 0;

        if (end <= w->given || t->request.verb != WIRE_VERB_REWRITE)
                return;
        if (w->given == 0) { /* the first of it: the piece's own white space stands before it */
                give(t, start, (size_t)((const char *)inside(t, w).p - start));
                w->given = (size_t)((const char *)v.p - w->out.p);
        }
        give(t, w->out.p + w->given, end - w->given);
        w->given = end;
}

static int give_corrections(struct task *t, const struct item *w, struct view old,
                            struct view new, bool *ret_any) {
        uint64_t base = (uint64_t)((const char *)old.p - t->request.text);
        struct corrections c;
        int r = corrections_find((const char *)old.p, old.n, (const char *)new.p, new.n, &c);

        if (r < 0)
                return r;
        *ret_any = c.kept >= old.n / KEPT_SHARE;
        for (size_t i = 0; *ret_any && i < c.n; i++)
                t->request.correction(t->request.userdata, base + c.items[i].start,
                                      base + c.items[i].end, (const char *)new.p + c.items[i].from,
                                      c.items[i].n);
        corrections_done(&c);
        return 0;
}

/* A piece whose answer is whole: what was not given yet, and the white space after it. */
static int give_rest(struct task *t, struct item *w) {
        const char *start = t->request.text + w->piece.offset, *stop = start + w->piece.n;
        struct view old = inside(t, w), new = trim(w->out.p, w->out.n);
        bool use = new.n > 0;
        int r = 0;

        if (use && t->request.verb == WIRE_VERB_PROOFREAD)
                r = give_corrections(t, w, old, new, &use);
        if (r < 0)
                return r;
        give_some(t, w);
        if (w->given == 0) {
                give(t, start, (size_t)((const char *)old.p - start));
                give(t, use ? new.p : old.p, use ? new.n : old.n);
        }
        t->coverage.left += !use && old.n > 0;
        give(t, old.p + old.n, (size_t)(stop - (const char *)old.p) - old.n);
        t->coverage.tokens_used += w->piece.tokens;
        t->coverage.dropped -= w->piece.n;
        secure_buf_done(&w->out);
        return 0;
}

/* In order, as far as they are there. */
static void deliver(struct task *t) {
        while (!classifies(t) && t->step == STEP_RUN && t->delivered < t->n_items) {
                struct item *w = &t->items[t->delivered];

                if (!w->done) {
                        give_some(t, w);
                        return;
                }
                if (give_rest(t, w) < 0)
                        fail(t, ERROR_OVERLOADED);
                t->delivered++;
        }
}

/* --- generations --- */

/* Where a text has more than so many empty lines, as a position; its size when it has not. */
static size_t paragraphs_end(const char *p, size_t n, size_t most) {
        size_t newlines = 0;

        for (size_t i = 0; i < n; i++) {
                if (!is_blank(p[i]))
                        newlines = 0;
                else if (p[i] == '\n' && ++newlines == 2 && most-- == 0)
                        return i;
        }
        return n;
}

static size_t empty_lines(const char *p, size_t n) {
        size_t newlines = 0, lines = 0;

        for (size_t i = 0; i < n; i++) {
                if (!is_blank(p[i]))
                        newlines = 0;
                else if (p[i] == '\n')
                        lines += ++newlines == 2;
        }
        return lines;
}

/* A small model that has answered may repeat the wish, or go on with something else. A rewrite that
 * gets many more paragraphs than its piece has (a greeting and an end are none of those) is cut,
 * and the answer says so. */
static void look_for_end(struct task *t, struct item *w) {
        struct view out;
        const char *p, *echo;
        size_t end;

        if (t->request.verb != WIRE_VERB_REWRITE)
                return;
        out = trim(w->out.p, w->out.n);
        p = (const char *)out.p;
        end = paragraphs_end(p, out.n, 2 * w->empty_lines + 2);
        echo = out.n ? memmem(p, out.n, TASK_REWRITE_ECHO, strlen(TASK_REWRITE_ECHO)) : NULL;
        if (echo)
                end = MIN(end, (size_t)(echo - p));
        if (end == out.n)
                return;
        t->coverage.cut |= !echo;
        w->out.n = (size_t)(p - w->out.p) + end;
        w->enough = true;
        scheduler_cancel(t->request.scheduler, w->generation);
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct item *w = userdata;
        struct task *t = w->owner;

        if (classifies(t) || w->enough)
                return;
        secure_buf_append(&w->out, text, n);
        look_for_end(t, w);
        deliver(t);
}

static void on_odds(void *userdata, const struct token_odds *records, size_t n) {
        struct item *w = userdata;

        for (size_t i = 0; i < n; i++)
                w->logprob += records[i].logprob;
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct item *w = userdata;
        struct task *t = w->owner;

        (void)tokens_out;
        t->read += tokens_read - w->read;
        w->read = tokens_read;
        if (t->step == STEP_RUN)
                tell_progress(t);
}

static void on_held(void *userdata, bool held) {
        struct item *w = userdata;
        struct task *t = w->owner;
        size_t before = t->n_held;

        t->n_held += held ? 1 : (size_t)-1;
        if (t->request.held && (before == 0 || t->n_held == 0))
                t->request.held(t->request.userdata, t->n_held > 0);
}

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct item *w = userdata;
        struct task *t = w->owner;
        const struct task_request *r = &t->request;

        w->generation = NULL;
        w->done = true;
        t->in_flight--;
        t->usage.out += usage->out;
        t->usage.cached += usage->cached;
        if (finish == FINISH_FAILED || w->out.failed)
                fail(t, ERROR_FAILED);
        else if (finish == FINISH_CANCELLED && !w->enough)
                fail(t, ERROR_CANCELLED);
        if (finish == FINISH_LENGTH && r->verb == WIRE_VERB_PROOFREAD)
                w->out.n = 0; /* much longer than its piece: no correction of it */
        t->coverage.cut |= finish == FINISH_LENGTH && r->verb == WIRE_VERB_REWRITE && !w->enough;
        if (classifies(t) && t->step == STEP_RUN)
                t->delivered++;
        deliver(t);
}

static int make_prompt(struct task *t, struct item *w, struct generation_request *g) {
        const struct task_request *r = &t->request;
        const struct chat_message *label;
        struct view text;
        int error;

        if (!classifies(t)) {
                text = inside(t, w);
                w->empty_lines = empty_lines((const char *)text.p, text.n);
                g->max_tokens = answer_tokens(r, w->piece.tokens);
                return task_prompt_encode(r->model->vocab, r->verb, r->options,
                                          (const char *)text.p, text.n, t->room - g->max_tokens,
                                          &g->prompt);
        }
        label = &r->options->labels.items[w - t->items];
        error = tokens_append(&g->prompt, r->prompt.ids, r->prompt.n);
        if (error >= 0)
                error = task_label_tokens(r->model->vocab, label->content, label->n, &g->forced);
        g->odds = true;
        g->max_tokens = (uint32_t)g->forced.n;
        return error;
}

static int submit(struct task *t, struct item *w) {
        const struct task_request *r = &t->request;
        struct generation_request g = {
                .model = r->model, .user = r->user, .owner = r->owner, .client = r->client,
                .job = r->job,
                .sampling = r->sampling, .background = r->background, .bulk = w > t->items,
                .text = on_text, .token_odds = on_odds, .progress = on_progress, .held = on_held,
                .end = on_end, .userdata = w,
        };
        int error = make_prompt(t, w, &g);

        if (error >= 0) {
                t->usage.in += g.prompt.n;
                error = scheduler_submit(r->scheduler, &g, &w->generation);
        }
        if (error < 0) {
                tokens_done(&g.prompt);
                tokens_done(&g.forced);
                return error;
        }
        t->in_flight++;
        return 0;
}

/* --- steps --- */

static void run_count(struct task *t) {
        const struct task_request *r = &t->request;

        if (t->counted < r->n) {
                if (split_count(r->model->vocab, r->text, r->n, &t->counted, &t->tokens) < 0)
                        fail(t, ERROR_FAILED);
                return;
        }
        if (trim(r->text, r->n).n == 0) {
                fail(t, ERROR_INVALID_INPUT);
                return;
        }
        t->splitter = (struct splitter){.vocab = r->model->vocab, .text = r->text, .n = r->n,
                                        .limit = t->piece_limit, .tokens_left = t->tokens};
        t->step = STEP_SPLIT;
}

static void run_split(struct task *t) {
        struct piece p;
        int r = split_next(&t->splitter, &p);

        if (r == 0 && t->n_items == TASK_PIECES_MAX) {
                t->coverage.pieces = TASK_PIECES_MAX + 1;
                fail(t, ERROR_INVALID_INPUT);
        } else if (r == 0) {
                t->coverage.tokens += p.tokens;
                r = add_item(t, p);
        } else if (r == 1) {
                t->coverage.pieces = (uint32_t)t->n_items;
                t->step = STEP_RUN;
                tell_progress(t);
        }
        if (r < 0)
                fail(t, ERROR_FAILED);
}

/* Labels after the first one find its prompt computed. Nothing is begun in a pause, not even pieces
 * without words, which would be given out at once. True when more could be done at once. */
static bool run_items(struct task *t) {
        size_t window = classifies(t) && t->delivered == 0 ? 1 : IN_FLIGHT;
        struct item *w;

        if (t->delivered == t->n_items) {
                t->step = STEP_END;
                return true;
        }
        if (t->paused || t->submitted == t->n_items || t->submitted - t->delivered >= window)
                return false;
        w = &t->items[t->submitted++];
        if (!classifies(t) && inside(t, w).n == 0) {
                w->done = true;
                deliver(t);
        } else if (submit(t, w) < 0) {
                fail(t, ERROR_FAILED);
        }
        return true;
}

bool task_run(struct task *t) {
        switch (t->step) {
        case STEP_COUNT:
                run_count(t);
                return true;
        case STEP_SPLIT:
                run_split(t);
                return true;
        case STEP_RUN:
                return run_items(t);
        case STEP_END:
                if (t->in_flight == 0)
                        end(t);
                return false;
        }
        return false;
}

void task_cancel(struct task *t) {
        fail(t, ERROR_CANCELLED);
}

void task_pause(struct task *t, bool pause) {
        t->paused = pause;
        for (size_t i = first_open(t); i < t->submitted; i++)
                if (t->items[i].generation)
                        scheduler_pause(t->request.scheduler, t->items[i].generation, pause);
}

void task_set_background(struct task *t, bool background) {
        t->request.background = background;
        for (size_t i = first_open(t); i < t->submitted; i++)
                if (t->items[i].generation)
                        scheduler_set_background(t->request.scheduler, t->items[i].generation,
                                                 background);
}
