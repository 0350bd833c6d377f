/* Vocabularies for tests. The tiktoken file has no merges, only ranks; they are derived the way
 * converters do it: every split of a token into two tokens is a merge, those of one token
 * ordered by the ranks of the parts. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/gguf.h"
#include "engine/text/table.h"
#include "tests/engine/text/vocab-fixture.h"

static void *must(void *p, const char *what) {
        if (!p) {
                fprintf(stderr, "fixture: %s failed\n", what);
                exit(2);
        }
        return p;
}

struct view fixture_read(const char *dir, const char *name) {
        char path[4096];
        snprintf(path, sizeof(path), "%s%s%s", dir ? dir : "", dir ? "/" : "", name);
        FILE *f = must(fopen(path, "rb"), path);
        fseek(f, 0, SEEK_END);
        size_t n = (size_t)ftell(f);
        rewind(f);
        uint8_t *p = must(malloc(n + 1), path);
        if (fread(p, 1, n, f) != n)
                must(NULL, path);
        fclose(f);
        p[n] = 0;
        return (struct view){.p = p, .n = n};
}

struct vocab *fixture_load(struct view file) {
        struct model_error err = {0};
        struct gguf *g = NULL;
        struct vocab *v = NULL;
        if (gguf_parse(&g, file, &err) < 0 || vocab_load(&v, g, &err) < 0) {
                char text[256];
                fprintf(stderr, "fixture: %s\n", model_error_format(&err, text, sizeof(text)));
                exit(2);
        }
        gguf_free(g);
        return v;
}

struct vocab *fixture_load_file(const char *dir, const char *name) {
        struct view file = fixture_read(dir, name);
        struct vocab *v = fixture_load(file);
        free((void *)file.p);
        return v;
}

struct ranks {
        struct texts texts;
        struct text_table table;
};

static int base64_value(char c) {
        const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *at = c ? strchr(alphabet, c) : NULL;
        return at ? (int)(at - alphabet) : -1;
}

static void add_line(struct ranks *r, const char *line) {
        uint32_t bits = 0, used = r->texts.offsets[r->texts.n], have = 0;
        for (; base64_value(*line) >= 0; line++) {
                bits = bits << 6 | (uint32_t)base64_value(*line);
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        r->texts.bytes[used++] = (uint8_t)(bits >> have);
                }
        }
        r->texts.offsets[++r->texts.n] = used;
}

static bool is_digits(struct view s) {
        for (size_t i = 0; i < s.n; i++)
                if (s.p[i] < '0' || s.p[i] > '9')
                        return false;
        return s.n >= 2;
}

/* The first max lines of the file, without tokens of several digits if asked to. */
static struct ranks read_ranks(const char *dir, uint32_t max, bool single_digits) {
        struct view file = fixture_read(dir, "llama3-tiktoken.model");
        struct ranks r = {0};
        r.texts.bytes = must(malloc(file.n), "malloc");
        r.texts.offsets = must(calloc(max + 1, sizeof(uint32_t)), "calloc");
        const char *line = (const char *)file.p;
        for (uint32_t i = 0; i < max; i++) {
                add_line(&r, line);
                if (single_digits && is_digits(texts_at(&r.texts, r.texts.n - 1)))
                        r.texts.n--;
                line = must(strchr(line, '\n'), "line");
                line++;
        }
        if (text_table_new(&r.table, r.texts.n) < 0)
                must(NULL, "table");
        for (uint32_t i = 0; i < r.texts.n; i++)
                text_table_add(&r.table, &r.texts, i);
        free((void *)file.p);
        return r;
}

static void ranks_done(struct ranks *r) {
        text_table_done(&r->table);
        free(r->texts.bytes);
        free(r->texts.offsets);
}

