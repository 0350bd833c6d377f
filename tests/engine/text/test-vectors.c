/* Published vectors: 46 strings and the ids that each model's own tokenizer gives, every line
 * exact.
 *
 * Qwen2's vocabulary is not at hand, but it was made from the same 100256 tokens that Llama 3
 * starts with, less those of several digits. So every line whose ids all lie in that part must
 * come out exactly, too, once the vocabulary is renumbered; the others hold tokens that only
 * Qwen2 has.
 *
 * usage: test-vectors UNPACKED-DIR DATA-DIR */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/engine/text/vocab-fixture.h"

enum { LINES = 46 };

static const char marker[] = "\n__ggml_vocab_test__\n";

static int failures;

static void check(bool ok, const char *name, int line, const char *what, int64_t got,
                  int64_t want) {
        if (ok)
                return;
        failures++;
        fprintf(stderr, "%s: string %d: %s: got %" PRId64 ", want %" PRId64 "\n", name, line, what,
                got, want);
}

static struct tokens parse_ids(const char **at) {
        struct tokens t = {0};
        while (**at && **at != '\n') {
                char *end;
                long id = strtol(*at, &end, 10);
                if (end == *at)
                        break;
                tokens_push(&t, (int32_t)id);
                *at = end;
                while (**at == ' ')
                        (*at)++;
        }
        if (**at == '\n')
                (*at)++;
        return t;
}

static void check_decode(const char *name, int line, const struct vocab *v, const struct tokens *t,
                         const char *text, size_t n) {
        size_t at = 0;
        for (size_t i = 0; i < t->n; i++) {
                struct view bytes = vocab_bytes(v, t->ids[i], i == 0);
                check(at + bytes.n <= n && memcmp(text + at, bytes.p, bytes.n) == 0, name, line,
                      "decoded bytes differ at token", (int64_t)i, -1);
                at += bytes.n;
        }
        check(at == n, name, line, "decoded length", (int64_t)at, (int64_t)n);
}

static void check_line(const char *name, int line, const struct vocab *v, const char *text,
                       size_t n, const struct tokens *want) {
        struct tokens got = {0};
        int r = vocab_encode(v, text, n, false, 0, &got);
        check(r == 0, name, line, "vocab_encode", r, 0);
        check(got.n == want->n, name, line, "number of ids", (int64_t)got.n, (int64_t)want->n);
        for (size_t i = 0; i < got.n && i < want->n; i++)
                check(got.ids[i] == want->ids[i], name, line, "id", got.ids[i], want->ids[i]);
        check_decode(name, line, v, &got, text, n);
        tokens_done(&got);
}

/* Returns how many lines were compared: those whose ids are all below limit. */
static int check_vectors(const char *data, const char *name, const struct vocab *v, int32_t limit) {
        char file[64];
        snprintf(file, sizeof(file), "%s.out", name);
        struct view strings = fixture_read(data, "strings.inp"), ids = fixture_read(data, file);
        const char *text = (const char *)strings.p, *id = (const char *)ids.p;
        int compared = 0;
        for (int line = 0; line < LINES; line++) {
                const char *end = strstr(text, marker);
                struct tokens want = parse_ids(&id);
                bool known = true;
                for (size_t i = 0; i < want.n; i++)
                        known = known && want.ids[i] < limit;
                if (known) {
                        check_line(name, line, v, text, (size_t)(end - text), &want);
                        compared++;
                }
                tokens_done(&want);
                text = end + strlen(marker);
        }
        check(*text == 0 && *id == 0, name, LINES, "the end of both files was reached", 0, 1);
        free((void *)strings.p);
        free((void *)ids.p);
        return compared;
}

static void check_file(const char *dir, const char *data, const char *name) {
        char file[64];
        snprintf(file, sizeof(file), "%s.gguf", name);
        struct vocab *v = fixture_load_file(dir, file);
        int compared = check_vectors(data, name, v, INT32_MAX);
        check(compared == LINES, name, LINES, "strings compared", compared, LINES);
        vocab_free(v);
}

static double milliseconds(void) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void check_llama3(const char *dir, const char *data) {
        struct gguf_writer w = {0};
        size_t n_merges;
        fixture_put_llama3(&w, dir, &n_merges);
        check(n_merges == 280147, "llama-bpe", 0, "merges", (int64_t)n_merges, 280147);

        struct view file = gguf_writer_file(&w);
        double start = milliseconds();
        struct vocab *v = fixture_load(file);
        printf("llama-bpe: loaded in %.1f ms\n", milliseconds() - start);
        gguf_writer_done(&w);
        check(vocab_size(v) == 128256, "llama-bpe", 0, "tokens", vocab_size(v), 128256);
        check(vocab_add_bos(v), "llama-bpe", 0, "adds BOS", 0, 1);
        int compared = check_vectors(data, "llama-bpe", v, INT32_MAX);
        check(compared == LINES, "llama-bpe", LINES, "strings compared", compared, LINES);
        vocab_free(v);
}

static void check_qwen2(const char *dir, const char *data) {
        struct gguf_writer w = {0};
        size_t n;
        fixture_put_qwen2(&w, dir, &n);
        struct vocab *v = fixture_load(gguf_writer_file(&w));
        gguf_writer_done(&w);
        int compared = check_vectors(data, "qwen2", v, (int32_t)n);
        printf("qwen2: %d of %d strings lie in the shared part\n", compared, LINES);
        check(compared >= 40, "qwen2", LINES, "strings compared, at least", compared, 40);
        vocab_free(v);
}

int main(int argc, char **argv) {
        static const char *const files[] = {"gpt-2", "llama-spm", "phi-3", "starcoder",
                                            "refact", "mpt", "falcon"};
        if (argc != 3) {
                fprintf(stderr, "usage: test-vectors UNPACKED-DIR DATA-DIR\n");
                return 2;
        }
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                check_file(argv[1], argv[2], files[i]);
        check_llama3(argv[1], argv[2]);
        check_qwen2(argv[1], argv[2]);
        printf("%d failures\n", failures);
        return failures > 0;
}
