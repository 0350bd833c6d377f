/* From tokenizer.ggml.* to the tables of struct vocab. Everything in the file is checked before
 * it is used (rule 17 of formats-and-models 1.3), so that encoding needs no checks: every id in
 * a table is a token, every merge that can match leads from tokens to a token. Whatever looks
 * like a control token is one from here on, even when the file calls it normal: the type decides
 * what user text may become. */

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/gguf.h"
#include "engine/model/limits.h"
#include "engine/text/bytemap.h"
#include "engine/text/token-text.h"
#include "engine/text/vocab-internal.h"

enum { TOKEN_BYTES_MAX = 65535, MERGES_MAX = 1 << 22, LLAMA3_TOKENS = 128256 };

struct loader {
        struct vocab *v;
        const struct gguf *g;
        struct model_error *err;
        const struct gguf_kv *tokens, *types; /* types may be NULL */
};

static int fail_memory(const struct loader *l, size_t bytes) {
        return model_fail(l->err, MODEL_E_MEMORY, 0, bytes, 0, NULL, 0);
}

static int fail_key(const struct loader *l, enum model_error_code code, uint64_t position,
                    uint64_t value, uint64_t limit, const char *key) {
        return model_fail(l->err, code, position, value, limit, key, strlen(key));
}

static uint64_t position_of(const struct loader *l, struct view text) {
        return (uint64_t)(text.p - l->g->file.p);
}

/* An array of the metadata. count is what it must have (0: any number from 1 to limit). */
static int find_array(const struct loader *l, const char *key, enum gguf_type element,
                      uint64_t count, uint64_t limit, const struct gguf_kv **ret) {
        const struct gguf_kv *kv = gguf_find(l->g, key);
        if (!kv)
                return GGUF_ABSENT;
        if (kv->type != GGUF_ARRAY)
                return fail_key(l, MODEL_E_META_TYPE, kv->position, kv->type, GGUF_ARRAY, key);
        if (kv->element != element)
                return fail_key(l, MODEL_E_META_TYPE, kv->position, kv->element, element, key);
        if (count > 0 ? kv->count != count : kv->count > limit)
                return fail_key(l, MODEL_E_META_RANGE, kv->position, kv->count,
                                count > 0 ? count : limit, key);
        *ret = kv;
        return 0;
}

static int need(const struct loader *l, int r, const char *key) {
        return r == GGUF_ABSENT ? fail_key(l, MODEL_E_META_MISSING, 0, 0, 0, key) : r;
}

static int32_t element_i32(const struct gguf_kv *kv, uint32_t i) {
        int32_t value;
        memcpy(&value, kv->value.p + 4 * (size_t)i, sizeof(value));
        return value;
}

static int read_kind(struct loader *l) {
        static const char key[] = "tokenizer.ggml.model";
        struct view name;
        int r = need(l, gguf_string(l->g, key, &name, l->err), key);
        if (r < 0)
                return r;
        if (view_is(name, "gpt2"))
                l->v->kind = VOCAB_BPE;
        else if (view_is(name, "llama"))
                l->v->kind = VOCAB_SPM;
        else
                return model_fail(l->err, MODEL_E_TOKENIZER, position_of(l, name), name.n, 0,
                                  (const char *)name.p, name.n);
        return 0;
}

/* A missing name is known in one case only: the published 2B4T file, and what was made like it,
 * leaves it out and has Llama 3's 128256 tokens (formats-and-models 3.2). */
static int read_pretokenizer(struct loader *l) {
        struct view name = {.p = (const uint8_t *)"default", .n = 7};
        uint64_t position = 0;
        int r = gguf_string(l->g, "tokenizer.ggml.pre", &name, l->err);
        if (r < 0)
                return r;
        if (r == GGUF_ABSENT && l->tokens->count == LLAMA3_TOKENS)
                name = (struct view){.p = (const uint8_t *)"llama-bpe", .n = 9};
        if (r == 0)
                position = position_of(l, name);
        r = pretokenizer_by_name(name);
        if (r < 0)
                return model_fail(l->err, MODEL_E_PRETOKENIZER, position, name.n, 0,
                                  (const char *)name.p, name.n);
        l->v->pretokenizer = (enum pretokenizer)r;
        return 0;
}

/* Some Llama 3 files of an early converter have damaged texts for these (formats-and-models
 * 3.4). */
