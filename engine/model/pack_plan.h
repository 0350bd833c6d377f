/* What the packer is going to do: every tensor of the source found, checked against the
 * hyper-parameters, and given its form. Built before a byte is written. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/decode.h"
#include "engine/model/gguf.h"
#include "engine/model/pack.h"
#include "engine/model/shape.h"

struct plan_matrix {
        char name[NAME_ROOM];            /* without ".weight" */
        struct matrix_source source;
        struct weight_matrix form;       /* of the result; pointers unused */
        enum weight_form ternary;        /* the form if ternary with row scales */
        bool mins;
        uint64_t file_offset;            /* of the source's data, for errors */
        uint64_t offset[MATRIX_PARTS];   /* in the output blob */
};

struct plan_vector {
        char name[NAME_ROOM];            /* full name, the same in the output */
        const struct gguf_tensor *tensor;
        uint64_t offset;                 /* in the output blob */
};

struct pack_plan {
        const struct gguf *g;
        const struct pack_options *options;
        const char *prefix;              /* of the architecture's keys */
        struct hparams hp;
        struct plan_matrix *matrices;    /* token_embd, layers in order, output if any */
        size_t n_matrices;
        struct plan_vector *vectors;
        size_t n_vectors;
        bool head_quantized;
        struct model_error *err;
};

/* On failure the plan holds nothing. g and options are borrowed. */
int pack_plan_init(struct pack_plan *p, const struct gguf *g, const struct pack_options *options,
                   struct model_error *err);
void pack_plan_done(struct pack_plan *p);
