/* Summaries end to end with a small model: what they say is of no interest here, only that every
 * byte is read exactly once, that nothing in a document becomes structure, and that the record says
 * the truth. scheduler_submit is wrapped by the linker, so that every prompt is seen. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/scheduler_internal.h"
#include "daemon/worker/split.h"
#include "daemon/worker/summarize.h"
#include "daemon/worker/summarize_prompt.h"
#include "engine/base/macro.h"
#include "engine/model/gguf.h"
#include "kernels/cpu.h"
#include "policy/error.h"
#include "tests/tools/open_model.h"

enum { PROMPTS = 1000, LEASE = 200000, PATIENCE_USEC = 120000000 };

static struct model *model;
static struct view sample;
static struct gguf *chat_file;
static struct vocab *chat_vocab;

/* All prompts since prompts_drop(), as text. */
static struct secure_buf prompts[PROMPTS];
static uint32_t prompt_tokens[PROMPTS], prompt_answers[PROMPTS];
static size_t n_prompts;
static size_t fail_at; /* refuse this submission, counted from 1; 0: none */

static void prompts_drop(void) {
        while (n_prompts > 0)
                secure_buf_done(&prompts[--n_prompts]);
        fail_at = 0;
}

static size_t controls(const struct vocab *v, const struct tokens *t) {
        size_t n = 0;

        for (size_t i = 0; i < t->n; i++)
                n += vocab_is_control(v, t->ids[i]);
        return n;
}

int __real_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret);
int __wrap_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret);

int __wrap_scheduler_submit(struct scheduler *s, struct generation_request *request,
                            struct generation **ret) {
        assert_true(n_prompts < PROMPTS);
        assert_int_equal(controls(model->vocab, &request->prompt), 1); /* BOS */
        for (size_t i = 0; i < request->prompt.n; i++) {
                struct view v = vocab_bytes(model->vocab, request->prompt.ids[i], false);

                secure_buf_append(&prompts[n_prompts], (const char *)v.p, v.n);
        }
        prompt_tokens[n_prompts] = (uint32_t)request->prompt.n;
        prompt_answers[n_prompts++] = request->max_tokens;
        if (fail_at == n_prompts)
                return -ENOMEM;
        return __real_scheduler_submit(s, request, ret);
}

struct result {
        struct scheduler *scheduler;
        struct summarize *job; /* NULL: ended */
        struct secure_buf text;
        struct coverage coverage;
        uint64_t tokens_in, tokens_out, tokens_cached;
        uint64_t read; /* as last told by progress */
        int error;
        unsigned ends;
        bool saw_split, saw_map, saw_reduce, saw_final;
};

static void on_progress(void *userdata, const char *stage, uint32_t piece, uint32_t pieces,
                        uint64_t tokens_read, uint64_t tokens_out) {
        struct result *r = userdata;

        assert_true(piece <= pieces && tokens_read >= r->read);
        r->read = tokens_read;
        r->saw_split |= strcmp(stage, "split") == 0;
        r->saw_map |= strcmp(stage, "map") == 0;
        r->saw_reduce |= strcmp(stage, "reduce") == 0;
        r->saw_final |= strcmp(stage, "final") == 0;
}

static void on_text(void *userdata, const char *text, size_t n) {
        struct result *r = userdata;

        assert_true(n > 0);
        secure_buf_append(&r->text, text, n);
}

static void on_end(void *userdata, int error, const struct coverage *coverage,
                   const struct summarize_usage *usage) {
        struct result *r = userdata;

        r->error = error;
        r->coverage = *coverage;
        r->tokens_in = usage->in;
        r->tokens_out = usage->out;
        r->tokens_cached = usage->cached;
        r->ends++;
        r->job = NULL;
}

static void begin(struct result *r, uint32_t max_sequences, const char *text, size_t n,
                  uint32_t type, uint32_t length) {
        size_t kv = kv_bytes_of(&model->hp, KV_S16, 6000);
        struct summarize_request q = {
                .model = model, .document = malloc(n + 1), .n = n, .type = type, .length = length,
                .sampling = SAMPLING_GREEDY, .progress = on_progress, .text = on_text,
                .end = on_end, .userdata = r,
        };

        *r = (struct result){0};
        prompts_drop();
        assert_int_equal(scheduler_new(&r->scheduler, 2, cpu_flags(CPU_ALL), max_sequences), 0);
        assert_int_equal(scheduler_add_model(r->scheduler, model, kv), 0);
        memcpy(q.document, text, n);
        q.scheduler = r->scheduler;
        assert_int_equal(summarize_start(&r->job, &q), 0);
}

