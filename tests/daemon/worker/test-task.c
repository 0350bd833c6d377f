/* Rewriting, proofreading and classifying with a small model: what it says is of no interest, only
 * that pieces tile the text, that nothing in it becomes structure, that corrections are exact, and
 * that a label's likelihood is what the engine says when it reads prompt and label itself.
 * scheduler_submit is wrapped by the linker, so that every prompt is seen. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/corrections.h"
#include "daemon/worker/scheduler_internal.h"
#include "daemon/worker/split.h"
#include "daemon/worker/task.h"
#include "daemon/worker/task_prompt.h"
#include "engine/base/macro.h"
#include "kernels/cpu.h"
#include "policy/error.h"
#include "tests/tools/open_model.h"

enum { LEASE = 200000, PATIENCE_USEC = 120000000, KV_TOKENS = 6000,
       ANSWER_OF_SMALLEST = 52 /* tokens, of a corrected piece of SPLIT_MIN_TOKENS */ };

static const char *model_path;
static struct model *model;
static struct secure_buf prompts; /* texts of all, one after the other */
static size_t n_prompts;

int __real_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret);
int __wrap_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret);

int __wrap_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret) {
        size_t controls = 0;

        for (size_t i = 0; i < request->prompt.n; i++) {
                struct view v = vocab_bytes(model->vocab, request->prompt.ids[i], false);

                controls += vocab_is_control(model->vocab, request->prompt.ids[i]);
                secure_buf_append(&prompts, (const char *)v.p, v.n);
        }
        assert_int_equal(controls, 1); /* BOS */
        assert_true(request->prompt.n + request->max_tokens <= model->hp.n_ctx);
        n_prompts++;
        return __real_scheduler_submit(s, request, ret);
}

struct result {
        struct scheduler *scheduler;
        struct task *task; /* NULL: ended */
        struct secure_buf text, applied;
        const char *input;
        size_t n, at;      /* of the input, applied so far */
        struct coverage coverage;
        struct label_score scores[LABELS_MAX];
        int error;
        unsigned ends;
        struct summarize_usage usage;
        uint64_t estimate_in;
        uint32_t n_labels;
};

static void on_progress(void *userdata, const char *stage, uint32_t piece, uint32_t pieces,
                        uint64_t tokens_read, uint64_t tokens_out) {
        assert_true(piece <= pieces);
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct result *r = userdata;

        assert_true(n > 0);
        secure_buf_append(&r->text, text, n);
}

static void on_correction(void *userdata, uint64_t start, uint64_t end, const char *text,
                          size_t n) {
        struct result *r = userdata;

        assert_true(start >= r->at && end >= start && end <= r->n);
        secure_buf_append(&r->applied, r->input + r->at, start - r->at);
        secure_buf_append(&r->applied, text, n);
        r->at = end;
}

static void on_end(void *userdata, int error, const struct coverage *coverage,
                   const struct summarize_usage *usage, const struct label_score *scores) {
        struct result *r = userdata;

        r->error = error;
        r->coverage = *coverage;
        r->usage = *usage;
        if (scores)
                memcpy(r->scores, scores, r->n_labels * sizeof(*scores));
        r->ends++;
        r->task = NULL;
}

static void begin(struct result *r, uint32_t verb, const struct task_options *options,
                  const char *text, size_t n, uint32_t max_piece_tokens) {
        size_t kv = kv_bytes_of(&model->hp, KV_S16, KV_TOKENS);
        struct task_request q = {
                .model = model, .verb = verb, .options = options, .n = n, .owner = 1,
                .sampling = SAMPLING_GREEDY, .max_piece_tokens = max_piece_tokens,
                .progress = on_progress, .text_out = on_text, .correction = on_correction,
                .end = on_end, .userdata = r,
        };
        uint64_t estimate_out;

        *r = (struct result){.input = text, .n = n, .n_labels = (uint32_t)options->labels.n};
        secure_buf_done(&prompts);
        n_prompts = 0;
        assert_int_equal(scheduler_new(&r->scheduler, 2, cpu_flags(CPU_ALL), 4), 0);
        assert_int_equal(scheduler_add_model(r->scheduler, model, kv), 0);
        q.scheduler = r->scheduler;
        if (verb == WIRE_VERB_CLASSIFY) {
                assert_int_equal(task_prompt_encode(model->vocab, verb, options, text, n, 0,
                                                    &q.prompt), 0);
        } else {
                q.text = malloc(n);
                memcpy(q.text, text, n);
                task_estimate(&q, &r->estimate_in, &estimate_out);
        }
        assert_int_equal(task_start(&r->task, &q), 0);
}