/* The byte map forwards: out has room for 2 * n bytes. */
static size_t map_bytes(const uint8_t *p, size_t n, uint8_t *out) {
        size_t w = 0;
        for (size_t i = 0; i < n; i++) {
                unsigned b = p[i], cp = b;
                if (b <= 32)
                        cp = 0x100 + b;
                else if (b >= 127 && b <= 160)
                        cp = 0x121 + b - 127;
                else if (b == 173)
                        cp = 0x143;
                if (cp < 0x80) {
                        out[w++] = (uint8_t)cp;
                } else {
                        out[w++] = (uint8_t)(0xc0 | cp >> 6);
                        out[w++] = (uint8_t)(0x80 | (cp & 0x3f));
                }
        }
        return w;
}

struct split {
        int32_t left, right;
        size_t n_left;
};

static int compare_splits(const void *a, const void *b) {
        const struct split *x = a, *y = b;
        if (x->left != y->left)
                return x->left < y->left ? -1 : 1;
        return (x->right > y->right) - (x->right < y->right);
}

static size_t splits_of(const struct ranks *r, struct view text, struct split *out) {
        size_t n = 0;
        for (size_t k = 1; k < text.n; k++) {
                struct split s = {.n_left = k};
                s.left = text_table_find(&r->table, &r->texts, text.p, k);
                s.right = text_table_find(&r->table, &r->texts, text.p + k, text.n - k);
                if (s.left != TOKEN_NONE && s.right != TOKEN_NONE)
                        out[n++] = s;
        }
        qsort(out, n, sizeof(*out), compare_splits);
        return n;
}

static void put_ranked(struct gguf_writer *w, const struct ranks *r, size_t n_special,
                       size_t *ret_merges) {
        size_t n = r->texts.n + n_special, n_merges = 0, room = 4 * (size_t)r->texts.n, used = 0;
        struct view *tokens = must(calloc(n, sizeof(*tokens)), "calloc");
        struct view *merges = must(calloc(room, sizeof(*merges)), "calloc");
        int32_t *types = must(calloc(n, sizeof(*types)), "calloc");
        uint8_t *bytes = must(malloc((size_t)64 << 20), "malloc");
        for (uint32_t i = 0; i < r->texts.n; i++) {
                struct split splits[256];
                struct view text = texts_at(&r->texts, i);
                tokens[i] = (struct view){.p = bytes + used,
                                          .n = map_bytes(text.p, text.n, bytes + used)};
                used += tokens[i].n;
                types[i] = 1;
                size_t n_splits = splits_of(r, text, splits);
                for (size_t k = 0; k < n_splits; k++) {
                        uint8_t *start = bytes + used;
                        used += map_bytes(text.p, splits[k].n_left, bytes + used);
                        bytes[used++] = ' ';
                        used += map_bytes(text.p + splits[k].n_left, text.n - splits[k].n_left,
                                          bytes + used);
                        if (n_merges == room)
                                must(NULL, "room for merges");
                        merges[n_merges++] = (struct view){.p = start,
                                                           .n = (size_t)(bytes + used - start)};
                }
        }
        for (size_t i = 0; i < n_special; i++) {
                static const struct { size_t i; const char *text; } named[] = {
                        {0, "<|begin_of_text|>"}, {1, "<|end_of_text|>"},
                        {6, "<|start_header_id|>"}, {7, "<|end_header_id|>"}, {9, "<|eot_id|>"},
                };
                char text[64];
                snprintf(text, sizeof(text), "<|reserved_special_token_%zu|>", i);
                for (size_t k = 0; k < ARRAY_SIZE(named); k++)
                        if (named[k].i == i)
                                snprintf(text, sizeof(text), "%s", named[k].text);
                size_t size = strlen(text);
                memcpy(bytes + used, text, size);
                tokens[r->texts.n + i] = (struct view){.p = bytes + used, .n = size};
                types[r->texts.n + i] = 3;
                used += size;
        }
        gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
        gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, n);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n);
        gguf_put_strings(w, "tokenizer.ggml.merges", merges, n_merges);
        *ret_merges = n_merges;
        free(tokens);
        free(merges);
        free(types);
        free(bytes);
}

void fixture_put_llama3(struct gguf_writer *w, const char *dir, size_t *ret_merges) {
        struct ranks r = read_ranks(dir, 128000, false);
        gguf_put_string(w, "general.architecture", "bitnet-b1.58");
        put_ranked(w, &r, 256, ret_merges);
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 128000);
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 128001);
        ranks_done(&r);
}

