/* perplexity MODEL (--text FILE [--lines N] | --tokens-u16 FILE) [--chunk N] [--chunks FIRST,COUNT]
 * [--threads N] [--cpu LEVEL] [--kv s16|f16|s8] [--expect P --within PERCENT]: exp of the mean
 * surprise per predicted token.
 *
 * Token files are cut into chunks as they are. A text is cut into chunks of its tokens, each with
 * BOS where the vocabulary wants one; with --lines every non-empty line, up to N of them, is a
 * sequence of its own with BOS. A running figure is printed for every chunk. With --expect the exit
 * status is 1 when the result is further away than that. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/text/vocab.h"
#include "tests/tools/open_model.h"

struct job {
        struct runner runner;
        const char *text, *tokens, *cpu; /* what to read, instruction set */
        unsigned threads;
        enum kv_form kv;
        size_t chunk, lines, first, limit;
        double expect, within;
        double nll;
        size_t count, n_chunks;
};

static int score(struct job *j, const int32_t *ids, size_t n) {
        size_t index = j->n_chunks++, counted = j->count;
        double before = j->nll;
        int r;

        if (n < 2 || index < j->first || index - j->first >= j->limit)
                return 0;
        r = runner_score(&j->runner, ids, n, &j->nll, &j->count);
        if (r >= 0 && j->lines == 0)
                printf("chunk %3zu: %8.4f, so far %8.4f\n", index,
                       exp((j->nll - before) / (double)(j->count - counted)),
                       exp(j->nll / (double)j->count));
        return r;
}

/* The ids in pieces of at most `chunk`, each behind `first` unless that is TOKEN_NONE. */
static int score_chunks(struct job *j, const int32_t *ids, size_t n, int32_t first) {
        size_t extra = first != TOKEN_NONE, step = j->chunk - extra;
        _cleanup_free_ int32_t *piece = calloc(j->chunk, sizeof(*piece));
        int r = piece ? 0 : -ENOMEM;

        for (size_t at = 0; r >= 0 && at < n; at += step) {
                size_t m = MIN(step, n - at);

                piece[0] = first;
                memcpy(piece + extra, ids + at, m * sizeof(*ids));
                r = score(j, piece, m + extra);
        }
        return r;
}

static int score_u16(struct job *j, const uint8_t *data, size_t size) {
        _cleanup_free_ int32_t *ids = calloc(size / 2 + 1, sizeof(*ids));

        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < size / 2; i++)
                ids[i] = data[2 * i] | data[2 * i + 1] << 8;
        return score_chunks(j, ids, size / 2, TOKEN_NONE);
}

static int score_text(struct job *j, const char *text, size_t n) {
        const struct vocab *v = j->runner.model->vocab;
        struct tokens ids __attribute__((cleanup(tokens_done))) = {0};
        int r;

        r = vocab_encode(v, text, n, false, 0, &ids);
        if (r < 0)
                return r;
        return score_chunks(j, ids.ids, ids.n, vocab_add_bos(v) ? vocab_bos(v) : TOKEN_NONE);
}

static int score_lines(struct job *j, char *text) {
        char *save = NULL;
        size_t done = 0;
        int r = 0;

        for (char *line = strtok_r(text, "\r\n", &save); r >= 0 && line && done < j->lines;
             line = strtok_r(NULL, "\r\n", &save)) {
                if (line[strspn(line, " \t")] == 0)
                        continue;
                r = score_text(j, line, strlen(line));
                done++;
        }
        return r;
}

static int usage(void) {
        fprintf(stderr, "usage: perplexity MODEL (--text FILE [--lines N] | --tokens-u16 FILE)"
                        " [--chunk N] [--chunks FIRST,COUNT] [--threads N] [--cpu LEVEL]"
                        " [--kv s16|f16|s8] [--expect P --within PERCENT]\n");
        return 64;
}

static bool parse_options(struct job *j, int argc, char **argv) {
        static const struct option options[] = {
                {"text", required_argument, NULL, 'x'}, {"chunk", required_argument, NULL, 'k'},
                {"chunks", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'},
                {"threads", required_argument, NULL, 't'}, {"lines", required_argument, NULL, 'l'},
                {"expect", required_argument, NULL, 'e'}, {"within", required_argument, NULL, 'w'},
                {"tokens-u16", required_argument, NULL, 'u'}, {"kv", required_argument, NULL, 'v'},
                {0},
        };

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;)
                switch (c) {
                case 'x': j->text = optarg; break;
                case 'u': j->tokens = optarg; break;
                case 'k': j->chunk = strtoul(optarg, NULL, 10); break;
                case 's':
                        if (sscanf(optarg, "%zu,%zu", &j->first, &j->limit) != 2)
                                return false;
                        break;
                case 't': j->threads = (unsigned)strtoul(optarg, NULL, 10); break;
                case 'c': j->cpu = optarg; break;
                case 'v':
                        j->kv = strcmp(optarg, "s16") == 0   ? KV_S16
                                : strcmp(optarg, "f16") == 0 ? KV_F16
                                : strcmp(optarg, "s8") == 0  ? KV_S8
                                                             : _KV_FORM_MAX;
                        if (j->kv == _KV_FORM_MAX)
                                return false;
                        break;
                case 'l': j->lines = strtoul(optarg, NULL, 10); break;
                case 'e': j->expect = strtod(optarg, NULL); break;
                case 'w': j->within = strtod(optarg, NULL); break;
                default: return false;
                }
        return optind + 1 == argc && !j->text != !j->tokens && j->chunk >= 2;
}

static int report(const struct job *j) {
        double p = exp(j->nll / (double)j->count);

        printf("perplexity %.4f over %zu predicted tokens\n", p, j->count);
        if (j->expect > 0 && !(fabs(p / j->expect - 1) * 100 <= j->within)) {
                fprintf(stderr, "perplexity %.4f is %+.3f %% off %.4f, allowed %.3f %%\n", p,
                        (p / j->expect - 1) * 100, j->expect, j->within);
                return 1;
        }
        return 0;
}

int main(int argc, char **argv) {
        struct job j = {.chunk = 512, .threads = 2, .limit = SIZE_MAX};
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;
        int r;

        if (!parse_options(&j, argc, argv))
                return usage();
        if (read_file(j.text ? j.text : j.tokens, &data, &size) < 0 ||
            runner_open_kv(&j.runner, argv[optind], j.threads, j.cpu, j.kv, j.chunk) < 0)
                return 1;
        if (j.tokens)
                r = score_u16(&j, data, size);
        else
                r = j.lines > 0 ? score_lines(&j, (char *)data)
                                : score_text(&j, (char *)data, size);
        if (r < 0)
                fprintf(stderr, "perplexity: %s\n", strerror(-r));
        else
                r = report(&j);
        runner_done(&j.runner);
        return r != 0;
}