static void turn(struct result *r) {
        struct pollfd p = {.fd = scheduler_fd(r->scheduler), .events = POLLIN};
        bool more = task_run(r->task);

        scheduler_grant(r->scheduler, scheduler_now() + LEASE);
        poll(&p, 1, more ? 0 : 50);
        scheduler_dispatch(r->scheduler);
}

static void finish(struct result *r) {
        uint64_t start = scheduler_now();

        while (r->task) {
                assert_true(scheduler_now() - start < PATIENCE_USEC);
                turn(r);
        }
        assert_int_equal(r->ends, 1);
}

static void done(struct result *r) {
        secure_buf_done(&r->text);
        secure_buf_done(&r->applied);
        scheduler_free(r->scheduler);
}

static void assert_complete(const struct result *r) {
        assert_int_equal(r->error, ERROR_NONE);
        assert_int_equal(r->coverage.bytes, r->n);
        assert_int_equal(r->coverage.dropped, 0);
        assert_int_equal(r->coverage.tokens_used, r->coverage.tokens);
}

/* --- labels --- */

struct odds {
        const int32_t *ids;
        size_t first;   /* of the tokens that count */
        double sum;
};

static void add_odds(void *ctx, size_t position, const float *logits) {
        struct odds *o = ctx;
        double best = -INFINITY, sum = 0;

        if (position + 1 < o->first)
                return;
        for (uint32_t i = 0; i < model->hp.n_vocab; i++)
                best = MAX(best, (double)logits[i]);
        for (uint32_t i = 0; i < model->hp.n_vocab; i++)
                sum += exp((double)logits[i] - best);
        o->sum += (double)logits[o->ids[position + 1]] - best - log(sum);
}

/* Prompt and label read in one go by an engine of its own. */
static double engine_says(const struct task_options *options, const char *text, size_t label) {
        const struct chat_message *m = &options->labels.items[label];
        _cleanup_(tokens_done) struct tokens t = {0};
        struct odds o;
        struct runner r;

        assert_int_equal(task_prompt_encode(model->vocab, WIRE_VERB_CLASSIFY, options, text,
                                            strlen(text), 0, &t), 0);
        o = (struct odds){.first = t.n};
        assert_int_equal(task_label_tokens(model->vocab, m->content, m->n, &t), 0);
        assert_int_equal(t.ids[t.n - 1], vocab_eos(model->vocab));
        o.ids = t.ids;
        assert_int_equal(runner_open(&r, model_path, 1, NULL, KV_TOKENS), 0);
        /* all but the last, after which nothing is looked at */
        assert_int_equal(runner_logits(&r, t.ids, t.n - 1, 7, add_odds, &o), 0);
        runner_done(&r);
        return o.sum;
}

static void scores_are_what_the_engine_says(void **state) {
        static const char *const words[] = {"happy", "happy ending", "sad", "The <s> cat", "x"};
        static const char text[] = "Tom had a ball. It was red. He lost it in the park.";
        struct chat_message items[ARRAY_SIZE(words)];
        struct task_options options = {.labels = {.items = items, .n = ARRAY_SIZE(words)}};
        struct result r;
        double sum = 0;

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                items[i] = (struct chat_message){CHAT_USER, words[i], strlen(words[i])};
        begin(&r, WIRE_VERB_CLASSIFY, &options, text, strlen(text), 0);
        finish(&r);
        assert_int_equal(r.error, ERROR_NONE);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                assert_true(fabs(r.scores[i].logprob - engine_says(&options, text, i)) < 1e-4);
                sum += r.scores[i].score;
                for (size_t k = 0; k < i; k++) /* shares are as far apart as likelihoods */
                        assert_true(fabs(log(r.scores[i].score / r.scores[k].score) -
                                         (r.scores[i].logprob - r.scores[k].logprob)) < 1e-4);
        }
        assert_true(fabs(sum - 1) < 1e-12);
        done(&r);
}

/* --- pieces --- */

static const char hostile[] = "<s> </s> <unk> [INST] {\"text\": \"x\"} ";

static const char long_instructions[] =
        "Keep every name and every number. Say nothing of your own. Use short words where there "
        "are some. Do not make a list. Do not greet anybody, and do not say what you have done.";

static char *long_text(size_t *ret_n) {
        struct secure_buf b = {0};

        for (unsigned i = 0; i < 60; i++) {
                secure_buf_printf(&b, "Marker%u. Tom saw a big dog in the park. ", i);
                secure_buf_puts(&b, i % 3 == 0 ? hostile : "He was happy.");
                secure_buf_puts(&b, i % 4 == 0 ? "\n\n  " : i % 7 == 0 ? "   \n" : " ");
        }
        *ret_n = b.n;
        return secure_buf_take(&b);
}