static const char *llama3_text(const struct loader *l, uint32_t id) {
        if (l->v->kind != VOCAB_BPE || l->v->pretokenizer != PRETOKENIZER_LLAMA3 ||
            l->tokens->count != LLAMA3_TOKENS)
                return NULL;
        switch (id) {
        case 128000:
                return "<|begin_of_text|>";
        case 128001:
                return "<|end_of_text|>";
        case 128006:
                return "<|start_header_id|>";
        case 128007:
                return "<|end_header_id|>";
        case 128009:
                return "<|eot_id|>";
        default:
                return NULL;
        }
}

/* Write the output form of a token to out, its flags to *flags; at most s.n bytes. */
static int read_token(const struct loader *l, uint32_t id, struct view s, unsigned type,
                      uint8_t *out, size_t *ret_n) {
        uint8_t *flags = &l->v->flags[id];
        if (type == TOKEN_BYTE) {
                int byte = token_text_byte(s);
                if (byte < 0)
                        return model_fail(l->err, MODEL_E_TOKENS, position_of(l, s), id, 0,
                                          "byte token", 10);
                out[0] = (uint8_t)byte;
                *ret_n = 1;
                l->v->bytes[byte] = (int32_t)id;
        } else if (type == TOKEN_NORMAL || type == TOKEN_UNDEFINED) {
                bool known = l->v->kind == VOCAB_BPE ? bytemap_decode(s, out, ret_n)
                                                     : token_text_from_spm(s, out, ret_n);
                if (!known) {
                        memcpy(out, s.p, s.n);
                        *ret_n = s.n;
                        *flags |= TOKEN_IS_LITERAL;
                }
        } else {
                if (s.n > 0)
                        memcpy(out, s.p, s.n);
                *ret_n = s.n;
        }
        *flags |= (uint8_t)type;
        return 0;
}

static int read_one(const struct loader *l, uint32_t id, struct view s, uint8_t *out,
                    size_t *ret_n) {
        int32_t type = l->types ? element_i32(l->types, id) : TOKEN_NORMAL;
        if (s.n > TOKEN_BYTES_MAX)
                return model_fail(l->err, MODEL_E_TOKENS, position_of(l, s), s.n, TOKEN_BYTES_MAX,
                                  "token text", 10);
        if (type < 0 || type >= _TOKEN_TYPE_MAX)
                return model_fail(l->err, MODEL_E_TOKENS, l->types->position, (uint64_t)type,
                                  _TOKEN_TYPE_MAX - 1, "token type", 10);
        const char *fixed = llama3_text(l, id);
        if (fixed)
                s = (struct view){.p = (const uint8_t *)fixed, .n = strlen(fixed)};
        bool ordinary = type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED;
        if (fixed || (ordinary && (token_text_ends(s) || token_text_is_role(s))))
                type = TOKEN_CONTROL;
        return read_token(l, id, s, (unsigned)type, out, ret_n);
}

/* The array's own bytes are room enough for the texts: each string has eight bytes of length in
 * front, which also pays for the repaired texts above. */
static int read_texts(struct loader *l) {
        struct vocab *v = l->v;
        uint32_t n = (uint32_t)l->tokens->count;
        v->texts.bytes = malloc(l->tokens->value.n);
        v->texts.offsets = calloc((size_t)n + 1, sizeof(*v->texts.offsets));
        v->flags = calloc(n, 1);
        if (!v->texts.bytes || !v->texts.offsets || !v->flags)
                return fail_memory(l, l->tokens->value.n);

        struct view cursor = l->tokens->value;
        size_t used = 0;
        for (uint32_t id = 0; id < n; id++) {
                size_t size;
                int r = read_one(l, id, gguf_next_string(&cursor), v->texts.bytes + used, &size);
                if (r < 0)
                        return r;
                used += size;
                v->texts.offsets[id + 1] = (uint32_t)used;
        }
        v->texts.n = n;
        uint8_t *smaller = realloc(v->texts.bytes, MAX(used, (size_t)1));
        if (smaller)
                v->texts.bytes = smaller;
        return 0;
}

