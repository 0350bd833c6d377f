/* A summary of a text of any length. Problem: the text may be many times longer than what the model
 * can read at once, and nothing of it may get lost on the way without notice.
 *
 * The text is counted; if one prompt can take it, that prompt gives the answer. Otherwise it is
 * split into pieces, each piece becomes notes (one generation each, batched by the scheduler), the
 * notes in their order become the text, and so on until it fits. Invariant: the pieces of a round
 * tile its text, each piece is read by exactly one generation, and an answer is given only when all
 * of them ended well. Rounds shrink because notes are capped at a quarter of their piece; should a
 * round not shrink all the same, the job fails. The job owns the text of the present round, the
 * notes, and its generations until their end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/split.h"
#include "daemon/worker/summarize.h"
#include "daemon/worker/summarize_prompt.h"
#include "daemon/worker/summarize_shape.h"
#include "engine/base/macro.h"
#include "policy/error.h"

enum {
        PIECE_TOKENS = 1536,   /* a piece is not longer than this: measured, tests/eval/README.md */
        NOTES_TOKENS = 160,    /* nor are notes about a piece */
        NOTES_SHARE = 4,       /* and they have at most this part of the tokens of the piece */
        MARGIN_TOKENS = 16,    /* tokens may join differently where prompt and text meet */
        IN_FLIGHT = 64,        /* generations submitted at once */
        CONTEXT_SHARE = 4,     /* context text or answer: at most this part of the room */
        BYTES_PER_TOKEN = 4,   /* guess for the estimate */
        DEFAULT_ROOM = 4096,   /* tokens, when the estimate knows no model */
        REPEAT_LAST = 64,
        /* A model of fewer weights than this gets lost in a long prompt: it is asked about the
         * notes of pieces even where the whole text would fit (measured, too). */
        SMALL_MODEL = 500000000,
        SMALL_WHOLE_TOKENS = 2048,
};
#define REPEAT_PENALTY 1.1f    /* measured, as PIECE_TOKENS */

enum step { STEP_COUNT, STEP_SPLIT, STEP_ROUND, STEP_FINAL, STEP_END };

/* A generation of this job. */
struct work {
        struct summarize *owner;
        struct generation *generation; /* NULL: not submitted, or ended */
        struct piece piece;
        struct secure_buf notes;
        uint32_t prompt_n, read;
        bool ok;
};

struct summarize {
        struct summarize_request request;
        enum step step;
        int error;                  /* the first failure; the end waits for the generations */
        bool paused;

        uint32_t room;              /* tokens a prompt and its answer may have together */
        uint32_t answer_tokens, notes_tokens;
        uint32_t final_limit, piece_limit; /* tokens of text */

        struct secure_buf text;     /* of this round: at first the document */
        size_t counted;
        uint64_t text_tokens, last_text_tokens;
        struct splitter splitter;

        struct work *works;         /* of this round; room for n_works_room */
        size_t n_works, works_room, submitted, done;
        size_t in_flight, n_held;
        struct work final;
        struct shape shape;
        struct secure_buf shaped;

        struct coverage coverage;
        struct summarize_usage usage;
        uint64_t read;
};

static struct summary_prompt prompt_of(const struct summarize_request *r, enum summary_step step,
                                       bool whole) {
        return (struct summary_prompt){.step = step, .whole = whole, .type = r->type,
                                       .length = r->length, .context = r->context};
}

/* Small models fall into cycles when they write several sentences; one sentence has no time for it,
 * and a penalty would do harm there. A request that asks for a penalty gets its own. */
static struct sampling sampling_of(const struct summarize_request *r, bool final) {
        struct sampling s = r->sampling;
        bool one_sentence = r->type == WIRE_SUMMARY_HEADLINE ||
                            (r->type != WIRE_SUMMARY_KEY_POINTS && r->length == WIRE_LENGTH_SHORT);

        if (s.repeat_penalty == 1 && !(final && one_sentence)) {
                s.repeat_penalty = REPEAT_PENALTY;
                s.repeat_last = REPEAT_LAST;
        }
        return s;
}