void fixture_put_qwen2(struct gguf_writer *w, const char *dir, size_t *ret_n) {
        struct ranks r = read_ranks(dir, 100256, true);
        size_t n_merges;
        gguf_put_string(w, "general.architecture", "qwen3");
        gguf_put_string(w, "tokenizer.ggml.pre", "qwen2");
        put_ranked(w, &r, 0, &n_merges);
        *ret_n = r.texts.n;
        ranks_done(&r);
}

static const char *const tiny_extra[] = {
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user_mark|>", "  ",
};
static const int32_t tiny_extra_types[] = {3, 3, 3, 4, 4};

static size_t put_extra(struct view *tokens, int32_t *types, size_t n) {
        for (size_t i = 0; i < ARRAY_SIZE(tiny_extra); i++, n++) {
                tokens[n] = (struct view){.p = (const uint8_t *)tiny_extra[i],
                                          .n = strlen(tiny_extra[i])};
                types[n] = tiny_extra_types[i];
        }
        return n;
}

void fixture_put_tiny_bpe(struct gguf_writer *w, const char *pre) {
        static const char *const words[] = {"ab", "aa", "aaaa", ("\xc4\xa0" "a"), "12", "abab"};
        static const char *const pairs[] = {"a b", "a a", "aa aa", "\xc4\xa0 a", "1 2", "ab ab"};
        struct view tokens[300], merges[ARRAY_SIZE(pairs)];
        uint8_t mapped[256][2];
        int32_t types[300];
        size_t n = 0;
        for (; n < 256; n++) {
                uint8_t byte = (uint8_t)n;
                tokens[n] = (struct view){.p = mapped[n], .n = map_bytes(&byte, 1, mapped[n])};
                types[n] = 1;
        }
        for (size_t i = 0; i < ARRAY_SIZE(words); i++, n++) {
                tokens[n] = (struct view){.p = (const uint8_t *)words[i], .n = strlen(words[i])};
                types[n] = 1;
                merges[i] = (struct view){.p = (const uint8_t *)pairs[i], .n = strlen(pairs[i])};
        }
        n = put_extra(tokens, types, n);
        gguf_put_string(w, "general.architecture", "llama");
        gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
        gguf_put_string(w, "tokenizer.ggml.pre", pre);
        gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, n);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n);
        gguf_put_strings(w, "tokenizer.ggml.merges", merges, ARRAY_SIZE(merges));
}

void fixture_put_tiny_spm(struct gguf_writer *w) {
        static const char *const words[] = {"\xe2\x96\x81", "a", "b", "ab", "aa", "aaaa", "abab",
                                            ("\xe2\x96\x81" "a"), "\xc3\xa9"};
        struct view tokens[300];
        char bytes[256][8];
        int32_t types[300] = {2, 3, 3};
        float scores[300] = {0};
        size_t n = 3;
        tokens[0] = (struct view){.p = (const uint8_t *)"<unk>", .n = 5};
        tokens[1] = (struct view){.p = (const uint8_t *)"<s>", .n = 3};
        tokens[2] = (struct view){.p = (const uint8_t *)"</s>", .n = 4};
        for (size_t b = 0; b < 256; b++, n++) {
                snprintf(bytes[b], sizeof(bytes[b]), "<0x%02X>", (unsigned)b);
                tokens[n] = (struct view){.p = (const uint8_t *)bytes[b], .n = 6};
                types[n] = 6;
        }
        for (size_t i = 0; i < ARRAY_SIZE(words); i++, n++) {
                tokens[n] = (struct view){.p = (const uint8_t *)words[i], .n = strlen(words[i])};
                types[n] = 1;
                scores[n] = -(float)i;
        }
        n = put_extra(tokens, types, n);
        gguf_put_string(w, "general.architecture", "llama");
        gguf_put_string(w, "tokenizer.ggml.model", "llama");
        gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, n);
        gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n);
        gguf_put_f32s(w, "tokenizer.ggml.scores", scores, n);
}