static int read_tokens(struct loader *l) {
        struct vocab *v = l->v;
        static const char key[] = "tokenizer.ggml.token_type";
        int r = find_array(l, key, GGUF_I32, l->tokens->count, 0, &l->types);
        if (r < 0)
                return r;
        /* score merging needs to know the byte tokens; without types there are none */
        if (v->kind == VOCAB_SPM && r == GGUF_ABSENT)
                return need(l, r, key);
        if (l->tokens->count == 0 || l->tokens->value.n > UINT32_MAX)
                return model_fail(l->err, MODEL_E_TOKENS, l->tokens->position, l->tokens->value.n,
                                  UINT32_MAX, "tokens", 6);
        for (size_t b = 0; b < ARRAY_SIZE(v->bytes); b++)
                v->bytes[b] = TOKEN_NONE;
        return read_texts(l);
}

static int special_id(const struct loader *l, const char *key, int32_t missing, int32_t *ret) {
        uint32_t id;
        int r = gguf_u32(l->g, key, &id, l->err);
        if (r < 0)
                return r;
        if (r == 0 && id >= l->v->texts.n)
                return fail_key(l, MODEL_E_SPECIAL_TOKEN, gguf_find(l->g, key)->position, id,
                                l->v->texts.n - 1, key);
        *ret = r == 0 ? (int32_t)id : missing;
        if (r != 0 && missing >= 0 && (uint32_t)missing >= l->v->texts.n)
                *ret = TOKEN_NONE;
        return 0;
}

/* A token that the metadata calls special must not be within reach of ordinary text. Texts that are
 * not of the form <…> are left alone: a wrong id must not take a letter out of the vocabulary. */
static void make_special(struct vocab *v, int32_t id, unsigned type) {
        if (id == TOKEN_NONE)
                return;
        struct view text = texts_at(&v->texts, (uint32_t)id);
        unsigned now = token_type(v, id);
        bool ordinary = now == TOKEN_NORMAL || now == TOKEN_USER_DEFINED || now == TOKEN_UNDEFINED;
        if (ordinary && text.n > 2 && text.p[0] == '<' && text.p[text.n - 1] == '>')
                v->flags[id] = (uint8_t)((v->flags[id] & ~(unsigned)TOKEN_TYPE_MASK) | type);
}

static int read_special_ids(const struct loader *l) {
        struct vocab *v = l->v;
        bool spm = v->kind == VOCAB_SPM;
        int32_t ids[2];
        int r;
        if ((r = special_id(l, "tokenizer.ggml.bos_token_id", spm ? 1 : TOKEN_NONE, &v->bos)) < 0 ||
            (r = special_id(l, "tokenizer.ggml.eos_token_id", spm ? 2 : TOKEN_NONE, &v->eos)) < 0 ||
            (r = special_id(l, "tokenizer.ggml.unknown_token_id", spm ? 0 : TOKEN_NONE,
                            &v->unknown)) < 0 ||
            (r = special_id(l, "tokenizer.ggml.eot_token_id", TOKEN_NONE, &ids[0])) < 0 ||
            (r = special_id(l, "tokenizer.ggml.eom_token_id", TOKEN_NONE, &ids[1])) < 0)
                return r;

        make_special(v, v->bos, TOKEN_CONTROL);
        make_special(v, v->unknown, TOKEN_UNKNOWN);
        const int32_t ends[] = {v->eos, ids[0], ids[1]};
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
                make_special(v, ends[i], TOKEN_CONTROL);
                if (ends[i] != TOKEN_NONE)
                        v->flags[ends[i]] |= TOKEN_IS_END;
        }

        v->add_bos = spm || pretokenizer_adds_bos(v->pretokenizer);
        r = gguf_bool(l->g, "tokenizer.ggml.add_bos_token", &v->add_bos, l->err);
        if (r < 0)
                return r;
        if (v->bos == TOKEN_NONE)
                v->add_bos = false;
        r = gguf_bool(l->g, "tokenizer.ggml.add_eos_token", &v->add_eos, l->err);
        if (r < 0)
                return r;
        if (v->eos == TOKEN_NONE)
                v->add_eos = false;
        v->add_space_prefix = spm;
        r = gguf_bool(l->g, "tokenizer.ggml.add_space_prefix", &v->add_space_prefix, l->err);
        return MIN(r, 0);
}

/* Phi-3: white space after its special tokens belongs to them, except after these three. */
static bool eats_space(const struct loader *l, struct view text) {
        struct view architecture;
        if (gguf_string(l->g, "general.architecture", &architecture, NULL) != 0 ||
            !view_is(architecture, "phi3"))
                return false;
        return !view_is(text, "<unk>") && !view_is(text, "<s>") && !view_is(text, "<|endoftext|>");
}