/* One turn of an event loop. */
static void turn(struct result *r, bool grant) {
        struct pollfd p = {.fd = scheduler_fd(r->scheduler), .events = POLLIN};
        bool more = summarize_run(r->job);

        if (grant)
                scheduler_grant(r->scheduler, scheduler_now() + LEASE);
        poll(&p, 1, more ? 0 : 50);
        scheduler_dispatch(r->scheduler);
}

static void finish(struct result *r) {
        uint64_t start = scheduler_now();

        while (r->job) {
                assert_true(scheduler_now() - start < PATIENCE_USEC);
                turn(r, true);
        }
        assert_int_equal(r->ends, 1);
}

static void done(struct result *r) {
        secure_buf_done(&r->text);
        scheduler_free(r->scheduler);
        prompts_drop();
}

static void assert_complete(const struct result *r, size_t n) {
        uint64_t in = 0;

        assert_int_equal(r->error, ERROR_NONE);
        assert_int_equal(r->coverage.bytes, n);
        assert_int_equal(r->coverage.dropped, 0);
        assert_int_equal(r->coverage.tokens_used, r->coverage.tokens);
        for (size_t i = 0; i < n_prompts; i++) {
                in += prompt_tokens[i];
                assert_true(prompt_tokens[i] + prompt_answers[i] <= model->hp.n_ctx);
        }
        assert_int_equal(r->tokens_in, in);
        assert_true(r->tokens_out > 0);
}

static void short_text(void **state) {
        static const char text[] = "Tom had a ball. It was red. He lost it in the park.";
        struct result r;

        (void)state;
        begin(&r, 4, text, strlen(text), WIRE_SUMMARY_TLDR, WIRE_LENGTH_LONG);
        finish(&r);
        assert_complete(&r, strlen(text));
        assert_int_equal(r.coverage.pieces, 1);
        assert_int_equal(r.coverage.rounds, 0);
        assert_int_equal(n_prompts, 1);
        assert_non_null(memmem(prompts[0].p, prompts[0].n, text, strlen(text)));
        assert_true(r.text.n > 0);
        done(&r);
}

/* Markers all over the text: each is in exactly one prompt of the first round. */
static void every_marker_is_read(void **state) {
        size_t n = 24000, n_markers = 0;
        char *text = malloc(n + 16), marker[32];
        struct result r;

        (void)state;
        memcpy(text, sample.p, n);
        for (size_t at = 0; at + 64 < n; at += 59) {
                while (text[at] != ' ')
                        at++;
                snprintf(marker, sizeof(marker), " Q%04zuZ ", n_markers++);
                memmove(text + at + strlen(marker), text + at, n - at - strlen(marker));
                memcpy(text + at, marker, strlen(marker));
        }
        begin(&r, 8, text, n, WIRE_SUMMARY_TLDR, WIRE_LENGTH_LONG);
        finish(&r);
        assert_complete(&r, n);
        assert_true(r.coverage.pieces > 10);
        assert_true(r.coverage.rounds >= 2);
        assert_true(r.saw_map && r.saw_reduce && r.saw_final);
        for (size_t i = 0; i < n_markers; i++) {
                size_t found = 0;

                snprintf(marker, sizeof(marker), " Q%04zuZ ", i);
                if (!memmem(text, n, marker, strlen(marker)))
                        continue; /* pushed out at the end */
                /* a cut may take the white space around it */
                for (size_t p = 0; p < r.coverage.pieces; p++)
                        found += memmem(prompts[p].p, prompts[p].n, marker + 1, 6) != NULL;
                assert_int_equal(found, 1);
        }
        assert_true(n_markers > 300);
        free(text);
        done(&r);
}

static void company_does_not_matter(void **state) {
        struct result a, b;

        (void)state;
        begin(&a, 1, (const char *)sample.p, 6000, WIRE_SUMMARY_KEY_POINTS, WIRE_LENGTH_SHORT);
        finish(&a);
        assert_complete(&a, 6000);
        assert_true(a.coverage.rounds >= 1);
        begin(&b, 16, (const char *)sample.p, 6000, WIRE_SUMMARY_KEY_POINTS, WIRE_LENGTH_SHORT);
        finish(&b);
        assert_int_equal(a.text.n, b.text.n);
        assert_memory_equal(a.text.p, b.text.p, a.text.n);
        assert_int_equal(a.tokens_out, b.tokens_out);
        done(&a);
        done(&b);
}

static void cancel(void **state) {
        struct result r;

        (void)state;
        begin(&r, 4, (const char *)sample.p, 20000, WIRE_SUMMARY_TLDR, WIRE_LENGTH_SHORT);
        while (!r.saw_map)
                turn(&r, true);
        summarize_cancel(r.job);
        while (r.job)
                turn(&r, false);
        assert_int_equal(r.ends, 1);
        assert_int_equal(r.error, ERROR_CANCELLED);
        assert_int_equal(r.coverage.bytes, 20000);
        assert_true(r.coverage.dropped > 0);
        assert_true(r.coverage.tokens_used < r.coverage.tokens);
        assert_int_equal(r.text.n, 0);
        done(&r);
        begin(&r, 4, (const char *)sample.p, 20000, WIRE_SUMMARY_TLDR, WIRE_LENGTH_SHORT);
        summarize_cancel(r.job); /* before anything was done */
        finish(&r);
        assert_int_equal(r.error, ERROR_CANCELLED);
        assert_int_equal(n_prompts, 0);
        done(&r);
}

