/* Hyper-parameters from metadata, range-checked: what is read here may be multiplied and used as a
 * size without further thought. Rules: formats-and-models 1.3 no. 15, 3.1.1 and 4.1. */
#pragma once

#include "engine/model/gguf.h"
#include "engine/model/model.h"

/* Everything but token_quant (which depends on the types of the matrices and starts as "BitNet
 * family"). embd_rows: rows of the embedding, which is the vocabulary the model computes with; the
 * token table may be shorter, never longer. Works on files from outside and on packed files. */
int hparams_read(struct hparams *ret, const struct gguf *g, uint64_t embd_rows,
                 struct model_error *err);

/* The metadata prefix of the file's own architecture string ("llama", "bitnet-25", …), checked. */
int hparams_arch(const struct gguf *g, enum model_arch *ret_arch, const char **ret_prefix,
                 struct model_error *err);
