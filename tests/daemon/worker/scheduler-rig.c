/* Callbacks check what holds for every generation: text comes whole, progress never goes back, who
 * was told to give way is told of its end. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/grammar/constraint.h"
#include "kernels/cpu.h"
#include "tests/daemon/worker/scheduler-rig.h"

struct model *model;
const char *const beginnings[BEGINNINGS] = {
        "Once upon a time", "Tom had a red ball.", "The dog", "One day, a little girl named Lily",
        "It was raining", "\"Mom, look!\"", "A bird sat on", "They lived in a big house",
        "Sam and Anna were", "The cat did not", "In the park there was", "Every night",
};

static void on_text(void *userdata, const char *text, size_t n) {
        struct result *r = userdata;

        assert_true(n > 0);
        secure_buf_append(&r->text, text, n);
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct result *r = userdata;

        assert_true(tokens_read >= r->read && tokens_out >= r->out);
        r->read = tokens_read;
        r->out = tokens_out;
        if (r->cancel_at_out > 0 && tokens_out >= r->cancel_at_out)
                scheduler_cancel(r->s, r->g);
}

static void on_held(void *userdata, bool held) {
        struct result *r = userdata;

        assert_int_equal(r->held - r->freed, !held);
        r->held += held;
        r->freed += !held;
}

void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct result *r = userdata;

        r->finish = finish;
        r->out = usage->out;
        r->cached = usage->cached;
        r->ends++;
        r->g = NULL;
        if (r->ended_before)
                r->order = (*r->ended_before)++;
}

struct scheduler *new_scheduler(uint32_t max_sequences, size_t kv_tokens) {
        struct scheduler *s = NULL;

        assert_int_equal(scheduler_new(&s, 2, cpu_flags(CPU_ALL), max_sequences), 0);
        assert_int_equal(scheduler_add_model(s, model, kv_bytes_of(&model->hp, KV_S16, kv_tokens)),
                         0);
        return s;
}

/* An array of three strings of up to 20 characters. */
static struct constraint *three_strings(void) {
        static struct token_trie *trie;
        struct grammar *g;
        struct constraint *c;
        uint32_t string;

        if (!trie)
                assert_int_equal(token_trie_new(&trie, model->vocab), 0);
        assert_int_equal(grammar_new(&g), 0);
        assert_int_equal(grammar_add_node(g, &g->root), 0);
        assert_int_equal(grammar_add_node(g, &string), 0);
        assert_int_equal(grammar_add_string(g, string, (struct string_rule){ 1, 20 }), 0);
        assert_int_equal(grammar_add_array(g, g->root, (struct array_rule){ .others = string,
                                                                            .min = 3, .max = 3 }),
                         0);
        assert_int_equal(constraint_new(&c, g, trie, model->hp.n_vocab), 0);
        return c;
}

int submit(struct scheduler *s, struct result *r, const char *text, uint32_t max_tokens,
                  bool background) {
        struct generation_request request = {
                .model = model, .owner = r->owner, .client = r->client, .user = r->user,
                .max_tokens = max_tokens,
                .sampling = SAMPLING_GREEDY, .ignore_end = true, .background = background,
                .bulk = r->bulk, .text = on_text, .progress = on_progress, .held = on_held,
                .end = on_end, .userdata = r,
        };
        int error;

        r->s = s;
        assert_int_equal(tokens_push(&request.prompt, vocab_bos(model->vocab)), 0);
        assert_int_equal(vocab_encode(model->vocab, text, strlen(text), false, 0,
                                      &request.prompt), 0);
        r->prompt_n = (uint32_t)request.prompt.n;
        if (r->constrained)
                request.constraint = three_strings();
        error = scheduler_submit(s, &request, &r->g);
        if (error < 0)
                tokens_done(&request.prompt);
        constraint_free(request.constraint);
        return error;
}

bool wait_event(struct scheduler *s, int ms) {
        struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};

        if (poll(&p, 1, ms) <= 0)
                return false;
        scheduler_dispatch(s);
        return true;
}

void must_wait_event(struct scheduler *s) {
        assert_true(wait_event(s, PATIENCE_MS));
}

void few_steps(struct scheduler *s) {
        scheduler_grant(s, scheduler_now() + SHORT_LEASE);
        must_wait_event(s);
}

void finish(struct scheduler *s, const struct result *r) {
        uint64_t begin = scheduler_now();

        while (r->ends == 0) {
                assert_true(scheduler_now() - begin < PATIENCE_MS * UINT64_C(1000));
                scheduler_grant(s, scheduler_now() + LEASE);
                wait_event(s, 50);
        }
        assert_int_equal(r->ends, 1);
}

void finish_slowly(struct scheduler *s, const struct result *r) {
        while (r->ends == 0)
                few_steps(s);
        assert_int_equal(r->ends, 1);
}

void done(struct result *r) {
        secure_buf_done(&r->text);
}
