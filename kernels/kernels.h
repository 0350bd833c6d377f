/* The contract of all arithmetic: pure functions behind one table of pointers.
 *
 * A kernel allocates nothing, knows no thread, touches no errno and reads exactly the bytes its
 * arguments describe. Arguments never alias unless a function says so. Integer parts are exact.
 * Float parts follow the order written here, one operation at a time (fused multiply-add only where
 * it is written, in attention), so that every instruction set, every batch and every thread count
 * gives the same bits. kernels/ref is the specification in C.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/layout.h"

enum weight_form {
        WEIGHT_T2,   /* t2x16: K ternary planes */
        WEIGHT_S8,   /* s8x16: 8-bit integers */
        WEIGHT_F16,
        WEIGHT_BF16,
        WEIGHT_F32,
        WEIGHT_S4,   /* s4x16: 4-bit integers */
        WEIGHT_S6,   /* s6x16: 6-bit integers */
        WEIGHT_T5,   /* t5x80: ternary in base 3, SCALE_ROW only */
        WEIGHT_T2_BY_ROW, /* t2 by row: SCALE_ROW only */
        WEIGHT_T2_BY_COL, /* t2 by column: SCALE_ROW only */
        WEIGHT_T5_BY_ROW, /* t5 by row: SCALE_ROW only */
        WEIGHT_T5_BY_COL, /* t5 by column: SCALE_ROW only */
        _WEIGHT_FORM_MAX,
};

enum scale_form {
        SCALE_ROW,      /* one float per row */
        SCALE_MANTISSA, /* T2: u8 mantissa per plane, row and 64 columns, times one float per row */
        SCALE_GROUP,    /* T2: one float per row and `group` columns */
        SCALE_NONE,     /* float weights */
        SCALE_HALF,     /* S8, S4: one binary16 per row and 32 columns; S4 may add a minimum */
        SCALE_SUPER,    /* S6: one int8 per row and 16 columns, times a binary16 per 256 */
        _SCALE_FORM_MAX,
};

/* A packed matrix of `rows` outputs and `cols` inputs. Pointers are into a read-only mapping and
 * aligned to 64 bytes. Not owned. */
struct weight_matrix {
        enum weight_form form;
        enum scale_form scale;
        uint32_t rows, cols;
        uint32_t planes;        /* T2: 1..MAX_PLANES (1 unless SCALE_MANTISSA), else 0 */
        uint32_t group;         /* columns per scale: SCALE_GROUP 256 or 64, SCALE_HALF 32,
                                 * SCALE_SUPER 16 */
        const void *codes;      /* layout.h */
        const uint8_t *mantissa;/* SCALE_MANTISSA: [tile][group of 64][plane][16]
                                 * SCALE_SUPER: int8, [tile][ceil(cols / 16)][16] */
        const float *scales;    /* SCALE_ROW, SCALE_MANTISSA: [tile][16]
                                 * SCALE_GROUP: [tile][ceil(cols / group)][16] */
        const uint16_t *halves; /* SCALE_HALF: [tile][ceil(cols / 32)][16]
                                 * SCALE_SUPER: [tile][ceil(cols / 256)][16] */
        const uint16_t *mins;   /* S4 only, may be NULL: [tile][ceil(cols / 32)][16] */
        float factor;           /* SCALE_HALF, SCALE_SUPER: multiplies every result; 1 for none */
};

/* Quantised activations of n tokens. Columns are padded with zeros to a multiple of 64. */
struct activations {
        uint32_t n;           /* tokens */
        uint32_t cols;        /* logical columns */
        uint32_t stride;      /* bytes between tokens in q: 64 * groups_of(cols) */
        const int8_t *q;      /* [n][stride], -127..127 */
        const float *scale;   /* [n][groups]: what one step is worth (x ~ q * scale) */
        const int32_t *sum;   /* [n][groups]: sum of q over the 64 columns */
        const float *inverse; /* [n]: one scale per token (x * inverse rounded gives q);
                               * set only by quantize_token */
};

