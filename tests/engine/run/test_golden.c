/* Logits of small BitNet models against an independent float64 forward pass ("ref") and against
 * bitnet.cpp ("batch"). argv: the directory of the unpacked data, the list of sequences.
 *
 * Tolerances are those of the data's own notes. Rounding to int8 turns differences of 1e-7 into
 * whole steps, so only the first position is close; later ones are judged by the spread that
 * bitnet.cpp has against itself, over the whole sequence. */
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

/* Whether the logits are close enough; says what was measured when they are not. */
static bool close_enough(const char *what, const float *a, const float *b, size_t n, size_t n_vocab,
                         double first, double rms_limit, double cosine_limit) {
        double worst = 0, squares = 0, ab = 0, aa = 0, bb = 0, rms, cosine;

        for (size_t i = 0; i < n_vocab; i++)
                worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        for (size_t i = 0; i < n * n_vocab; i++) {
                double x = (double)a[i], y = (double)b[i];

                squares += (x - y) * (x - y);
                ab += x * y;
                aa += x * x;
                bb += y * y;
        }
        rms = sqrt(squares / (double)(n * n_vocab));
        cosine = ab / sqrt(aa * bb);
        if (worst <= first && rms < rms_limit && cosine > cosine_limit)
                return true;
        fprintf(stderr, "%s: first position off by %.3g (limit %.3g), rms %.3g (%.3g),"
                        " cosine %.6f (%.6f)\n",
                what, worst, first, rms, rms_limit, cosine, cosine_limit);
        return false;
}

static bool check_file(const char *dir, const struct golden_model *g, const char *sequence,
                       const char *kind, const float *logits, size_t n, size_t n_vocab) {
        bool ref = strcmp(kind, "ref") == 0;
        double first = ref || n == 1 ? CLOSE : g->batch_first;
        char path[512];
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        snprintf(path, sizeof(path), "%s/%s.%s.%s.f32", dir, g->name, sequence, kind);
        if (read_file(path, &data, &size) < 0)
                return false;
        if (size != n * n_vocab * sizeof(float)) {
                fprintf(stderr, "%s: %zu bytes, expected %zu\n", path, size,
                        n * n_vocab * sizeof(float));
                return false;
        }
        return close_enough(path, logits, (const float *)(const void *)data, n, n_vocab, first,
                            n == 1 ? CLOSE : g->rms, g->cosine);
}

/* One line "NAME id id ..." of the list, all tokens in one step and one by one. */
static bool check_sequence(struct runner *r, const char *dir, const struct golden_model *g,
                           char *line) {
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
                     check_file(dir, g, name, "ref", result.logits, n, n_vocab) &&
                     check_file(dir, g, name, "batch", result.logits, n, n_vocab);
        }
        free(result.logits);
        return ok;
}

static bool check_model(const char *dir, const struct golden_model *g, const char *list,
                        enum ternary_packing ternary) {
        char path[512], line[4096];
        struct model *model;
        struct runner r;
        size_t lines = 0;
        bool ok = true;
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s.gguf", dir, g->name);
        f = fopen(list, "re");
        if (!f || open_model_as(&model, path, ternary) < 0 ||
            runner_start(&r, model, 2, NULL, KV_F16, MAX_TOKENS) < 0) {
                perror(list);
                return false;
        }
        for (; fgets(line, sizeof(line), f); lines++)
                ok = check_sequence(&r, dir, g, line) && ok;
        fclose(f);
        runner_done(&r);
        printf("%s: %zu sequences\n", g->name, lines);
        return ok && lines == 14;
}

int main(int argc, char **argv) {
        bool ok = argc == 3;

        for (size_t i = 0; ok && i < ARRAY_SIZE(models); i++)
                ok = check_model(argv[1], &models[i], argv[2], TERNARY_2_BITS) &&
                     check_model(argv[1], &models[i], argv[2], TERNARY_BASE_3);
        return ok ? 0 : 1;
}
