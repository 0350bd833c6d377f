/* Tiles of 16 or 80 rows as kernels/layout.h describes them: the packer fills one tile at a time,
 * and matrix_row() (model.h) reads single rows back. */
#pragma once

#include <stdbool.h>

#include "engine/model/decode.h"
#include "engine/model/shape.h"

/* matrix_tile_rows() rows: a whole panel of a matrix by column. */
struct tile {
        const struct weight_matrix *m; /* form and sizes; pointers unused */
        bool mins;
        uint8_t *part[MATRIX_PARTS];   /* matrix_tile_bytes() each, NULL when 0 */
};

/* Memory for one tile, and for one row in front of it (padding columns already filled). */
int tile_init(struct tile *t, const struct weight_matrix *m, bool mins);
void tile_done(struct tile *t);
int row_buffer_init(struct row_buffer *r, const struct weight_matrix *m, bool mins);
void row_buffer_done(struct row_buffer *r);

/* All rows zero. */
void tile_clear(struct tile *t);
void tile_put_row(struct tile *t, unsigned r, const struct row_buffer *row);