static int add_special(const struct loader *l, uint32_t id) {
        struct vocab *v = l->v;
        unsigned type = token_type(v, (int32_t)id);
        struct special special = {.text = texts_at(&v->texts, id), .id = (int32_t)id};
        if (special.text.n > SPECIAL_TEXT_MAX)
                return model_fail(l->err, MODEL_E_SPECIAL_TOKEN, 0, special.text.n,
                                  SPECIAL_TEXT_MAX, "token text", 10);
        if (type == TOKEN_CONTROL &&
            (token_text_ends(special.text) || token_text_separates(special.text)))
                v->flags[id] |= TOKEN_IS_END;
        if (special.text.n == 0)
                return 0;
        if (eats_space(l, special.text))
                v->flags[id] |= TOKEN_EATS_SPACE;
        int r = specials_add(&v->specials, special);
        if (r == 0 && type == TOKEN_USER_DEFINED)
                r = specials_add(&v->user_defined, special);
        return r < 0 ? fail_memory(l, sizeof(special)) : 0;
}

/* Sort every token into the table for ordinary text or into the special lists. */
static int index_tokens(const struct loader *l) {
        struct vocab *v = l->v;
        if (text_table_new(&v->by_text, v->texts.n) < 0)
                return fail_memory(l, v->texts.n * sizeof(uint32_t));
        for (uint32_t id = 0; id < v->texts.n; id++) {
                unsigned type = token_type(v, (int32_t)id);
                uint32_t size = (uint32_t)texts_at(&v->texts, id).n;
                int r = 0;
                if (type == TOKEN_UNKNOWN || type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED)
                        r = add_special(l, id);
                else if (type <= TOKEN_NORMAL && size > 0 && !(v->flags[id] & TOKEN_IS_LITERAL)) {
                        text_table_add(&v->by_text, &v->texts, id);
                        v->longest = MAX(v->longest, size);
                }
                if (r < 0)
                        return r;
        }
        specials_sort(&v->specials);
        specials_sort(&v->user_defined);
        for (unsigned b = 0; b < ARRAY_SIZE(v->bytes); b++) {
                uint8_t byte = (uint8_t)b;
                if (v->bytes[b] == TOKEN_NONE)
                        v->bytes[b] = text_table_find(&v->by_text, &v->texts, &byte, 1);
        }
        return 0;
}

/* The larger the score, the smaller the key: positive floats order like their bits, negative
 * ones in reverse. */
static uint32_t score_key(float score) {
        uint32_t bits;
        score += 0.0f; /* one zero */
        memcpy(&bits, &score, sizeof(bits));
        return score < 0 ? bits : 0x7fffffff - bits;
}

static int read_scores(const struct loader *l) {
        static const char key[] = "tokenizer.ggml.scores";
        struct vocab *v = l->v;
        const struct gguf_kv *kv = NULL;
        int r = need(l, find_array(l, key, GGUF_F32, v->texts.n, 0, &kv), key);
        if (r < 0)
                return r;
        v->keys = malloc(v->texts.n * sizeof(*v->keys));
        if (!v->keys)
                return fail_memory(l, v->texts.n * sizeof(*v->keys));
        for (uint32_t i = 0; i < v->texts.n; i++) {
                float score;
                memcpy(&score, kv->value.p + 4 * (size_t)i, sizeof(score));
                if (!isfinite(score))
                        return fail_key(l, MODEL_E_TOKENS, kv->position + 4 * (uint64_t)i, i, 0,
                                        key);
                v->keys[i] = score_key(score);
        }
        return 0;
}

/* Merges are read in blocks: first all texts of a block, then all lookups, so that the table
 * lookups (three a merge, most of the load time) wait for memory together. */
enum { BLOCK = 32, MERGE_BYTES_MAX = 2 * TOKEN_BYTES_MAX + 1 };

struct merge_text {
        const uint8_t *p; /* both sides, byte map undone, without the space */
        size_t n_left, n;
        uint32_t left, right, both;
};

