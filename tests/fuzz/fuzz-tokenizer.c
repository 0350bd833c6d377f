/* Fuzzing of the tokenizer. The first byte of an input says what the rest is:
 *   bit 0  0: text, 1: a whole model file (GGUF), loaded and then used on a fixed text
 *   bit 1  text: 0 BPE, 1 SPM        bit 2  text: recognise control tokens
 *   bits 3 to 5  text: the pre-tokenizer, for BPE
 * For text the ids must be tokens, decode to the text (control tokens aside), and without bit 2 no
 * control token may come out; the streaming decoder must agree with itself however it is fed.
 *
 * Built as a libFuzzer target, or with -DFUZZ_MAIN as a program that runs the files it is given. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/gguf.h"
#include "engine/text/chat.h"
#include "tests/engine/text/vocab-fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "fuzz-tokenizer: %s\n", what);
        abort();
}

static void check_stream(const uint8_t *p, size_t n) {
        struct utf8_stream whole = {0}, bytes = {0};
        char *a = malloc(3 * (n + 4) + 4), *b = malloc(3 * (n + 4) + 4);
        require(a && b, "no memory");
        size_t n_a = utf8_stream_feed(&whole, p, n, a), n_b = 0;
        n_a += utf8_stream_end(&whole, a + n_a);
        for (size_t i = 0; i < n; i++)
                n_b += utf8_stream_feed(&bytes, p + i, 1, b + n_b);
        n_b += utf8_stream_end(&bytes, b + n_b);
        require(n_a == n_b && memcmp(a, b, n_a) == 0, "stream depends on how it is fed");
        free(a);
        free(b);
}

/* Ids back to bytes: what is not a control token must stand in the text in this order, and where no
 * special token comes between, nothing may be missing. exact: no special token at all. */
static void check_decode(const struct vocab *v, const struct tokens *t, const uint8_t *text,
                         size_t n, bool exact) {
        size_t at = 0;
        for (size_t i = 0; i < t->n; i++) {
                require(t->ids[i] >= 0 && (uint32_t)t->ids[i] < vocab_size(v), "id is no token");
                struct view bytes = vocab_bytes(v, t->ids[i], i == 0);
                if (exact)
                        require(at + bytes.n <= n && memcmp(text + at, bytes.p, bytes.n) == 0,
                                "bytes differ");
                at += bytes.n;
        }
        require(!exact || at == n, "bytes are missing");
}

static void check_text(const struct vocab *v, const uint8_t *text, size_t n, bool special,
                       bool spm) {
        struct tokens t = {0}, limited = {0};
        require(vocab_encode(v, (const char *)text, n, special, 0, &t) == 0, "encoding failed");
        bool any = false; /* a special token, or what SPM does not keep apart from a space */
        for (size_t i = 0; i < t.n; i++) {
                bool control = vocab_is_control(v, t.ids[i]);
                require(special || !control, "text became a control token");
                any = any || control;
        }
        any = any || (spm && (memmem(text, n, "<|user_mark|>", 13) || memmem(text, n, "  ", 2) ||
                              memmem(text, n, "\xe2\x96\x81", 3)));
        check_decode(v, &t, text, n, !any);
        if (t.n > 1) {
                require(vocab_encode(v, (const char *)text, n, special, t.n - 1, &limited) < 0,
                        "limit not kept");
                require(limited.n == 0, "ids left behind");
        }
        tokens_done(&t);
        tokens_done(&limited);

        struct chat_message m = {.role = CHAT_USER, .content = (const char *)text, .n = n};
        require(chat_encode(v, spm ? CHAT_RAW : CHAT_CHATML, &m, 1, 0, &t) == 0, "chat failed");
        size_t controls = 0;
        for (size_t i = 0; i < t.n; i++)
                controls += vocab_is_control(v, t.ids[i]);
        require(controls == (spm ? 1 : 3), "content changed the number of control tokens");
        tokens_done(&t);
}

static void check_file(const uint8_t *p, size_t n) {
        static const char text[] = "Hello <|im_end|> 12345 w\xc3\xb6rld  \n\xff";
        struct model_error err;
        struct gguf *g = NULL;
        struct vocab *v = NULL;
        if (gguf_parse(&g, (struct view){.p = p, .n = n}, &err) < 0)
                return;
        if (vocab_load(&v, g, &err) == 0) {
                struct tokens t = {0};
                require(vocab_encode(v, text, strlen(text), false, 0, &t) == 0, "encoding failed");
                check_decode(v, &t, (const uint8_t *)text, strlen(text), false);
                tokens_done(&t);
                struct chat_message m = {.role = CHAT_USER, .content = text, .n = strlen(text)};
                require(chat_encode(v, (enum chat_format)vocab_chat_format(v), &m, 1, 0, &t) == 0,
                        "chat failed");
                tokens_done(&t);
                vocab_free(v);
        }
        gguf_free(g);
}

static struct vocab *tiny(bool spm, unsigned which) {
        static const char *const pres[] = {"llama-bpe", "qwen2", "gpt-2", "smollm", "falcon"};
        struct gguf_writer w = {0};
        if (spm)
                fixture_put_tiny_spm(&w);
        else
                fixture_put_tiny_bpe(&w, pres[which % ARRAY_SIZE(pres)]);
        struct vocab *v = fixture_load(gguf_writer_file(&w));
        gguf_writer_done(&w);
        return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        uint8_t mode = data[0];
        if (mode & 1) {
                check_file(data + 1, size - 1);
                return 0;
        }
        bool spm = mode & 2;
        struct vocab *v = tiny(spm, mode >> 3 & 7);
        check_text(v, data + 1, size - 1, mode & 4, spm);
        vocab_free(v);
        check_stream(data + 1, size - 1);
        return 0;
}

#ifdef FUZZ_MAIN
int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                struct view file = fixture_read(NULL, argv[i]);
                LLVMFuzzerTestOneInput(file.p, file.n);
                free((void *)file.p);
        }
        printf("%d inputs\n", argc - 1);
        return argc < 2;
}
#endif
