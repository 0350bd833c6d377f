/* Metadata to struct hparams. Problem: a wrong or unknown setting does not crash a model, it makes
 * it talk nonsense, so a setting that we do not implement must be refused, never ignored; and every
 * number becomes a size, so all are bounded here. Owns nothing. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/hparams.h"
#include "engine/model/limits.h"

struct source {
        const struct gguf *g;
        const char *prefix;
        struct model_error *err;
};

static const struct {
        const char *name;
        enum model_arch arch;
} architectures[] = {
        {"bitnet", ARCH_BITNET},
        {"bitnet-b1.58", ARCH_BITNET_B158},
        {"bitnet-25", ARCH_BITNET_B158},
        {"llama", ARCH_LLAMA},
};

static bool view_is(struct view v, const char *s) {
        return v.n == strlen(s) && memcmp(v.p, s, v.n) == 0;
}

static int fail_key(struct model_error *err, enum model_error_code code, uint64_t value,
                    uint64_t limit, const char *key) {
        return model_fail(err, code, 0, value, limit, key, strlen(key));
}

int hparams_arch(const struct gguf *g, enum model_arch *ret_arch, const char **ret_prefix,
                 struct model_error *err) {
        struct view name;
        int e;

        e = gguf_string(g, "general.architecture", &name, err);
        if (e == GGUF_ABSENT)
                return fail_key(err, MODEL_E_META_MISSING, 0, 0, "general.architecture");
        if (e < 0)
                return e;
        for (size_t i = 0; i < ARRAY_SIZE(architectures); i++)
                if (view_is(name, architectures[i].name)) {
                        *ret_arch = architectures[i].arch;
                        *ret_prefix = architectures[i].name;
                        return 0;
                }
        return model_fail(err, MODEL_E_ARCHITECTURE, 0, name.n, 0, (const char *)name.p, name.n);
}

static const char *key_of(const struct source *s, const char *suffix, char buf[static 96]) {
        snprintf(buf, 96, "%s.%s", s->prefix, suffix);
        return buf;
}

/* An integer in [min, max]. */
static int need_u32(const struct source *s, const char *suffix, uint32_t min, uint32_t max,
                    uint32_t *ret) {
        char key[96];
        int e;

        e = gguf_u32(s->g, key_of(s, suffix, key), ret, s->err);
        if (e == GGUF_ABSENT)
                return fail_key(s->err, MODEL_E_META_MISSING, 0, 0, key);
        if (e < 0)
                return e;
        if (*ret < min || *ret > max)
                return fail_key(s->err, MODEL_E_META_RANGE, *ret, *ret < min ? min : max, key);
        return 0;
}

/* The same with a default, which is checked as well: it was computed from other keys. */
static int want_u32(const struct source *s, const char *suffix, uint32_t fallback, uint32_t min,
                    uint32_t max, uint32_t *ret) {
        char key[96];
        int e;

        *ret = fallback;
        e = gguf_u32(s->g, key_of(s, suffix, key), ret, s->err);
        if (e < 0)
                return e;
        if (*ret < min || *ret > max)
                return fail_key(s->err, MODEL_E_META_RANGE, *ret, *ret < min ? min : max, key);
        return 0;
}

/* A float option that must have one of two values when it is there at all. */
static int refuse_f32(const struct source *s, const char *suffix, float a, float b) {
        char key[96];
        float v = a;
        int e;

        e = gguf_f32(s->g, key_of(s, suffix, key), &v, s->err);
        if (e < 0)
                return e;
        return v == a || v == b ? 0 : fail_key(s->err, MODEL_E_FEATURE, 0, 0, key);
}

static int read_shape(const struct source *s, struct hparams *hp) {
        uint32_t value_dim;
        int e;

        if ((e = need_u32(s, "block_count", 1, LIMIT_LAYERS, &hp->n_layer)) < 0 ||
            (e = need_u32(s, "embedding_length", 1, LIMIT_EMBD, &hp->n_embd)) < 0 ||
            (e = need_u32(s, "feed_forward_length", 1, LIMIT_FF, &hp->n_ff)) < 0 ||
            (e = need_u32(s, "attention.head_count", 1, LIMIT_HEADS, &hp->n_head)) < 0 ||
            (e = need_u32(s, "context_length", 1, LIMIT_CTX, &hp->n_ctx)) < 0 ||
            (e = want_u32(s, "attention.head_count_kv", hp->n_head, 1, hp->n_head,
                          &hp->n_head_kv)) < 0 ||
            (e = want_u32(s, "attention.key_length", hp->n_embd / hp->n_head, 2, LIMIT_HEAD_DIM,
                          &hp->head_dim)) < 0 ||
            (e = want_u32(s, "attention.value_length", hp->head_dim, 2, LIMIT_HEAD_DIM,
                          &value_dim)) < 0 ||
            (e = want_u32(s, "rope.dimension_count", hp->head_dim, 2, hp->head_dim,
                          &hp->rope_dim)) < 0)
                return e;
        if (hp->n_head % hp->n_head_kv != 0)
                return fail_key(s->err, MODEL_E_META_RANGE, hp->n_head_kv, hp->n_head,
                                "attention.head_count_kv");
        if (hp->head_dim % 2 != 0)
                return fail_key(s->err, MODEL_E_META_RANGE, hp->head_dim, 2,
                                "attention.key_length");
        if (hp->rope_dim % 2 != 0)
                return fail_key(s->err, MODEL_E_META_RANGE, hp->rope_dim, 2,
                                "rope.dimension_count");
        if (value_dim != hp->head_dim)
                return fail_key(s->err, MODEL_E_FEATURE, value_dim, hp->head_dim,
                                "attention.value_length");
        return 0;
}

