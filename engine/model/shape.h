/* Which tensors a model of given hyper-parameters has, by name and shape: one list for the packer,
 * which looks them up in a foreign file, and for model_open(), which looks them up in a packed one;
 * and the sizes of a packed matrix. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/model/model.h"

enum layer_matrix {
        MATRIX_Q, MATRIX_K, MATRIX_V, MATRIX_O, MATRIX_GATE, MATRIX_UP, MATRIX_DOWN,
        LAYER_MATRICES,
};

enum layer_norm { NORM_ATTN, NORM_ATTN_SUB, NORM_FFN, NORM_FFN_SUB, LAYER_NORMS };

enum { NAME_ROOM = 64 }; /* a tensor name and its end */

/* "attn_q", …; the tensor is blk.N.NAME.weight */
const char *layer_matrix_name(enum layer_matrix m);
const char *layer_norm_name(enum layer_norm n);
void layer_matrix_shape(const struct hparams *hp, enum layer_matrix m, uint32_t *ret_rows,
                        uint32_t *ret_cols);
/* Values of a norm vector; 0 when this architecture has no such norm. */
uint32_t layer_norm_size(const struct hparams *hp, enum layer_norm n);
/* The form of a ternary matrix with row scales in this place at 2 bits a weight; valid beside it is
 * the same order of weights in base 3. */
enum weight_form layer_ternary_form(const struct hparams *hp, enum layer_matrix m);
/* form: one of WEIGHT_T2, WEIGHT_T2_BY_ROW, WEIGHT_T2_BY_COL. */
enum weight_form ternary_in_base_3(enum weight_form form);
bool layer_ternary_valid(const struct hparams *hp, enum layer_matrix m, enum weight_form form);
struct weight_matrix *layer_matrix(struct layer *l, enum layer_matrix m);
const float **layer_norm(struct layer *l, enum layer_norm n);

/* A packed matrix is up to four tensors: NAME.codes, NAME.mantissa (I8, bytes), NAME.scales (F32;
 * F16 for SCALE_HALF and SCALE_SUPER), NAME.mins (F16). */
enum matrix_part { PART_CODES, PART_MANTISSA, PART_SCALES, PART_MINS, MATRIX_PARTS };
const char *matrix_part_name(enum matrix_part part);
/* Its enum tensor_type_id. */
uint32_t matrix_part_type(const struct weight_matrix *m, enum matrix_part part);
/* Ternary codes, in whatever order; the same at 1.6 bits. */
bool matrix_is_ternary(const struct weight_matrix *m);
bool matrix_is_base_3(const struct weight_matrix *m);
/* Rows that lie together: 80 for T5 (a slab), 256 or 320 by column (a panel), 16 for the others;
 * how many such tiles. */
uint32_t matrix_tile_rows(const struct weight_matrix *m);
uint32_t matrix_tiles(const struct weight_matrix *m);
/* Bytes of one part of one tile (kernels/layout.h, kernels/kernels.h); 0 when the form does not
 * have it. mins: the matrix has minimums. */
uint64_t matrix_tile_bytes(const struct weight_matrix *m, bool mins, enum matrix_part part);
/* The same of all tiles. */
uint64_t matrix_part_bytes(const struct weight_matrix *m, bool mins, enum matrix_part part);
/* Scales of one row in PART_SCALES: 1 for one scale per row. */
uint32_t matrix_scale_groups(const struct weight_matrix *m);
/* PART_SCALES holds binary16, and there is a factor (weight_matrix.factor). */
bool matrix_scales_are_halves(const struct weight_matrix *m);
/* A combination of form, scale, planes and group that the kernels know. */
bool matrix_form_valid(const struct weight_matrix *m, bool mins);