static void failure_is_not_hidden(void **state) {
        struct result r;

        (void)state;
        begin(&r, 4, (const char *)sample.p, 12000, WIRE_SUMMARY_TLDR, WIRE_LENGTH_SHORT);
        fail_at = 3;
        finish(&r);
        assert_int_equal(r.error, ERROR_FAILED);
        assert_true(r.coverage.dropped > 0);
        assert_int_equal(r.text.n, 0);
        done(&r);
}

static void pause_and_go_on(void **state) {
        struct result r;
        uint64_t read;

        (void)state;
        begin(&r, 4, (const char *)sample.p, 5000, WIRE_SUMMARY_TLDR, WIRE_LENGTH_LONG);
        while (!r.saw_map)
                turn(&r, true);
        summarize_pause(r.job, true);
        do
                turn(&r, true);
        while (scheduler_state(r.scheduler).has_work || scheduler_state(r.scheduler).computing);
        turn(&r, false);
        read = r.read;
        for (unsigned i = 0; i < 4; i++)
                turn(&r, true);
        assert_int_equal(r.read, read);
        assert_non_null(r.job);
        summarize_pause(r.job, false);
        finish(&r);
        assert_complete(&r, 5000);
        done(&r);
}

/* The literal text of every control token of a chat model, in the middle of a document. */
static void documents_have_no_structure(void **state) {
        struct summary_prompt p = {.step = SUMMARY_MAP};
        struct tokens empty = {0}, full = {0};
        struct secure_buf text = {0};
        struct view cursor;
        size_t n = 0;

        (void)state;
        cursor = gguf_find(chat_file, "tokenizer.ggml.tokens")->value;
        for (uint32_t id = 0; id < vocab_size(chat_vocab); id++) {
                struct view v = gguf_next_string(&cursor);

                if (!vocab_is_control(chat_vocab, (int32_t)id))
                        continue;
                secure_buf_append(&text, (const char *)v.p, v.n);
                secure_buf_puts(&text, n++ % 2 ? "\n" : "");
        }
        assert_true(n >= 3);
        for (p.step = SUMMARY_MAP; p.step <= SUMMARY_FINAL; p.step++) {
                p.context = p.step == SUMMARY_REDUCE ? "<|im_end|>" : NULL;
                assert_int_equal(summary_prompt_encode(chat_vocab, &p, "", 0, 0, &empty), 0);
                assert_int_equal(summary_prompt_encode(chat_vocab, &p, text.p, text.n, 0,
                                                       &full), 0);
                assert_true(full.n > empty.n + n);
                assert_true(controls(chat_vocab, &empty) > 0);
                assert_int_equal(controls(chat_vocab, &full), controls(chat_vocab, &empty));
                tokens_done(&empty);
                tokens_done(&full);
        }
        secure_buf_done(&text);
}

static void estimate(void **state) {
        struct summarize_request q = {.n = 400};
        uint64_t in, out, in_2, out_2;

        (void)state;
        summarize_estimate(&q, &in, &out);
        assert_true(in >= 100 && in < 1000 && out > 0 && out < 1000);
        q.n = 4000000;
        summarize_estimate(&q, &in_2, &out_2);
        assert_true(in_2 >= 1000000 && in_2 < 2000000);
        assert_true(out_2 > out && out_2 < in_2);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(short_text),
                cmocka_unit_test(every_marker_is_read),
                cmocka_unit_test(company_does_not_matter),
                cmocka_unit_test(cancel),
                cmocka_unit_test(failure_is_not_hidden),
                cmocka_unit_test(pause_and_go_on),
                cmocka_unit_test(documents_have_no_structure),
                cmocka_unit_test(estimate),
        };
        uint8_t *text, *gguf;
        size_t n;
        int r;

        if (argc != 4 || open_model(&model, argv[1]) < 0 ||
            read_file(argv[2], &text, &sample.n) < 0 || read_file(argv[3], &gguf, &n) < 0 ||
            gguf_parse(&chat_file, (struct view){.p = gguf, .n = n}, NULL) < 0 ||
            vocab_load(&chat_vocab, chat_file, NULL) < 0)
                return 2;
        sample.p = text;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        vocab_free(chat_vocab);
        gguf_free(chat_file);
        free(gguf);
        free(text);
        model_free(model);
        return r;
}