static uint32_t answer_tokens(const struct summarize_request *r, uint32_t room) {
        uint32_t n = r->max_output_tokens;

        if (n == 0)
                n = summary_tokens(r->type, r->length);
        return MIN(n, MAX(room / CONTEXT_SHARE, 1U));
}

static uint32_t whole_limit(const struct model *m, uint32_t room) {
        return m->n_params < SMALL_MODEL ? MIN(room, (uint32_t)SMALL_WHOLE_TOKENS) : room;
}

void summarize_estimate(const struct summarize_request *r, uint64_t *ret_in, uint64_t *ret_out) {
        uint32_t room = DEFAULT_ROOM, whole = DEFAULT_ROOM / 2;
        uint64_t tokens = r->n / BYTES_PER_TOKEN + 1, piece, pieces, in = 0, out = 0;

        if (r->scheduler && r->model) {
                room = MAX(scheduler_max_tokens(r->scheduler, r->model, &r->user), 1U);
                whole = whole_limit(r->model, room / 2);
        }
        piece = MAX(MIN((uint64_t)PIECE_TOKENS, (uint64_t)room / 2), UINT64_C(1));
        while (tokens > whole && tokens > piece) {
                pieces = tokens / piece + 1;
                in += tokens;
                tokens = pieces * MIN((uint64_t)NOTES_TOKENS, piece / NOTES_SHARE);
                out += tokens;
        }
        *ret_in = in + tokens;
        *ret_out = out + answer_tokens(r, room);
}

/* Tokens that a prompt has without any text; UINT32_MAX when it could not be made. */
static uint32_t overhead(const struct summarize *s, enum summary_step step) {
        struct summary_prompt p = prompt_of(&s->request, step, true);
        _cleanup_(tokens_done) struct tokens t = {0};

        if (summary_prompt_encode(s->request.model->vocab, &p, "", 0, s->room, &t) < 0)
                return UINT32_MAX;
        return (uint32_t)t.n + MARGIN_TOKENS;
}

/* What is left of room for text, or 0. */
static uint32_t text_limit(uint32_t room, uint32_t first, uint32_t second) {
        uint64_t used = (uint64_t)first + second;

        return used < room ? (uint32_t)(room - used) : 0;
}

static int set_limits(struct summarize *s) {
        uint32_t final = overhead(s, SUMMARY_FINAL), notes = MAX(overhead(s, SUMMARY_MAP),
                                                                  overhead(s, SUMMARY_REDUCE));

        s->answer_tokens = answer_tokens(&s->request, s->room);
        s->notes_tokens = MIN((uint32_t)NOTES_TOKENS, MAX(s->room / (2 * NOTES_SHARE), 1U));
        s->final_limit = text_limit(s->room, final, s->answer_tokens);
        s->piece_limit = MIN((uint32_t)PIECE_TOKENS, text_limit(s->room, notes, s->notes_tokens));
        if (s->final_limit < s->room / CONTEXT_SHARE || s->piece_limit < 2 * SPLIT_MIN_TOKENS)
                return -E2BIG;
        s->final_limit = whole_limit(s->request.model, s->final_limit);
        return 0;
}

static void works_drop(struct summarize *s) {
        for (size_t i = 0; i < s->n_works; i++)
                secure_buf_done(&s->works[i].notes);
        s->n_works = s->submitted = s->done = 0;
}

static struct summarize *summarize_free(struct summarize *s) {
        if (!s)
                return NULL;
        works_drop(s);
        free(s->works);
        secure_buf_done(&s->text);
        secure_buf_done(&s->shaped);
        secure_free(s->request.document);
        secure_free(s->request.context);
        free(s);
        return NULL;
}

/* Start to work on the text, whose size is known and whose tokens are not. */
static void begin_round(struct summarize *s) {
        s->step = STEP_COUNT;
        s->counted = 0;
        s->last_text_tokens = s->text_tokens;
        s->text_tokens = 0;
}