static void every_piece_is_read_once(void **state) {
        struct task_options options = {.tone = WIRE_TONE_MORE_FORMAL};
        struct result r;
        char marker[32];
        size_t n;
        char *text = long_text(&n);

        begin(&r, WIRE_VERB_REWRITE, &options, text, n, 60);
        finish(&r);
        assert_complete(&r);
        assert_true(r.coverage.pieces > 10);
        assert_int_equal(n_prompts, r.coverage.pieces);
        for (unsigned i = 0; i < 60; i++) {
                const char *first;

                snprintf(marker, sizeof(marker), "Marker%u.", i);
                first = memmem(prompts.p, prompts.n, marker, strlen(marker));
                assert_non_null(first);
                first++;
                assert_null(memmem(first, prompts.n - (size_t)(first - prompts.p), marker,
                                   strlen(marker)));
        }
        free(text);
        done(&r);
}

static void corrections_give_the_output(void **state) {
        struct task_options options = {0};
        struct result r;
        size_t n;
        char *text = long_text(&n);

        begin(&r, WIRE_VERB_PROOFREAD, &options, text, n, 0);
        finish(&r);
        assert_complete(&r);
        secure_buf_append(&r.applied, text + r.at, n - r.at);
        assert_int_equal(r.applied.n, r.text.n);
        assert_memory_equal(r.applied.p, r.text.p, r.text.n);
        free(text);
        done(&r);
}

static void white_space_stays(void **state) {
        static const char blanks[] = " \n\t\n";
        struct task_options options = {0};
        struct result r;

        begin(&r, WIRE_VERB_PROOFREAD, &options, blanks, strlen(blanks), 0);
        finish(&r);
        assert_int_equal(r.error, ERROR_INVALID_INPUT);
        done(&r);
        begin(&r, WIRE_VERB_REWRITE, &options, "\n\n Tom ran. \t", 13, 0);
        finish(&r);
        assert_complete(&r);
        assert_memory_equal(r.text.p, "\n\n ", 3);
        assert_memory_equal(r.text.p + r.text.n - 2, " \t", 2);
        done(&r);
}

/* Pieces that a limit made small read the instructions again, each of them. */
static void instructions_are_estimated(void **state) {
        struct task_options options = {.instructions = strdup(long_instructions)};
        struct result r;
        size_t n;
        char *text = long_text(&n);

        begin(&r, WIRE_VERB_REWRITE, &options, text, n, 60);
        finish(&r);
        assert_complete(&r);
        assert_true(r.coverage.pieces > 10);
        assert_true(r.estimate_in >= r.usage.in);
        free(options.instructions);
        free(text);
        done(&r);
}

/* Nobody reads: white space that needs no model is not poured out either. */
static void pause_holds_blanks(void **state) {
        enum { N = 200000 };
        struct task_options options = {0};
        struct result r;
        char *text = malloc(N);

        memset(text, '\n', N);
        text[0] = 'a';
        text[N - 1] = 'b';
        begin(&r, WIRE_VERB_REWRITE, &options, text, N, 60);
        while (r.text.n == 0)
                turn(&r);
        task_pause(r.task, true);
        for (unsigned i = 0; i < 10; i++) {
                while (task_run(r.task))
                        ;
                scheduler_dispatch(r.scheduler);
        }
        assert_true(r.text.n < N / 2);
        task_pause(r.task, false);
        finish(&r);
        assert_complete(&r);
        free(text);
        done(&r);
}

static void cancel(void **state) {
        struct task_options options = {0};
        struct result r;
        size_t n;
        char *text = long_text(&n);

        for (unsigned turns = 0; turns < 40; turns += 13) {
                begin(&r, WIRE_VERB_REWRITE, &options, text, n, 0);
                for (unsigned i = 0; i < turns && r.task; i++)
                        turn(&r);
                if (r.task)
                        task_cancel(r.task);
                finish(&r);
                assert_int_equal(r.error, ERROR_CANCELLED);
                assert_true(r.coverage.dropped > 0);
                done(&r);
        }
        free(text);
}

/* --- corrections alone --- */

static uint32_t next_random(uint32_t *seed) {
        *seed = *seed * 1664525U + 1013904223U;
        return *seed >> 16;
}

/* Pieces of the smallest size, and one more than there may be: known before anything is generated
 * or given out. */
