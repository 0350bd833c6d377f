/* logits MODEL --ids "1 2 3" -o FILE.f32: the logits after every token, [tokens, n_vocab] floats,
 * for comparing the engine with other programs. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "tests/tools/open_model.h"

struct output {
        FILE *file;
        size_t n_vocab;
};

static void write_logits(void *ctx, size_t position, const float *logits) {
        struct output *o = ctx;

        (void)position;
        fwrite(logits, sizeof(*logits), o->n_vocab, o->file);
}

/* Ids separated by blanks or commas; *ret is freed by the caller. */
static int parse_ids(const char *text, int32_t **ret, size_t *ret_n) {
        int32_t *ids = calloc(strlen(text) + 1, sizeof(*ids));
        size_t n = 0;

        if (!ids)
                return -ENOMEM;
        for (char *end; *(text += strspn(text, " ,\n")) != 0; text = end) {
                ids[n++] = (int32_t)strtol(text, &end, 10);
                if (end == text) {
                        free(ids);
                        return -EINVAL;
                }
        }
        *ret = ids;
        *ret_n = n;
        return 0;
}

static int usage(void) {
        fprintf(stderr, "usage: logits MODEL --ids \"ID ID ...\" -o FILE [--threads N]"
                        " [--cpu LEVEL] [--chunk N]\n");
        return 64;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"ids", required_argument, NULL, 'i'}, {"threads", required_argument, NULL, 't'},
                {"cpu", required_argument, NULL, 'c'}, {"chunk", required_argument, NULL, 'k'},
                {"output", required_argument, NULL, 'o'}, {0},
        };
        const char *list = NULL, *path = NULL, *cpu = NULL;
        _cleanup_free_ int32_t *ids = NULL;
        unsigned threads = 1;
        size_t n = 0, chunk = ENGINE_MAX_ROWS;
        struct output out;
        struct runner r;
        int k;

        for (int c; (c = getopt_long(argc, argv, "o:", options, NULL)) >= 0;)
                switch (c) {
                case 'i': list = optarg; break;
                case 't': threads = (unsigned)strtoul(optarg, NULL, 10); break;
                case 'c': cpu = optarg; break;
                case 'k': chunk = strtoul(optarg, NULL, 10); break;
                case 'o': path = optarg; break;
                default: return usage();
                }
        if (optind + 1 != argc || !list || !path || chunk == 0 || parse_ids(list, &ids, &n) < 0)
                return usage();
        if (runner_open(&r, argv[optind], threads, cpu, n) < 0)
                return 1;
        out = (struct output){fopen(path, "wbe"), r.model->hp.n_vocab};
        k = out.file ? runner_logits(&r, ids, n, chunk, write_logits, &out) : -errno;
        if (out.file && fclose(out.file) != 0 && k >= 0)
                k = -errno;
        runner_done(&r);
        if (k < 0)
                fprintf(stderr, "%s: %s\n", path, strerror(-k));
        return k < 0;
}