int summarize_start(struct summarize **ret, struct summarize_request *r) {
        struct summarize *s;
        int error;

        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->request = *r;
        s->room = scheduler_max_tokens(r->scheduler, r->model, &r->user);
        error = s->room == 0 ? -ENOENT : set_limits(s);
        if (error < 0) {
                free(s);
                return error;
        }
        s->shape = (struct shape){.type = r->type, .format = r->format,
                                  .count = summary_count(r->type, r->length)};
        s->coverage = (struct coverage){.bytes = r->n, .dropped = r->n};
        s->text = (struct secure_buf){.p = r->document, .n = r->n, .room = r->n};
        s->request.document = NULL;
        begin_round(s);
        *ret = s;
        return 0;
}

static const char *stage_name(const struct summarize *s) {
        switch (s->step) {
        case STEP_COUNT:
        case STEP_SPLIT:
                return "split";
        case STEP_FINAL:
        case STEP_END:
                return "final";
        default:
                return s->coverage.rounds <= 1 ? "map" : "reduce";
        }
}

static void tell_progress(struct summarize *s) {
        if (s->request.progress)
                s->request.progress(s->request.userdata, stage_name(s), (uint32_t)s->done,
                                    (uint32_t)s->n_works, s->read, s->usage.out);
}

/* The last thing that happens. */
static void end(struct summarize *s) {
        if (s->error != ERROR_NONE && s->coverage.tokens == 0)
                s->coverage.tokens = s->text_tokens;
        s->request.end(s->request.userdata, s->error, &s->coverage, &s->usage);
        summarize_free(s);
}

/* No way back: what runs is cancelled, and the end comes when it has ended. */
static void fail(struct summarize *s, int error) {
        if (s->step == STEP_END)
                return;
        s->step = STEP_END;
        s->error = error;
        for (size_t i = 0; i < s->n_works; i++)
                if (s->works[i].generation)
                        scheduler_cancel(s->request.scheduler, s->works[i].generation);
        if (s->final.generation)
                scheduler_cancel(s->request.scheduler, s->final.generation);
}

/* A piece of the document was read to its end. */
static void cover(struct summarize *s, const struct piece *p) {
        s->coverage.tokens_used += p->tokens;
        s->coverage.dropped -= p->n;
}

static void work_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct work *w = userdata;
        struct summarize *s = w->owner;

        (void)tokens_out;
        s->read += tokens_read - w->read;
        w->read = tokens_read;
        if (s->step != STEP_END)
                tell_progress(s);
}

static void work_held(void *userdata, bool held) {
        struct work *w = userdata;
        struct summarize *s = w->owner;
        size_t before = s->n_held;

        s->n_held += held ? 1 : (size_t)-1;
        if (s->request.held && (before == 0 || s->n_held == 0))
                s->request.held(s->request.userdata, s->n_held > 0);
}

static void count_usage(struct summarize *s, const struct generation_usage *u) {
        s->usage.out += u->out;
        s->usage.cached += u->cached;
}

static void notes_text(void *userdata, const char *text, size_t n) {
        struct work *w = userdata;

        secure_buf_append(&w->notes, text, n);
}

static void notes_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct work *w = userdata;
        struct summarize *s = w->owner;

        w->generation = NULL;
        s->in_flight--;
        s->done++;
        count_usage(s, usage);
        if (finish == FINISH_FAILED || w->notes.failed)
                fail(s, ERROR_FAILED);
        else if (finish == FINISH_CANCELLED)
                fail(s, ERROR_CANCELLED);
        else if (s->coverage.rounds == 1)
                cover(s, &w->piece);
}

static void final_text(void *userdata, const char *text, size_t n) {
        struct work *w = userdata;
        struct summarize *s = w->owner;

        if (s->step != STEP_FINAL || s->shape.done)
                return;
        if (shape_feed(&s->shape, text, n, &s->shaped))
                scheduler_cancel(s->request.scheduler, w->generation);
        if (s->shaped.n > 0)
                s->request.text(s->request.userdata, s->shaped.p, s->shaped.n);
        secure_buf_consume(&s->shaped, s->shaped.n);
}