static int read_floats(const struct source *s, struct hparams *hp) {
        char key[96];
        int e;

        e = gguf_f32(s->g, key_of(s, "attention.layer_norm_rms_epsilon", key), &hp->rms_eps,
                     s->err);
        if (e == GGUF_ABSENT)
                return fail_key(s->err, MODEL_E_META_MISSING, 0, 0, key);
        if (e < 0)
                return e;
        if (!(hp->rms_eps > 0.0f && hp->rms_eps < 1.0f))
                return fail_key(s->err, MODEL_E_META_RANGE, 0, 1, key);

        hp->rope_base = 10000.0f;
        e = gguf_f32(s->g, key_of(s, "rope.freq_base", key), &hp->rope_base, s->err);
        if (e < 0)
                return e;
        if (!(hp->rope_base > 0.0f))
                return fail_key(s->err, MODEL_E_META_RANGE, 0, 0, key);
        return 0;
}

/* The token table may be shorter than the embedding (padding rows), and P.vocab_size may mean
 * either. What the table contains is the tokenizer's business. */
static int read_vocab_size(const struct source *s, uint64_t embd_rows, struct hparams *hp) {
        const struct gguf_kv *tokens = gguf_find(s->g, "tokenizer.ggml.tokens");
        uint32_t said;
        int e;

        if (embd_rows == 0 || embd_rows > LIMIT_VOCAB)
                return fail_key(s->err, MODEL_E_META_RANGE, embd_rows, LIMIT_VOCAB, "token_embd");
        hp->n_vocab = (uint32_t)embd_rows;
        if (!tokens)
                return fail_key(s->err, MODEL_E_META_MISSING, 0, 0, "tokenizer.ggml.tokens");
        if (tokens->type != GGUF_ARRAY || tokens->element != GGUF_STRING)
                return fail_key(s->err, MODEL_E_META_TYPE, tokens->type, GGUF_ARRAY,
                                "tokenizer.ggml.tokens");
        if (tokens->count == 0 || tokens->count > embd_rows)
                return fail_key(s->err, MODEL_E_TOKENS, tokens->count, embd_rows,
                                "tokenizer.ggml.tokens");
        e = want_u32(s, "vocab_size", hp->n_vocab, 1, LIMIT_VOCAB, &said);
        if (e < 0)
                return e;
        if (said != embd_rows && said != tokens->count)
                return fail_key(s->err, MODEL_E_META_RANGE, said, embd_rows, "vocab_size");
        return 0;
}

static bool is_2b4t_shape(const struct hparams *hp) {
        return hp->n_layer == 30 && hp->n_embd == 2560 && hp->n_vocab == 128256;
}

/* 4.1: the key decides; without it, what the known models of the architecture were trained with. */
static int read_activation(const struct source *s, struct hparams *hp) {
        struct view name;
        char key[96];
        int e;

        e = gguf_string(s->g, key_of(s, "hidden_activation", key), &name, s->err);
        if (e < 0)
                return e;
        if (e == 0) {
                if (view_is(name, "silu"))
                        hp->activation = ACTIVATION_SILU;
                else if (view_is(name, "relu2"))
                        hp->activation = ACTIVATION_RELU2;
                else
                        return fail_key(s->err, MODEL_E_ACTIVATION, name.n, 0, key);
                return 0;
        }
        if (hp->arch == ARCH_LLAMA || (hp->arch == ARCH_BITNET && hp->n_vocab == 32002))
                hp->activation = ACTIVATION_SILU;
        else if (hp->arch == ARCH_BITNET_B158 || is_2b4t_shape(hp))
                hp->activation = ACTIVATION_RELU2;
        else
                return fail_key(s->err, MODEL_E_ACTIVATION, 0, 0, key);
        return 0;
}

