/* The list of tensors and the arithmetic of their packed sizes. Invariant: names and shapes come
 * from hyper-parameters that were range-checked, so no product here can overflow 64 bits. */

#include "engine/base/macro.h"
#include "engine/model/shape.h"
#include "engine/model/types.h"

enum { SUPER_COLS = 256 }; /* columns under one binary16 of SCALE_SUPER */

static const char *const matrix_names[LAYER_MATRICES] = {
        [MATRIX_Q] = "attn_q",      [MATRIX_K] = "attn_k",      [MATRIX_V] = "attn_v",
        [MATRIX_O] = "attn_output", [MATRIX_GATE] = "ffn_gate", [MATRIX_UP] = "ffn_up",
        [MATRIX_DOWN] = "ffn_down",
};

static const char *const norm_names[LAYER_NORMS] = {
        [NORM_ATTN] = "attn_norm",
        [NORM_ATTN_SUB] = "attn_sub_norm",
        [NORM_FFN] = "ffn_norm",
        [NORM_FFN_SUB] = "ffn_sub_norm",
};

static const char *const part_names[MATRIX_PARTS] = {
        [PART_CODES] = "codes",
        [PART_MANTISSA] = "mantissa",
        [PART_SCALES] = "scales",
        [PART_MINS] = "mins",
};

const char *layer_matrix_name(enum layer_matrix m) {
        return matrix_names[m];
}

const char *layer_norm_name(enum layer_norm n) {
        return norm_names[n];
}

const char *matrix_part_name(enum matrix_part part) {
        return part_names[part];
}

void layer_matrix_shape(const struct hparams *hp, enum layer_matrix m, uint32_t *ret_rows,
                        uint32_t *ret_cols) {
        const uint32_t heads = hp->n_head * hp->head_dim, kv = hp->n_head_kv * hp->head_dim;
        const struct {
                uint32_t rows, cols;
        } shapes[LAYER_MATRICES] = {
                [MATRIX_Q] = {heads, hp->n_embd},      [MATRIX_K] = {kv, hp->n_embd},
                [MATRIX_V] = {kv, hp->n_embd},         [MATRIX_O] = {hp->n_embd, heads},
                [MATRIX_GATE] = {hp->n_ff, hp->n_embd}, [MATRIX_UP] = {hp->n_ff, hp->n_embd},
                [MATRIX_DOWN] = {hp->n_embd, hp->n_ff},
        };

        *ret_rows = shapes[m].rows;
        *ret_cols = shapes[m].cols;
}

uint32_t layer_norm_size(const struct hparams *hp, enum layer_norm n) {
        switch (n) {
        case NORM_ATTN:
        case NORM_FFN:
                return hp->n_embd;
        case NORM_ATTN_SUB:
                return hp->sub_norms ? hp->n_head * hp->head_dim : 0;
        case NORM_FFN_SUB:
                return hp->sub_norms ? hp->n_ff : 0;
        case LAYER_NORMS:
                break;
        }
        return 0;
}

/* Behind ReLU² a gate that is not positive makes its row of `up` and its column of `down` idle. */
enum weight_form layer_ternary_form(const struct hparams *hp, enum layer_matrix m) {
        if (hp->activation != ACTIVATION_RELU2)
                return WEIGHT_T2;
        if (m == MATRIX_UP)
                return WEIGHT_T2_BY_ROW;
        return m == MATRIX_DOWN ? WEIGHT_T2_BY_COL : WEIGHT_T2;
}

enum weight_form ternary_in_base_3(enum weight_form form) {
        if (form == WEIGHT_T2_BY_ROW)
                return WEIGHT_T5_BY_ROW;
        return form == WEIGHT_T2_BY_COL ? WEIGHT_T5_BY_COL : WEIGHT_T5;
}

bool layer_ternary_valid(const struct hparams *hp, enum layer_matrix m, enum weight_form form) {
        const enum weight_form wanted = layer_ternary_form(hp, m);

        return form == wanted || form == ternary_in_base_3(wanted);
}

struct weight_matrix *layer_matrix(struct layer *l, enum layer_matrix m) {
        struct weight_matrix *const all[LAYER_MATRICES] = {
                [MATRIX_Q] = &l->q,       [MATRIX_K] = &l->k,   [MATRIX_V] = &l->v,
                [MATRIX_O] = &l->o,       [MATRIX_GATE] = &l->gate, [MATRIX_UP] = &l->up,
                [MATRIX_DOWN] = &l->down,
        };

        return all[m];
}

const float **layer_norm(struct layer *l, enum layer_norm n) {
        const float **const all[LAYER_NORMS] = {
                [NORM_ATTN] = &l->attn_norm,
                [NORM_ATTN_SUB] = &l->attn_sub_norm,
                [NORM_FFN] = &l->ffn_norm,
                [NORM_FFN_SUB] = &l->ffn_sub_norm,
        };

        return all[n];
}

static uint32_t groups_in(uint32_t cols, uint32_t group) {
        return cols / group + (cols % group != 0);
}

uint32_t matrix_scale_groups(const struct weight_matrix *m) {
        switch (m->scale) {
        case SCALE_GROUP:
        case SCALE_HALF:
                return groups_in(m->cols, m->group);
        case SCALE_SUPER:
                return groups_in(m->cols, SUPER_COLS);
        case SCALE_ROW:
        case SCALE_MANTISSA:
                return 1;
        case SCALE_NONE:
        case _SCALE_FORM_MAX:
                break;
        }
        return 0;
}

bool matrix_scales_are_halves(const struct weight_matrix *m) {
        return m->scale == SCALE_HALF || m->scale == SCALE_SUPER;
}

