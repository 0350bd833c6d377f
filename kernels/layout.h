/* Weight layouts of the packed file, as the kernels read them.
 *
 * Every matrix is cut into tiles of 16 rows; the last tile is padded with rows of zeros. One vector
 * lane is one row, so that no kernel ever sums floats across lanes and the order of their additions
 * is the order written down in kernels.h, on every instruction set.
 *
 * t2x16 (ternary, 2 bits a weight, K planes): a tile is a sequence of groups of 64 columns, a group
 * is K planes, a plane is 4 blocks of 64 bytes, and a block is 16 rows x 16 columns. Byte
 * 4 * row + c of a block holds four codes; bits 2k, 2k+1 are the code of column 4 * k + c
 * (k, c = 0..3). Codes 0, 1, 2 stand for -1, 0, +1. Columns past the end hold code 1.
 *
 * t5x80 (ternary, base 3, 1.6 bits a weight): five tiles make a slab of 80 rows, the last one
 * padded with rows of zeros. A slab is a sequence of groups of 64 columns, a group is 16 blocks of
 * 64 bytes, and a block is 80 rows x 4 columns: byte 4 * lane + c holds column c of the five rows
 * 16 * k + lane, k = 0..4, with codes d(k) as above, as the number
 *         28 * (d3 + 3 * d4) + d0 + 3 * d1 + 9 * d2        (at most 250)
 * 28 instead of 27, so that the upper six bits of a byte (a table of 64) determine d3 and d4. All
 * five codes of a byte meet the same activation: the sums of any five independent linear functions
 * of the codes will do, one of which is the byte itself. Bytes that no codes give are read by the
 * same formula, with code 3 where / 9 or / 84 gives 3. Columns past the end hold codes 1.
 *
 * t2 by row (ternary, 2 bits a weight, one plane): rows one after the other, so that a product may
 * leave rows out. A row is blocks of 64 bytes, each 256 columns: byte i of a block holds the codes
 * of columns i, 64 + i, 128 + i, 192 + i, lowest bits first. Columns past the end hold code 1.
 *
 * t2 by column (the same codes): panels of 256 rows, so that a product may leave columns out. A
 * panel is a sequence of columns, each 64 bytes: bits 2k, 2k+1 of byte 16 * l + 4 * j + i are the
 * code of row 16 * (4 * j + k) + 4 * l + i (l, j, k, i = 0..3). Bytes of four columns interleaved
 * thus give four vectors, each of which has a tile under every k. Columns and rows past the end
 * hold code 1, and the scales are padded to whole panels as well.
 *
 * t5 by row (base 3, 1.6 bits a weight): rows one after the other. A row is blocks of 64 bytes,
 * each 320 columns: the digits d0 to d4 of byte i of a block, as in t5x80, are the codes of columns
 * i, 64 + i, 128 + i, 192 + i, 256 + i.
 *
 * t5 by column (the same digits): panels of 320 rows. A panel is a sequence of columns, each 64
 * bytes: digit k of byte 16 * l + 4 * j + i is the code of row 16 * (5 * j + k) + 4 * l + i (l, j,
 * i = 0..3, k = 0..4). Bytes of four columns interleaved thus give four vectors, each of which has
 * a tile under every digit. Ends are padded as without base 3.
 *
 * s8x16 (8 bits a weight): a tile is a sequence of groups of 64 columns, a group is 16 blocks of 64
 * bytes, and a block is 16 rows x 4 columns: byte 4 * row + c is the weight of column c plus 128
 * (unsigned). Columns past the end hold 128.
 *
 * s4x16 (4 bits a weight): a tile is a sequence of groups of 64 columns, a group is 8 blocks of 64
 * bytes, and a block is 16 rows x 8 columns: the low half of byte 4 * row + c is the code of column
 * c, the high half that of column 4 + c (c = 0..3). A code stands for itself minus 8, or for itself
 * when the matrix has minimums. Columns past the end hold any code.
 *
 * s6x16 (6 bits a weight): a group of 64 columns is the 8 blocks of s4x16, which hold the low 4
 * bits of every code, and behind them the 4 blocks of a t2x16 plane, which hold its high 2 bits. A
 * code stands for itself minus 32.
 *
 * f16x16, bf16x16, f32x16: a tile is a sequence of columns, each 16 values, one per row.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum {
        TILE_ROWS = 16,    /* rows in a tile */
        GROUP_COLS = 64,   /* columns in an activation group */
        BLOCK_BYTES = 64,  /* bytes in a block of codes */
        T2_PLANE_BYTES = TILE_ROWS * GROUP_COLS / 4,
        T5_TILES = 5,      /* tiles in a slab */
        T5_GROUP_BYTES = TILE_ROWS * GROUP_COLS,
        S8_GROUP_BYTES = TILE_ROWS * GROUP_COLS,
        S4_GROUP_BYTES = TILE_ROWS * GROUP_COLS / 2,
        S6_GROUP_BYTES = S4_GROUP_BYTES + T2_PLANE_BYTES,
        MAX_PLANES = 4,
        ROW_BLOCK_COLS = 4 * BLOCK_BYTES, /* by row: columns in a block */
        PANEL_ROWS = 4 * BLOCK_BYTES,     /* by column: rows in a panel */
        PANEL_TILES = PANEL_ROWS / TILE_ROWS,
        T5_ROW_BLOCK_COLS = T5_TILES * BLOCK_BYTES,
        T5_PANEL_ROWS = T5_TILES * BLOCK_BYTES,
        T5_PANEL_TILES = T5_PANEL_ROWS / TILE_ROWS,
};

static_assert(T2_PLANE_BYTES == 4 * BLOCK_BYTES, "a plane of a group is four blocks");
static_assert(S8_GROUP_BYTES == 16 * BLOCK_BYTES, "an 8-bit group is sixteen blocks");

static inline uint32_t tiles_of(uint32_t rows) {
        return rows / TILE_ROWS + (rows % TILE_ROWS != 0);
}

static inline uint32_t slabs_of(uint32_t rows) {
        const uint32_t slab = T5_TILES * TILE_ROWS;

        return rows / slab + (rows % slab != 0);
}

static inline uint32_t groups_of(uint32_t cols) {
        return cols / GROUP_COLS + (cols % GROUP_COLS != 0);
}

static inline uint32_t panels_of(uint32_t rows) {
        return rows / PANEL_ROWS + (rows % PANEL_ROWS != 0);
}

static inline uint32_t t5_panels_of(uint32_t rows) {
        return rows / T5_PANEL_ROWS + (rows % T5_PANEL_ROWS != 0);
}

/* Bytes of a row of a matrix by row, and of a panel of a matrix by column. */
static inline size_t t2_row_bytes(uint32_t cols) {
        return (size_t)(cols / ROW_BLOCK_COLS + (cols % ROW_BLOCK_COLS != 0)) * BLOCK_BYTES;
}

static inline size_t t2_panel_bytes(uint32_t cols) {
        return (size_t)groups_of(cols) * GROUP_COLS * BLOCK_BYTES;
}

static inline size_t t5_row_bytes(uint32_t cols) {
        return (size_t)(cols / T5_ROW_BLOCK_COLS + (cols % T5_ROW_BLOCK_COLS != 0)) * BLOCK_BYTES;
}

/* As many as with 2 bits, for more rows. */
static inline size_t t5_panel_bytes(uint32_t cols) {
        return t2_panel_bytes(cols);
}