/* "left right", one space, not at the start; buf has room for both sides. */
static bool parse_merge(const struct vocab *v, struct view s, uint8_t *buf,
                        struct merge_text *ret) {
        const uint8_t *space = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        if (!space || s.n > MERGE_BYTES_MAX)
                return false;
        struct view left = {.p = s.p, .n = (size_t)(space - s.p)};
        struct view right = {.p = space + 1, .n = s.n - left.n - 1};
        size_t n_right;
        if (!bytemap_decode(left, buf, &ret->n_left) ||
            !bytemap_decode(right, buf + ret->n_left, &n_right) || n_right == 0)
                return false;
        ret->p = buf;
        ret->n = ret->n_left + n_right;
        ret->left = text_table_announce(&v->by_text, buf, ret->n_left);
        ret->right = text_table_announce(&v->by_text, buf + ret->n_left, n_right);
        ret->both = text_table_announce(&v->by_text, buf, ret->n);
        return true;
}

/* A merge of or to something that is no token can never take part in a result; vocabularies cut
 * from larger ones have such merges. It keeps its rank and matches nothing. */
static void find_merge(const struct vocab *v, const struct merge_text *t, struct merge *ret) {
        ret->left = text_table_find_announced(&v->by_text, &v->texts, t->left, t->p, t->n_left);
        ret->right = text_table_find_announced(&v->by_text, &v->texts, t->right, t->p + t->n_left,
                                               t->n - t->n_left);
        ret->result = text_table_find_announced(&v->by_text, &v->texts, t->both, t->p, t->n);
        if (ret->left == TOKEN_NONE || ret->right == TOKEN_NONE || ret->result == TOKEN_NONE)
                ret->left = ret->right = ret->result = TOKEN_NONE;
}

static int fail_merge(const struct loader *l, const struct gguf_kv *kv, struct view s,
                      uint32_t rank) {
        return fail_key(l, MODEL_E_MERGES, position_of(l, s), rank, kv->count - 1,
                        "tokenizer.ggml.merges");
}

static int read_block(const struct loader *l, const struct gguf_kv *kv, struct view *cursor,
                      uint8_t *buf) {
        struct vocab *v = l->v;
        struct merge_text texts[BLOCK];
        struct view sources[BLOCK];
        uint32_t first = v->merges.n, n = MIN((uint32_t)BLOCK, (uint32_t)kv->count - first);
        for (uint32_t i = 0; i < n; i++) {
                sources[i] = gguf_next_string(cursor);
                if (!parse_merge(v, sources[i], buf, &texts[i]))
                        return fail_merge(l, kv, sources[i], first + i);
                buf += texts[i].n;
        }
        for (uint32_t i = 0; i < n; i++) {
                struct merge m;
                find_merge(v, &texts[i], &m);
                merge_table_add(&v->merges, m);
        }
        return 0;
}

static int read_merges(const struct loader *l) {
        static const char key[] = "tokenizer.ggml.merges";
        struct vocab *v = l->v;
        const struct gguf_kv *kv = NULL;
        int r = need(l, find_array(l, key, GGUF_STRING, 0, MERGES_MAX, &kv), key);
        if (r < 0)
                return r;
        _cleanup_free_ uint8_t *buf = malloc(BLOCK * (size_t)MERGE_BYTES_MAX);
        if (!buf || merge_table_new(&v->merges, (uint32_t)kv->count) < 0)
                return fail_memory(l, kv->count * sizeof(struct merge));
        struct view cursor = kv->value;
        while (r == 0 && v->merges.n < kv->count)
                r = read_block(l, kv, &cursor, buf);
        merge_table_index(&v->merges);
        return r;
}

int vocab_read(struct vocab *v, const struct gguf *g, struct model_error *err) {
        static const char key[] = "tokenizer.ggml.tokens";
        struct loader l = {.v = v, .g = g, .err = err};
        int r = read_kind(&l);
        if (r < 0)
                return r;
        r = need(&l, find_array(&l, key, GGUF_STRING, 0, LIMIT_VOCAB, &l.tokens), key);
        if (r < 0)
                return r;
        if (v->kind == VOCAB_BPE && (r = read_pretokenizer(&l)) < 0)
                return r;
        if ((r = read_tokens(&l)) < 0 || (r = read_special_ids(&l)) < 0 ||
            (r = index_tokens(&l)) < 0)
                return r;
        return v->kind == VOCAB_BPE ? read_merges(&l) : read_scores(&l);
}