static void final_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct work *w = userdata;
        struct summarize *s = w->owner;

        w->generation = NULL;
        s->in_flight--;
        count_usage(s, usage);
        if (finish == FINISH_FAILED || s->shaped.failed) {
                fail(s, ERROR_FAILED);
        } else if (finish == FINISH_CANCELLED && !s->shape.done) {
                fail(s, ERROR_CANCELLED);
        } else if (s->step == STEP_FINAL) {
                s->coverage.cut = finish == FINISH_LENGTH && !s->shape.done;
                shape_end(&s->shape, &s->shaped);
                if (s->shaped.n > 0)
                        s->request.text(s->request.userdata, s->shaped.p, s->shaped.n);
                if (s->coverage.rounds == 0)
                        cover(s, &w->piece);
                s->step = STEP_END;
        }
}

/* 0, -E2BIG when prompt and answer do not fit, -ENOMEM. */
static int submit(struct summarize *s, struct work *w, enum summary_step step,
                  uint32_t max_tokens) {
        bool final = step == SUMMARY_FINAL;
        struct summary_prompt p = prompt_of(&s->request, step, s->coverage.rounds == 0);
        struct generation_request g = {
                .model = s->request.model, .owner = s->request.owner, .user = s->request.user,
                .client = s->request.client, .job = s->request.job, .max_tokens = max_tokens,
                .sampling = sampling_of(&s->request, final),
                .background = s->request.background, .bulk = !final,
                .text = final ? final_text : notes_text, .progress = work_progress,
                .held = work_held, .end = final ? final_end : notes_end, .userdata = w,
        };
        int r;

        r = summary_prompt_encode(s->request.model->vocab, &p, s->text.p + w->piece.offset,
                                  w->piece.n, s->room - max_tokens, &g.prompt);
        w->owner = s;
        w->prompt_n = (uint32_t)g.prompt.n;
        if (r >= 0)
                r = scheduler_submit(s->request.scheduler, &g, &w->generation);
        if (r < 0) {
                tokens_done(&g.prompt);
                return r;
        }
        if (s->paused)
                scheduler_pause(s->request.scheduler, w->generation, true);
        s->in_flight++;
        s->usage.in += w->prompt_n;
        return 0;
}

/* The text fits into one prompt, or so it seems: ask for the answer. */
static int submit_final(struct summarize *s) {
        s->final.piece = (struct piece){.n = s->text.n, .tokens = (uint32_t)s->text_tokens};
        return submit(s, &s->final, SUMMARY_FINAL, s->answer_tokens);
}

static void begin_split(struct summarize *s) {
        s->splitter = (struct splitter){.vocab = s->request.model->vocab, .text = s->text.p,
                                        .n = s->text.n, .limit = s->piece_limit,
                                        .tokens_left = s->text_tokens};
        s->text_tokens = 0;
        s->coverage.rounds++;
        s->step = STEP_SPLIT;
}

static bool only_blanks(const struct secure_buf *b) {
        for (size_t i = 0; i < b->n; i++)
                if (!strchr(" \t\r\n", b->p[i]))
                        return false;
        return true;
}

static void run_count(struct summarize *s) {
        int r;

        if (s->counted < s->text.n) {
                r = split_count(s->request.model->vocab, s->text.p, s->text.n, &s->counted,
                                &s->text_tokens);
                if (r < 0)
                        fail(s, ERROR_FAILED);
                return;
        }
        if (only_blanks(&s->text)) {
                fail(s, s->coverage.rounds == 0 ? ERROR_INVALID_INPUT : ERROR_FAILED);
                return;
        }
        if (s->coverage.rounds > 0 && s->text_tokens >= s->last_text_tokens) {
                fail(s, ERROR_FAILED);
                return;
        }
        if (s->text_tokens <= s->final_limit) {
                r = submit_final(s);
                if (r == 0) {
                        s->step = STEP_FINAL;
                        if (s->coverage.rounds == 0) {
                                s->coverage.tokens = s->text_tokens;
                                s->coverage.pieces = 1;
                        }
                        return;
                }
                if (r != -E2BIG) {
                        fail(s, ERROR_FAILED);
                        return;
                }
        }
        begin_split(s);
}