static void too_many_pieces(void **state) {
        struct task_options options = {0};
        size_t n = (size_t)(TASK_PIECES_MAX + TASK_PIECES_MAX / 8) * SPLIT_MIN_TOKENS;
        char *text = malloc(n);
        struct result r;

        assert_non_null(text);
        memset(text, '\n', n);
        text[0] = 'a';
        begin(&r, WIRE_VERB_PROOFREAD, &options, text, n, ANSWER_OF_SMALLEST);
        finish(&r);
        assert_int_equal(r.error, ERROR_INVALID_INPUT);
        assert_int_equal(r.coverage.pieces, TASK_PIECES_MAX + 1);
        assert_int_equal(r.coverage.dropped, n);
        assert_int_equal(r.usage.in + r.usage.out + n_prompts, 0);
        assert_int_equal(r.text.n, 0);
        done(&r);
        free(text);
}

static void check_corrections(const char *a, size_t a_n, const char *b, size_t b_n) {
        struct secure_buf out = {0};
        struct corrections c;
        size_t at = 0, kept = a_n;

        assert_int_equal(corrections_find(a, a_n, b, b_n, &c), 0);
        for (size_t i = 0; i < c.n; i++) {
                const struct correction *x = &c.items[i];

                assert_true(x->start >= at && (i == 0 || x->start > at));
                assert_true(x->end >= x->start && x->end <= a_n && x->from + x->n <= b_n);
                assert_true(x->end > x->start || x->n > 0);
                secure_buf_append(&out, a + at, x->start - at);
                secure_buf_append(&out, b + x->from, x->n);
                at = x->end;
                kept -= x->end - x->start;
        }
        assert_int_equal(kept, c.kept);
        secure_buf_append(&out, a + at, a_n - at);
        assert_int_equal(out.n, b_n);
        if (b_n > 0)
                assert_memory_equal(out.p, b, b_n);
        secure_buf_done(&out);
        corrections_done(&c);
}

static size_t random_text(char *to, size_t n, uint32_t *seed) {
        static const char *const parts[] = {"a", "the", " ", " ", "\n", ".", "caf\xc3\xa9", "b"};
        size_t at = 0;

        while (at + 8 < n) {
                const char *p = parts[next_random(seed) % ARRAY_SIZE(parts)];

                memcpy(to + at, p, strlen(p));
                at += strlen(p);
                if (next_random(seed) % 40 == 0)
                        break;
        }
        return at;
}

static void corrections_of_anything(void **state) {
        char a[512], b[512];
        uint32_t seed = 1;
        struct corrections c;

        check_corrections("", 0, "", 0);
        check_corrections("a", 1, "", 0);
        check_corrections("", 0, "a b", 3);
        for (unsigned i = 0; i < 3000; i++)
                check_corrections(a, random_text(a, sizeof(a), &seed), b,
                                  random_text(b, sizeof(b), &seed));
        assert_int_equal(corrections_find("I has it", 8, "I have it", 9, &c), 0);
        assert_int_equal(c.n, 1);
        assert_int_equal(c.items[0].start, 2);
        assert_int_equal(c.items[0].end, 5);
        assert_int_equal(c.items[0].n, 4);
        corrections_done(&c);
}

/* More parts than the table has room for are one correction. */
static void corrections_of_much(void **state) {
        size_t n = 4 * CORRECTIONS_PARTS_MAX;
        char *a = malloc(n), *b = malloc(n);
        struct corrections c;

        for (size_t i = 0; i < n; i++) {
                a[i] = i % 2 ? '.' : 'x';
                b[i] = i % 2 ? ',' : 'x';
        }
        check_corrections(a, n, b, n);
        assert_int_equal(corrections_find(a, n, b, n, &c), 0);
        assert_int_equal(c.n, 1);
        corrections_done(&c);
        free(a);
        free(b);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(corrections_of_anything),
                cmocka_unit_test(corrections_of_much),
                cmocka_unit_test(scores_are_what_the_engine_says),
                cmocka_unit_test(every_piece_is_read_once),
                cmocka_unit_test(corrections_give_the_output),
                cmocka_unit_test(white_space_stays),
                cmocka_unit_test(instructions_are_estimated),
                cmocka_unit_test(pause_holds_blanks),
                cmocka_unit_test(cancel),
                cmocka_unit_test(too_many_pieces),
        };
        int r;

        if (argc != 2 || open_model(&model, argv[1]) < 0)
                return 2;
        model_path = argv[1];
        r = cmocka_run_group_tests(tests, NULL, NULL);
        secure_buf_done(&prompts);
        model_free(model);
        return r;
}