bool matrix_is_base_3(const struct weight_matrix *m) {
        return m->form == WEIGHT_T5 || m->form == WEIGHT_T5_BY_ROW || m->form == WEIGHT_T5_BY_COL;
}

bool matrix_is_ternary(const struct weight_matrix *m) {
        return m->form == WEIGHT_T2 || m->form == WEIGHT_T2_BY_ROW ||
               m->form == WEIGHT_T2_BY_COL || matrix_is_base_3(m);
}

uint32_t matrix_tile_rows(const struct weight_matrix *m) {
        if (m->form == WEIGHT_T2_BY_COL || m->form == WEIGHT_T5_BY_COL)
                return m->form == WEIGHT_T2_BY_COL ? PANEL_ROWS : T5_PANEL_ROWS;
        return m->form == WEIGHT_T5 ? T5_TILES * TILE_ROWS : TILE_ROWS;
}

uint32_t matrix_tiles(const struct weight_matrix *m) {
        const uint32_t rows = matrix_tile_rows(m);

        return m->rows / rows + (m->rows % rows != 0);
}

static uint64_t code_bytes(const struct weight_matrix *m) {
        switch (m->form) {
        case WEIGHT_T2:
                return (uint64_t)groups_of(m->cols) * m->planes * T2_PLANE_BYTES;
        case WEIGHT_T5:
                return (uint64_t)groups_of(m->cols) * T5_GROUP_BYTES;
        case WEIGHT_S8:
                return (uint64_t)groups_of(m->cols) * S8_GROUP_BYTES;
        case WEIGHT_S6:
                return (uint64_t)groups_of(m->cols) * S6_GROUP_BYTES;
        case WEIGHT_S4:
                return (uint64_t)groups_of(m->cols) * S4_GROUP_BYTES;
        case WEIGHT_F16:
        case WEIGHT_BF16:
                return (uint64_t)m->cols * TILE_ROWS * 2;
        case WEIGHT_F32:
                return (uint64_t)m->cols * TILE_ROWS * 4;
        case WEIGHT_T2_BY_ROW:
                return (uint64_t)t2_row_bytes(m->cols) * TILE_ROWS;
        case WEIGHT_T2_BY_COL:
                return t2_panel_bytes(m->cols);
        case WEIGHT_T5_BY_ROW:
                return (uint64_t)t5_row_bytes(m->cols) * TILE_ROWS;
        case WEIGHT_T5_BY_COL:
                return t5_panel_bytes(m->cols);
        case _WEIGHT_FORM_MAX:
                break;
        }
        return 0;
}

uint64_t matrix_tile_bytes(const struct weight_matrix *m, bool mins, enum matrix_part part) {
        const uint64_t width = matrix_scales_are_halves(m) ? sizeof(uint16_t) : sizeof(float);
        const uint64_t scales = (uint64_t)matrix_scale_groups(m) * matrix_tile_rows(m) * width;

        switch (part) {
        case PART_CODES:
                return code_bytes(m);
        case PART_MANTISSA:
                if (m->scale == SCALE_MANTISSA)
                        return (uint64_t)groups_of(m->cols) * m->planes * TILE_ROWS;
                return m->scale == SCALE_SUPER
                               ? (uint64_t)groups_in(m->cols, m->group) * TILE_ROWS
                               : 0;
        case PART_SCALES:
                return scales;
        case PART_MINS:
                return mins ? scales : 0;
        case MATRIX_PARTS:
                break;
        }
        return 0;
}

uint64_t matrix_part_bytes(const struct weight_matrix *m, bool mins, enum matrix_part part) {
        return matrix_tile_bytes(m, mins, part) * matrix_tiles(m);
}

uint32_t matrix_part_type(const struct weight_matrix *m, enum matrix_part part) {
        switch (part) {
        case PART_SCALES:
                return matrix_scales_are_halves(m) ? TYPE_F16 : TYPE_F32;
        case PART_MINS:
                return TYPE_F16;
        case PART_CODES:
        case PART_MANTISSA:
        case MATRIX_PARTS:
                break;
        }
        return TYPE_I8;
}

bool matrix_form_valid(const struct weight_matrix *m, bool mins) {
        if (mins && m->form != WEIGHT_S4)
                return false;
        switch (m->form) {
        case WEIGHT_T2:
                if (m->scale == SCALE_MANTISSA)
                        return m->planes >= 1 && m->planes <= MAX_PLANES && m->group == 0;
                if (m->planes != 1)
                        return false;
                return (m->scale == SCALE_ROW && m->group == 0) ||
                       (m->scale == SCALE_GROUP && (m->group == 64 || m->group == 256));
        case WEIGHT_T5:
        case WEIGHT_T5_BY_ROW:
        case WEIGHT_T5_BY_COL:
                return m->scale == SCALE_ROW && m->planes == 0 && m->group == 0;
        case WEIGHT_S8:
                if (m->planes != 0)
                        return false;
                return (m->scale == SCALE_ROW && m->group == 0) ||
                       (m->scale == SCALE_HALF && m->group == 32);
        case WEIGHT_S4:
                return m->scale == SCALE_HALF && m->planes == 0 && m->group == 32;
        case WEIGHT_S6:
                return m->scale == SCALE_SUPER && m->planes == 0 && m->group == 16;
        case WEIGHT_F16:
        case WEIGHT_BF16:
        case WEIGHT_F32:
                return m->scale == SCALE_NONE && m->planes == 0 && m->group == 0;
        case WEIGHT_T2_BY_ROW:
        case WEIGHT_T2_BY_COL:
                return m->scale == SCALE_ROW && m->planes == 1 && m->group == 0;
        case _WEIGHT_FORM_MAX:
                break;
        }
        return false;
}
