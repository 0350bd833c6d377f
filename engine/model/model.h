/* A packed model, mapped: hyper-parameters, typed weights, vocabulary. Immutable once open. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/model_error.h"
#include "kernels/kernels.h"

struct vocab;

enum model_arch { ARCH_BITNET, ARCH_BITNET_B158, ARCH_LLAMA };

enum model_activation { ACTIVATION_SILU, ACTIVATION_RELU2 };

/* How the outputs of a text become one vector, in the numbers of the metadata; POOLING_NONE: the
 * model generates text. */
enum model_pooling { POOLING_NONE, POOLING_MEAN, POOLING_CLS, POOLING_LAST };

struct hparams {
        enum model_arch arch;
        uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, rope_dim;
        uint32_t n_vocab, n_ctx;
        float rms_eps, rope_base;
        bool rope_neox;           /* pairs (i, i + half), else (2 i, 2 i + 1) */
        enum model_activation activation;
        enum model_pooling pooling;
        bool sub_norms;           /* bitnet families: attn_sub_norm and ffn_sub_norm */
        bool token_quant;         /* one activation scale per token, else one per 64 */
};

/* Vectors are float32 in the mapping; matrices are [rows = outputs, cols = inputs]. */
struct layer {
        const float *attn_norm, *ffn_norm;         /* [n_embd] */
        const float *attn_sub_norm;                /* [n_head * head_dim] or NULL */
        const float *ffn_sub_norm;                 /* [n_ff] or NULL */
        struct weight_matrix q, k, v, o;           /* o: cols = n_head * head_dim */
        struct weight_matrix gate, up, down;
};

struct model {
        struct hparams hp;
        struct layer *layers;             /* [n_layer] */
        struct weight_matrix token_embd;  /* rows = n_vocab */
        struct weight_matrix output;      /* the same matrix when tied */
        bool tied;
        const float *output_norm;         /* [n_embd] */
        const float *rope_freqs;          /* [rope_dim / 2] divisors, or NULL */
        struct vocab *vocab;
        const void *map;
        size_t map_size;
        uint64_t n_params;                /* weights before packing, for listings */
};

/* Map a packed file. The descriptor is not kept and may be closed afterwards; the model owns the
 * mapping. Returns 0, or a negative errno with *err filled. Does no work proportional to the
 * weights (checks shapes and sizes, touches no weight page). */
int model_open(struct model **ret, int fd, struct model_error *err);
struct model *model_free(struct model *m);

/* The f32 values of one row (an embedding). out has room for m->cols. */
void matrix_row(const struct weight_matrix *m, uint32_t row, float *out);