/* Matrix times n token vectors for the tiles [tile_begin, tile_end):
 * y[t * y_stride + r] for r in [16 * tile_begin, 16 * tile_end). y has room for 16 * tile_end rows
 * per token (padding rows are written too, with unspecified finite values). n >= 1.
 *
 * With I(g) the exact integer sum over the columns of group g (ternary: sum of (code - 1) * q;
 * others: sum of what the codes stand for, by layout.h, times q), row r, token t:
 *
 * t2_row       I = sum over all columns;       y = ((float)I / inverse[t]) * scales[r]
 * t5_row       the same; tile_begin is a multiple of T5_TILES, tile_end another or the last
 * t2_by_row, t2_by_col, t5_by_row, t5_by_col
 *              as t2_row, any tiles; by_col reads only columns whose q is not zero, where that is
 *              faster
 * t2_mantissa  J(g) = sum over planes of mantissa * I(plane, g), exact in int32;
 *              a = 0; for g in order: a = a + (float)J(g) * scale[t][g];   y = a * scales[r]
 * t2_group     for each 64-column group g in order, with b = (64 g) / group:
 *              a = a + ((float)I(g) * scale[t][g]) * scales[b][r];         y = a
 * s8_row       a = a + (float)I(g) * scale[t][g] over 64-column groups;     y = a * scales[r]
 * s8_group, s4_group
 *              for each weight group b (32 columns) in order, xs the activation scale of the
 *              64-column group it lies in and d = (float)halves[b][r], without minimum:
 *              a = a + ((float)I(b) * xs) * d
 *              with minimum, S(b) the exact sum of q over the group:
 *              a = a + (((float)I(b) * d) + ((float)S(b) * (float)mins[b][r])) * xs
 *              y = a * factor
 * s6_group     J(g) = sum over the weight groups b (16 columns) of the 64-column group g of
 *              mantissa[b] * I(b), exact in int32; for each 256 columns B in order:
 *              c = 0; for g in B in order: c = c + (float)J(g) * scale[t][g];
 *              a = a + c * (float)halves[B][r];                          y = a * factor
 */
typedef void matmul_q_fn(float *y, size_t y_stride, const struct weight_matrix *w,
                         const struct activations *x, uint32_t tile_begin, uint32_t tile_end);

/* t2_by_row or t5_by_row for one token, where only the rows r with gate[r] > 0 are wanted: the
 * other elements of y in these tiles become unspecified. gate has 16 * tile_end elements. */
typedef void matmul_where_fn(float *y, const struct weight_matrix *w, const struct activations *x,
                             const float *gate, uint32_t tile_begin, uint32_t tile_end);

/* Float weights times n float vectors x[t * x_stride + c]: a = 0; for c in column order:
 * a = a + (float)w[r][c] * x[t][c];  y = a. */
typedef void matmul_f_fn(float *y, size_t y_stride, const struct weight_matrix *w, const float *x,
                         size_t x_stride, uint32_t n, uint32_t tile_begin, uint32_t tile_end);

/* y = x * s * w (w NULL: y = x * s), s = (float)(1 / sqrt(mean + eps)), mean = sum of squares / n
 * in double: 16 partial sums, element i goes to sum i mod 16 in order, then added as a binary tree
 * (lane j + lane j+8, then j+4, j+2, j+1). Order of the product: (x * s) * w. y may be x. */
typedef void rms_norm_fn(float *y, const float *x, const float *w, size_t n, float eps);

/* One scale for the token (formats-and-models 4.4): m = max(1e-5, max|x|);
 * inverse = (float)(127.0 / (double)m); q = round half to even(x * inverse), clamped to +-127;
 * every scale[g] = 1.0f / inverse; sums per 64. q is padded with zeros to 64 * groups_of(n). */
typedef void quantize_token_fn(int8_t *q, float *scale, int32_t *sum, float *inverse,
                               const float *x, uint32_t n);

/* One scale per 64 columns: m = max|x| over the group; m = 0 gives scale 0 and zeros; otherwise
 * scale = m / 127.0f, q = round half to even(x * (127.0f / m)), clamped to +-127. */
typedef void quantize_group_fn(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n);

/* y = gate > 0 ? (gate * gate) * up : 0, so that up does not matter where it is 0; y may be gate or
 * up. */
