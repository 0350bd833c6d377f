/* One row of a weight tensor, from any type we read to the form the packer writes: codes as bytes
 * plus scales. Layouts: formats-and-models 2.2 to 2.5. */
#pragma once

#include <stdint.h>

#include "engine/base/model_error.h"
#include "engine/model/pack.h"
#include "engine/model/types.h"
#include "kernels/kernels.h"

struct matrix_source {
        uint32_t type;            /* enum tensor_type_id; TYPE_I8 means trit planes */
        uint32_t rows, cols;
        const uint8_t *data;      /* the whole tensor, its size checked against the shape */
        enum i2s_layout i2s;
        uint32_t planes;          /* trit planes only, as the two below: */
        const uint8_t *mantissa;  /* [plane][row][cols / 64] */
        const uint8_t *row_scale; /* [row] f32, not aligned */
        float factor;             /* multiplies every weight; 1 for none. Float scales have it in
                                   * them when decoded, binary16 scales leave it to the matrix */
        bool to_s8;               /* float types: one 8-bit scale per row */
};

/* Columns are padded to a multiple of 64. The decoder writes the logical columns only. */
struct row_buffer {
        uint8_t *codes;    /* T2: [plane][padded] trit + 1; S8: [padded] weight + 128;
                            * S6, S4: [padded] codes of layout.h, a byte each;
                            * floats: [cols] values as in the file */
        uint8_t *mantissa; /* [plane][groups]; SCALE_SUPER: int8 [cols / 16] */
        float *scales;     /* [scale groups] */
        uint16_t *halves;  /* [scale groups], instead of scales */
        uint16_t *mins;    /* [scale groups], or unused */
};

/* Form, scale, planes and group of what row_decode() will give. *ret_mins: it has minimums. */
void matrix_source_form(const struct matrix_source *s, struct weight_matrix *ret, bool *ret_mins);

/* 0 or the code of what is wrong with the contents. row < s->rows. */
enum model_error_code row_decode(const struct matrix_source *s, uint32_t row,
                                 struct row_buffer *out);
