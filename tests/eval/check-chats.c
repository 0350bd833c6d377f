/* check-chats MODEL GOLDEN.json: chats with greedy answers that were computed in float32.
 *
 * The answer is fed in as it stands; at each of its tokens our best token must be the golden one,
 * or one of the golden five highest less than MARGIN below the best: int8 activations may swap
 * tokens that float32 saw nearly level, and nothing else. */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "tests/tools/open_model.h"

static const double MARGIN = 0.5;

struct chat {
        const json_t *top5; /* per answer token: [[id, logit], ...], best first */
        size_t n_prompt, n_vocab;
        size_t same, close, wrong;
};

/* How far below the golden best a token lies, or far more than MARGIN when it is not listed. */
static double gap_of(const json_t *five, int32_t token) {
        double best = json_number_value(json_array_get(json_array_get(five, 0), 1));

        for (size_t i = 0; i < json_array_size(five); i++) {
                const json_t *pair = json_array_get(five, i);

                if (json_integer_value(json_array_get(pair, 0)) == token)
                        return best - json_number_value(json_array_get(pair, 1));
        }
        return 1e9;
}

static void judge(void *ctx, size_t position, const float *logits) {
        struct chat *c = ctx;
        const json_t *five;
        size_t best = 0, step;
        double gap;

        if (position + 1 < c->n_prompt)
                return;
        step = position + 1 - c->n_prompt;
        five = json_array_get(c->top5, step);
        for (size_t i = 1; i < c->n_vocab; i++)
                if (logits[i] > logits[best])
                        best = i;
        gap = gap_of(five, (int32_t)best);
        c->same += gap == 0;
        c->close += gap > 0 && gap < MARGIN;
        if (gap < MARGIN)
                return;
        c->wrong++;
        fprintf(stderr, "answer token %zu: our best is %zu, %g below the golden best\n", step, best,
                gap);
}

static size_t append_ids(int32_t *ids, size_t n, const json_t *list) {
        for (size_t i = 0; i < json_array_size(list); i++)
                ids[n++] = (int32_t)json_integer_value(json_array_get(list, i));
        return n;
}

static bool check_chat(struct runner *r, const json_t *entry) {
        const json_t *prompt = json_object_get(entry, "prompt_ids"),
                     *answer = json_object_get(entry, "greedy_ids");
        size_t n = json_array_size(prompt) + json_array_size(answer);
        _cleanup_free_ int32_t *ids = calloc(n + 1, sizeof(*ids));
        struct chat c = {.top5 = json_object_get(entry, "top5"),
                         .n_prompt = json_array_size(prompt),
                         .n_vocab = r->model->hp.n_vocab};
        int k;

        if (!ids || json_array_size(answer) == 0 ||
            json_array_size(c.top5) != json_array_size(answer))
                return false;
        append_ids(ids, append_ids(ids, 0, prompt), answer);
        k = runner_logits(r, ids, n - 1, ENGINE_MAX_ROWS, judge, &c);
        printf("%zu answer tokens: %zu the same, %zu nearly level, %zu wrong\n",
               json_array_size(answer), c.same, c.close, c.wrong);
        return k >= 0 && c.wrong == 0 && c.same + c.close == json_array_size(answer);
}

int main(int argc, char **argv) {
        json_error_t error;
        struct runner r;
        json_t *chats;
        bool ok = true;

        if (argc != 3) {
                fprintf(stderr, "usage: check-chats MODEL GOLDEN.json\n");
                return 64;
        }
        chats = json_load_file(argv[2], 0, &error);
        if (!chats || json_array_size(chats) == 0) {
                fprintf(stderr, "%s: %s\n", argv[2], chats ? "no chats" : error.text);
                return 1;
        }
        if (runner_open(&r, argv[1], 2, NULL, 1024) < 0)
                return 1;
        for (size_t i = 0; i < json_array_size(chats); i++)
                ok = check_chat(&r, json_array_get(chats, i)) && ok;
        runner_done(&r);
        json_decref(chats);
        return ok ? 0 : 1;
}