typedef void relu2_mul_fn(float *y, const float *gate, const float *up, size_t n);
/* y = (gate / (1 + exp(-gate))) * up with kernels/ref/expf.h's exp; y may be gate or up. */
typedef void silu_mul_fn(float *y, const float *gate, const float *up, size_t n);
/* y = y + x */
typedef void add_fn(float *y, const float *x, size_t n);

/* Rotate one head in place over its first 2 * half values; cos and sin have `half` values.
 * a' = a * cos - b * sin; b' = b * cos + a * sin, each product rounded by itself.
 * rope_neox: pairs (i, i + half); rope_norm: pairs (2 i, 2 i + 1). */
typedef void rope_fn(float *x, const float *cos, const float *sin, size_t half);

/* Round to nearest even, as IEEE binary16. */
typedef void f32_to_f16_fn(uint16_t *y, const float *x, size_t n);

/* How keys and values are kept. */
enum kv_form {
        KV_S16, /* twice as fast as f16; errors of up to n_keys / 65534 of max|v| in a block where
                 * one key outweighs all others */
        KV_F16,
        KV_S8, /* half the memory, a little less exact */
        _KV_FORM_MAX,
};

/* A page holds KV_PAGE tokens of one layer and one KV head in f16.
 * K is stored by dimension: k[d * KV_PAGE + token]; V by token: v[token * head_dim + d]. */
enum {
        KV_PAGE = 32,
        ATTENTION_BLOCK = 256,  /* keys that are summed up together */
        ATTENTION_QUERIES = 8,  /* queries that share one reading of them */
        ATTENTION_DIM_MAX = 256,
        ATTENTION_SCRATCH = 2 * ATTENTION_QUERIES * ATTENTION_BLOCK, /* floats */
};

/* Up to 8 queries of one KV head against one block of keys: the heads of its group, rows of a
 * chunk, or both. Each query has its own end in the block; K and V past a query's end do not
 * matter to it (they may be NaN), and past the last end they are not keys at all. */
struct attention_block {
        uint32_t n;              /* queries, 1..8 */
        uint32_t head_dim;       /* even, 2..256 */
        float scale;
        const void *k[ATTENTION_BLOCK / KV_PAGE], *v[ATTENTION_BLOCK / KV_PAGE]; /* pages, already
                                  * advanced to layer and head; as many as the ends need */
        const void *const *next; /* pages of K that will be read after this block, or NULL */
        const float *q[ATTENTION_QUERIES];   /* [head_dim] */
        uint32_t n_keys[ATTENTION_QUERIES];  /* 1..256 */
        float *partial[ATTENTION_QUERIES];   /* [attention_partial(head_dim)] */
        float *scratch;          /* [ATTENTION_SCRATCH], aligned to 64 bytes */
};

/* What is known of a query after some of its blocks: o[head_dim], zeros up to a multiple of 16,
 * then m and l. In floats, with room to the next multiple of 16. */
static inline size_t attention_partial(size_t head_dim) {
        return (head_dim + 15) / 16 * 16 + 16;
}

/* The keys of a query are cut into blocks of 256, from key 0. In one block, for each query, with
 * fma(a, b, c) = a * b + c rounded once (the only place where that is the written operation: all
 * vector units we know have it, and there it is half of the work). The scores have two roundings:
 * with one, the embedded model's golden answers lost two tokens of 237, by rounding luck.
 *   s(j) = (s = 0; for d in order: s = s + q[d] * (float)k[d][j]) * scale;   m = max s
 *   p(j) = exp(s(j) - m);  l = sum of p in 16 partial sums (token j goes to sum j mod 16, in
 *   order), added as the tree of rms_norm (in float)
 *   o[d] = (o = 0; for j in order: o = fma(p(j), (float)v[j][d], o))
 * Keys past the end of a query add 0 to the partial sums of l and nothing to o. */
typedef void attention_fn(const struct attention_block *a);

/* K and V as integers of 8 or 16 bits, each with one float per token: what a step of its codes is
 * worth, not negative. A page of K lies in pairs of dimensions,
 * k[(d / 2) * 64 + token * 2 + d % 2], one of V in pairs of tokens,
 * v[(token / 2) * 2 * head_dim + d * 2 + token % 2], both followed by KV_PAGE floats, ks and vs. */