static int works_reserve(struct summarize *s) {
        size_t room = MAX((size_t)16, 2 * s->works_room);
        struct work *works;

        if (s->n_works < s->works_room)
                return 0;
        /* Nothing in the entries is text yet, and nobody points to them: they are not submitted. */
        works = reallocarray(s->works, room, sizeof(*works));
        if (!works)
                return -ENOMEM;
        s->works = works;
        s->works_room = room;
        return 0;
}

static void run_split(struct summarize *s) {
        struct piece p;
        int r;

        r = works_reserve(s);
        if (r == 0)
                r = split_next(&s->splitter, &p);
        if (r < 0) {
                fail(s, ERROR_FAILED);
        } else if (r == 0) {
                s->works[s->n_works++] = (struct work){.piece = p};
                s->text_tokens += p.tokens;
        } else {
                s->step = STEP_ROUND;
                if (s->coverage.rounds == 1) {
                        s->coverage.pieces = (uint32_t)s->n_works;
                        s->coverage.tokens = s->text_tokens;
                }
                tell_progress(s);
        }
}

static const char *trim(const char *p, size_t n, size_t *ret_n) {
        while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\n'))
                n--;
        while (n > 0 && (*p == ' ' || *p == '\n')) {
                p++;
                n--;
        }
        *ret_n = n;
        return p;
}

/* The notes of all pieces, in order, are the text of the next round. */
static void join_notes(struct summarize *s) {
        struct secure_buf text = {0};

        for (size_t i = 0; i < s->n_works; i++) {
                size_t n;
                const char *p = trim(s->works[i].notes.p, s->works[i].notes.n, &n);

                if (n > 0 && text.n > 0)
                        secure_buf_puts(&text, "\n\n");
                secure_buf_append(&text, p, n);
        }
        secure_buf_done(&s->text);
        s->text = text;
        works_drop(s);
        if (text.failed || text.n == 0)
                fail(s, ERROR_FAILED); /* a model that says nothing about anything */
        else
                begin_round(s);
}

/* true when another piece could be submitted at once */
static bool run_round(struct summarize *s) {
        struct work *w;

        if (s->submitted < s->n_works && s->in_flight < IN_FLIGHT) {
                w = &s->works[s->submitted++];
                if (submit(s, w, s->coverage.rounds == 1 ? SUMMARY_MAP : SUMMARY_REDUCE,
                           MIN(s->notes_tokens, MAX(w->piece.tokens / NOTES_SHARE, 1U))) < 0)
                        fail(s, ERROR_FAILED);
                return true;
        }
        if (s->done < s->n_works)
                return false;
        join_notes(s);
        return true;
}

bool summarize_run(struct summarize *s) {
        switch (s->step) {
        case STEP_COUNT:
                run_count(s);
                return true;
        case STEP_SPLIT:
                run_split(s);
                return true;
        case STEP_ROUND:
                return run_round(s);
        case STEP_FINAL:
                return false;
        case STEP_END:
                if (s->in_flight == 0)
                        end(s);
                return false;
        }
        return false;
}

void summarize_cancel(struct summarize *s) {
        fail(s, ERROR_CANCELLED);
}

void summarize_pause(struct summarize *s, bool pause) {
        s->paused = pause;
        for (size_t i = 0; i < s->n_works; i++)
                if (s->works[i].generation)
                        scheduler_pause(s->request.scheduler, s->works[i].generation, pause);
        if (s->final.generation)
                scheduler_pause(s->request.scheduler, s->final.generation, pause);
}

void summarize_set_background(struct summarize *s, bool background) {
        struct scheduler *to = s->request.scheduler;

        s->request.background = background;
        for (size_t i = 0; i < s->n_works; i++)
                if (s->works[i].generation)
                        scheduler_set_background(to, s->works[i].generation, background);
        if (s->final.generation)
                scheduler_set_background(to, s->final.generation, background);
}