/* Position scaling changes every attention score: only the kinds that change nothing pass. */
static int refuse_rope_scaling(const struct source *s) {
        struct view type;
        char key[96];
        int e;

        e = gguf_string(s->g, key_of(s, "rope.scaling.type", key), &type, s->err);
        if (e < 0)
                return e;
        if (e == 0 && view_is(type, "none"))
                return 0;
        if (e == 0 && !view_is(type, "linear"))
                return fail_key(s->err, MODEL_E_FEATURE, 0, 0, key);
        e = refuse_f32(s, "rope.scaling.factor", 1.0f, 0.0f);
        if (e < 0)
                return e;
        return refuse_f32(s, "rope.scale_linear", 1.0f, 0.0f);
}

/* Settings of related models that change the forward pass. */
static int refuse_features(const struct source *s) {
        static const char *const one_or_absent[] = {"logit_scale", "embedding_scale",
                                                    "residual_scale"};
        static const char *const zero_or_absent[] = {"attention.scale", "attention.clamp_kqv",
                                                     "attn_logit_softcapping",
                                                     "final_logit_softcapping"};
        static const char *const zero_integers[] = {"expert_count", "attention.sliding_window"};
        char key[96];
        uint32_t v;
        int e;

        for (size_t i = 0; i < ARRAY_SIZE(one_or_absent); i++)
                if ((e = refuse_f32(s, one_or_absent[i], 1.0f, 0.0f)) < 0)
                        return e;
        for (size_t i = 0; i < ARRAY_SIZE(zero_or_absent); i++)
                if ((e = refuse_f32(s, zero_or_absent[i], 0.0f, 0.0f)) < 0)
                        return e;
        for (size_t i = 0; i < ARRAY_SIZE(zero_integers); i++) {
                v = 0;
                e = gguf_u32(s->g, key_of(s, zero_integers[i], key), &v, s->err);
                if (e < 0)
                        return e;
                if (v != 0)
                        return fail_key(s->err, MODEL_E_FEATURE, v, 0, key);
        }
        for (size_t i = 0; i < s->g->n_kv; i++) {
                struct view k = s->g->kv[i].key;

                if (k.n >= 15 && memcmp(k.p, "prism.hadamard.", 15) == 0)
                        return model_fail(s->err, MODEL_E_FEATURE, s->g->kv[i].position, 0, 0,
                                          (const char *)k.p, k.n);
        }
        return refuse_rope_scaling(s);
}

static int read_pooling(const struct source *s, struct hparams *hp) {
        uint32_t v = POOLING_NONE;
        char key[96];
        int e;

        e = gguf_u32(s->g, key_of(s, "pooling_type", key), &v, s->err);
        if (e < 0)
                return e;
        if (v > POOLING_LAST)
                return fail_key(s->err, MODEL_E_FEATURE, v, POOLING_LAST, key);
        hp->pooling = (enum model_pooling)v;
        return 0;
}

static int refuse_causal_off(const struct source *s) {
        bool causal = true;
        char key[96];
        int e;

        e = gguf_bool(s->g, key_of(s, "attention.causal", key), &causal, s->err);
        if (e < 0)
                return e;
        return causal ? 0 : fail_key(s->err, MODEL_E_FEATURE, 0, 1, key);
}

/* Not a whole model: a part of a split one, or an adapter. */
static int refuse_parts(const struct source *s) {
        uint32_t parts = 1;
        struct view type;
        int e;

        e = gguf_u32(s->g, "split.count", &parts, s->err);
        if (e < 0)
                return e;
        if (parts > 1)
                return fail_key(s->err, MODEL_E_SPLIT, parts, 1, "split.count");
        e = gguf_string(s->g, "general.type", &type, s->err);
        if (e < 0)
                return e;
        if (e == 0 && !view_is(type, "model"))
                return fail_key(s->err, MODEL_E_FEATURE, 0, 0, "general.type");
        return 0;
}

int hparams_read(struct hparams *ret, const struct gguf *g, uint64_t embd_rows,
                 struct model_error *err) {
        struct source s = {.g = g, .err = err};
        struct hparams hp = {0};
        int e;

        if ((e = hparams_arch(g, &hp.arch, &s.prefix, err)) < 0 || (e = refuse_parts(&s)) < 0 ||
            (e = read_shape(&s, &hp)) < 0 || (e = read_floats(&s, &hp)) < 0 ||
            (e = read_vocab_size(&s, embd_rows, &hp)) < 0 ||
            (e = read_activation(&s, &hp)) < 0 || (e = refuse_features(&s)) < 0 ||
            (e = refuse_causal_off(&s)) < 0 || (e = read_pooling(&s, &hp)) < 0)
                return e;
        hp.sub_norms = hp.arch != ARCH_LLAMA;
        hp.rope_neox = hp.arch != ARCH_LLAMA;
        hp.token_quant = hp.arch != ARCH_LLAMA;
        *ret = hp;
        return 0;
}
