/* Logits of small BitNet models against an independent float64 forward pass ("ref") and against
 * bitnet.cpp ("batch"). argv: the directory of the unpacked data, the list of sequences.
 *
 * Tolerances are those of the data's own notes. Rounding to int8 turns differences of 1e-7 into
 * whole steps, so only the first position is close; later ones are judged by the spread that
 * bitnet.cpp has against itself, over the whole sequence. With 16-bit keys and values none is
 * close, and a sequence of one token has too few to judge its rms: that is judged over all. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "tests/tools/open_model.h"

enum { MAX_TOKENS = 256 };

struct golden_model {
        const char *name;
        double batch_first;  /* largest difference to "batch" at position 0, several tokens */
        double rms, cosine;  /* of later positions, to either */
};

static const double CLOSE = 2e-5;

static const struct golden_model models[] = {
        {"small-i2_s-f16emb", 4e-4, 0.02, 0.998},
        {"tiny1-i2_s-f32emb", 2e-5, 0.008, 0.9997},
};

struct result {
        size_t n_vocab;
        float *logits; /* [tokens][n_vocab] */
};

static void keep(void *ctx, size_t position, const float *logits) {
        struct result *r = ctx;

        memcpy(r->logits + position * r->n_vocab, logits, r->n_vocab * sizeof(*logits));
}

/* Sums over the differences of logits a from logits b. */
struct spread {
        double worst; /* at the first position of a sequence */
        double squares, ab, aa, bb;
        size_t n;
};

static void spread_add(struct spread *s, const float *a, const float *b, size_t n, size_t n_vocab) {
        for (size_t i = 0; i < n_vocab; i++)
                s->worst = fmax(s->worst, fabs((double)a[i] - (double)b[i]));
        for (size_t i = 0; i < n * n_vocab; i++) {
                double x = (double)a[i], y = (double)b[i];

                s->squares += (x - y) * (x - y);
                s->ab += x * y;
                s->aa += x * x;
                s->bb += y * y;
        }
        s->n += n * n_vocab;
}

/* Says what was measured when it is too much. */
static bool spread_within(const struct spread *s, const char *what, double first, double rms_limit,
                          double cosine_limit) {
        double rms = sqrt(s->squares / (double)s->n), cosine = s->ab / sqrt(s->aa * s->bb);

        if (s->worst <= first && rms < rms_limit && cosine > cosine_limit)
                return true;
        fprintf(stderr, "%s: first position off by %.3g (limit %.3g), rms %.3g (%.3g),"
                        " cosine %.6f (%.6f)\n",
                what, s->worst, first, rms, rms_limit, cosine, cosine_limit);
        return false;
}

/* A model against its files. */
struct golden {
        const char *dir;
        const struct golden_model *g;
        enum kv_form form;
        struct spread all[2]; /* over all sequences, to "ref" and to "batch" */
};

static bool check_file(struct golden *t, const char *sequence, bool batch, const float *logits,
                       size_t n, size_t n_vocab) {
        const struct golden_model *g = t->g;
        double first = !batch || n == 1 ? CLOSE : g->batch_first, rms = n == 1 ? CLOSE : g->rms;
        struct spread spread = {0};
        char path[512];
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        snprintf(path, sizeof(path), "%s/%s.%s.%s.f32", t->dir, g->name, sequence,
                 batch ? "batch" : "ref");
        if (read_file(path, &data, &size) < 0)
                return false;
        if (size != n * n_vocab * sizeof(float)) {
                fprintf(stderr, "%s: %zu bytes, expected %zu\n", path, size,
                        n * n_vocab * sizeof(float));
                return false;
        }
        spread_add(&spread, logits, (const float *)(const void *)data, n, n_vocab);
        spread_add(&t->all[batch], logits, (const float *)(const void *)data, n, n_vocab);
        if (t->form != KV_F16)
                first = rms = INFINITY;
        return spread_within(&spread, path, first, rms, g->cosine);
}

/* One line "NAME id id ..." of the list, all tokens in one step and one by one. */
static bool check_sequence(struct golden *t, struct runner *r, char *line) {
        char *save = NULL, *name = strtok_r(line, " \n", &save);
        size_t n = 0, n_vocab = r->model->hp.n_vocab;
        int32_t ids[MAX_TOKENS];
        struct result result;
        bool ok = true;

        for (char *id; n < MAX_TOKENS && (id = strtok_r(NULL, " \n", &save));)
                ids[n++] = (int32_t)strtol(id, NULL, 10);
        result = (struct result){n_vocab, calloc(n * n_vocab, sizeof(float))};
        for (size_t chunk = 1; ok && chunk <= n; chunk += n > 1 ? n - 1 : 1) {
                ok = result.logits && runner_logits(r, ids, n, chunk, keep, &result) >= 0 &&
                     check_file(t, name, false, result.logits, n, n_vocab) &&
                     check_file(t, name, true, result.logits, n, n_vocab);
        }
        free(result.logits);
        return ok;
}

static bool check_model(const char *dir, const struct golden_model *g, const char *list,
                        enum ternary_packing ternary, enum kv_form form) {
        struct golden t = {.dir = dir, .g = g, .form = form};
        char path[512], line[4096];
        struct model *model;
        struct runner r;
        size_t lines = 0;
        bool ok = true;
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s.gguf", dir, g->name);
        f = fopen(list, "re");
        if (!f || open_model_as(&model, path, ternary) < 0 ||
            runner_start(&r, model, 2, NULL, form, MAX_TOKENS) < 0) {
                perror(list);
                return false;
        }
        for (; fgets(line, sizeof(line), f); lines++)
                ok = check_sequence(&t, &r, line) && ok;
        fclose(f);
        runner_done(&r);
        for (size_t i = 0; i < ARRAY_SIZE(t.all); i++) {
                snprintf(path, sizeof(path), "%s, %s", g->name, i ? "batch" : "ref");
                ok = spread_within(&t.all[i], path, INFINITY, g->rms, g->cosine) && ok;
        }
        printf("%s: %zu sequences, rms %.4f and %.4f\n", g->name, lines,
               sqrt(t.all[0].squares / (double)t.all[0].n),
               sqrt(t.all[1].squares / (double)t.all[1].n));
        return ok && lines == 14;
}

int main(int argc, char **argv) {
        bool ok = argc == 3;

        for (size_t i = 0; ok && i < ARRAY_SIZE(models); i++)
                ok = check_model(argv[1], &models[i], argv[2], TERNARY_2_BITS, KV_F16) &&
                     check_model(argv[1], &models[i], argv[2], TERNARY_BASE_3, KV_F16) &&
                     check_model(argv[1], &models[i], argv[2], TERNARY_2_BITS, KV_S16);
        return ok ? 0 : 1;
}