static inline size_t kv_page_bytes_of(enum kv_form form, size_t head_dim) {
        return form == KV_F16   ? KV_PAGE * head_dim * 2
               : form == KV_S16 ? KV_PAGE * (head_dim * 2 + sizeof(float))
                                : KV_PAGE * (head_dim + sizeof(float));
}

/* The same as attention_fn with K and V as such integers; the products are exact. With
 * q16(x, m) = round half to even(x * (32767.0f / m)), clamped to +-32767:
 *   M = norm16(q);  a(d) = q16(q[d], M);  I(j) = sum of a(d) * k[d][j]
 *   s(j) = ((float)I(j) * ((M / 32767.0f) * scale)) * ks[j];   m, p(j) and l as above
 *   w(j) = p(j) * vs[j], or 0 where p(j) is;   S = sum of w in 16 partial sums, added as l is;
 *   W = max(max w, S * 0.0629f)
 *   o[d] = (float)(sum of q16(w(j), W) * v[j][d]) * (W / 32767.0f)
 * A maximum below 1e-30 counts as 0: all its codes are 0 and so is what they are worth. Sums stay
 * below 2^31 with the codes that quantize_key16 and quantize_value16 make; others wrap. */
typedef attention_fn attention_int_fn;

/* norm16(x) = max(max|x|, N * 0.7124f), N = (float)sqrt(sum of squares), in double and added as in
 * rms_norm: then codes q16(x, norm16(x)) are, as a vector, not longer than 46,000.
 * Codes of one head of K:  q = q16(x, M), scale = M / 32767.0f with M = norm16(x);
 * of V:  q = round half to even(x * (4095.0f / m)), clamped to +-4095, scale = m / 4095.0f with
 * m = max|x|.  Below 1e-30 scale 0 and zeros. */
typedef void quantize_head16_fn(int16_t *q, float *scale, const float *x, size_t n);

/* Codes of one head of K or V: m = max|x|; below 1e-30 scale 0 and zeros; otherwise
 * scale = m / 127.0f, q = round half to even(x * (127.0f / m)), clamped to +-127. */
typedef void quantize_head_fn(int8_t *q, float *scale, const float *x, size_t n);

/* Put the next block of the same query behind what is known, in the order of the blocks:
 *   M = max(m, m'); a = exp(m - M); b = exp(m' - M); o[d] = o[d] * a + o'[d] * b;
 *   l = l * a + l' * b;  m = M */
typedef void attention_merge_fn(float *partial, const float *next, size_t head_dim);
/* out[d] = o[d] / l */
typedef void attention_finish_fn(float *out, const float *partial, size_t head_dim);

struct kernel_ops {
        matmul_q_fn *t2_row, *t2_mantissa, *t2_group, *s8_row, *s8_group, *s4_group, *s6_group;
        matmul_q_fn *t5_row;
        matmul_q_fn *t2_by_row, *t2_by_col;
        matmul_q_fn *t5_by_row, *t5_by_col;
        matmul_where_fn *t2_by_row_where, *t5_by_row_where;
        matmul_f_fn *f16, *bf16, *f32;
        rms_norm_fn *rms_norm;
        quantize_token_fn *quantize_token;
        quantize_group_fn *quantize_group;
        relu2_mul_fn *relu2_mul;
        silu_mul_fn *silu_mul;
        add_fn *add;
        rope_fn *rope_neox, *rope_norm;
        f32_to_f16_fn *f32_to_f16;
        attention_fn *attention;
        attention_int_fn *attention_s16, *attention_s8;
        quantize_head_fn *quantize_head;
        quantize_head16_fn *quantize_key16, *quantize_value16;
        attention_merge_fn *attention_merge;
        attention_finish_fn *attention_finish;
};

/* Fill every pointer for a set of CPU flags (kernels/cpu.h): C first, then the ladder of the
 * architecture overwrites what it has. */
void kernel_ops_init(struct kernel_ops *ops, unsigned cpu_flags);
