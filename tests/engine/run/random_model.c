/* Random packed matrices of plausible size: outputs of a layer are of the order of its inputs, so
 * that logits differ and nothing overflows. A model owns one block per array, kept in a list
 * behind model->map for freeing; no file stands behind it and there is no vocabulary. */
#include "tests/engine/run/random_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "kernels/ref/fp16.h"

struct block {
        struct block *next;
        _Alignas(64) uint8_t bytes[];
};

struct maker {
        struct block *blocks;
        uint64_t random;
};

static void *take(struct maker *k, size_t n) {
        struct block *b = aligned_alloc(64, sizeof(*b) + (n + 63) / 64 * 64);

        if (!b)
                abort();
        b->next = k->blocks;
        k->blocks = b;
        return memset(b->bytes, 0, n);
}

static uint32_t random_bits(struct maker *k) {
        k->random = k->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(k->random >> 33);
}

/* Uniform in [-1, 1). */
static float random_float(struct maker *k) {
        return (float)(int32_t)(random_bits(k) & 0xffffff) / 8388608.0F - 1;
}

static float *random_floats(struct maker *k, size_t n, float middle, float spread) {
        float *v = take(k, n * sizeof(*v));

        for (size_t i = 0; i < n; i++)
                v[i] = middle + spread * random_float(k);
        return v;
}

static const void *ternary_codes(struct maker *k, size_t n) {
        uint8_t *codes = take(k, n);

        for (size_t i = 0; i < n; i++)
                for (int j = 0; j < 8; j += 2)
                        codes[i] |= (uint8_t)(random_bits(k) % 3 << j);
        return codes;
}

/* Values of quantised matrices that hold their scales in binary16. */
static const uint16_t *random_halves(struct maker *k, size_t n, float middle, float spread) {
        uint16_t *v = take(k, n * sizeof(*v));

        for (size_t i = 0; i < n; i++)
                v[i] = f32_to_f16(middle + spread * random_float(k));
        return v;
}

static const void *random_bytes(struct maker *k, size_t n, uint32_t least) {
        uint8_t *bytes = take(k, n);

        for (size_t i = 0; i < n; i++)
                bytes[i] = (uint8_t)(least + random_bits(k) % (256 - least));
        return bytes;
}

/* A matrix of the given form; columns past `cols` hold random codes too, which must not matter. */
static struct weight_matrix quantized_matrix(struct maker *k, enum weight_form form,
                                             enum scale_form scale, uint32_t rows, uint32_t cols,
                                             uint32_t planes, uint32_t group) {
        size_t tiles = tiles_of(rows), groups = tiles * groups_of(cols);
        float size = 1 / sqrtf((float)cols) / (form == WEIGHT_S8 ? 70 : 0.8F);
        struct weight_matrix w = {.form = form, .scale = scale, .rows = rows, .cols = cols,
                                  .planes = planes, .group = group, .factor = 1};
        size_t n_scales = tiles * TILE_ROWS *
                          (scale == SCALE_GROUP ? cols / group + (cols % group != 0) : 1);

        w.codes = form == WEIGHT_T2 ? ternary_codes(k, groups * planes * T2_PLANE_BYTES)
                                    : random_bytes(k, groups * S8_GROUP_BYTES, 1);
        if (scale == SCALE_MANTISSA) {
                w.mantissa = random_bytes(k, groups * planes * TILE_ROWS, 0);
                size /= 200;
        }
        w.scales = random_floats(k, n_scales, size, size / 4);
        return w;
}

/* Scales in binary16. step: how large a code is on average. */
static struct weight_matrix half_matrix(struct maker *k, enum weight_form form, uint32_t rows,
                                        uint32_t cols, float step, bool with_mins) {
        const bool super = form == WEIGHT_S6;
        size_t tiles = tiles_of(rows), groups = tiles * groups_of(cols);
        float size = 1 / sqrtf((float)cols) / step;
        struct weight_matrix w = {.form = form, .scale = super ? SCALE_SUPER : SCALE_HALF,
                                  .rows = rows, .cols = cols, .group = super ? 16 : 32,
                                  .factor = 1};
        size_t n_scales = tiles * TILE_ROWS * ((cols - 1) / (super ? 256 : 32) + 1);

        w.codes = random_bytes(k, groups * (form == WEIGHT_S8 ? S8_GROUP_BYTES
                                            : super           ? S6_GROUP_BYTES
                                                              : S4_GROUP_BYTES), 0);
        if (super)
                w.mantissa = random_bytes(k, tiles * TILE_ROWS * ((cols - 1) / 16 + 1), 0);
        w.halves = random_halves(k, n_scales, size, size / 4);
        if (with_mins) /* centres the weights, more or less */
                w.mins = random_halves(k, n_scales, -7.5F * size, size);
        return w;
}

/* The code of a t2 matrix of one plane, also past its columns; 1 past its rows. */
static unsigned code_at(const struct weight_matrix *w, uint32_t row, uint32_t col) {
        size_t group = (size_t)(row / TILE_ROWS) * groups_of(w->cols) + col / GROUP_COLS;
        size_t block = group * 4 + col % GROUP_COLS / 16;
        const uint8_t *codes = w->codes;

        if (row >= tiles_of(w->rows) * TILE_ROWS)
                return 1;
        return codes[block * BLOCK_BYTES + 4 * (row % TILE_ROWS) + col % 4] >> col % 16 / 4 * 2 & 3;
}

static const unsigned worths_4[] = {1, 4, 16, 64}, worths_5[] = {1, 3, 9, 28, 84};

static struct weight_matrix to_base3(struct maker *k, const struct weight_matrix *w) {
        const uint32_t cols = groups_of(w->cols) * GROUP_COLS, slab = T5_TILES * TILE_ROWS;
        struct weight_matrix v = *w;
        uint8_t *codes = take(k, (size_t)slabs_of(w->rows) * TILE_ROWS * cols);
        float *scales = take(k, (size_t)slabs_of(w->rows) * slab * sizeof(*scales));

        for (uint32_t row = 0; row < slabs_of(w->rows) * slab; row++)
                for (uint32_t col = 0; col < cols; col++) {
                        size_t block = ((size_t)(row / slab) * cols + col) / 4;

                        codes[block * BLOCK_BYTES + 4 * (row % TILE_ROWS) + col % 4] +=
                                (uint8_t)(worths_5[row % slab / TILE_ROWS] * code_at(w, row, col));
                }
        memcpy(scales, w->scales, (size_t)tiles_of(w->rows) * TILE_ROWS * sizeof(*scales));
        v.form = WEIGHT_T5;
        v.planes = 0;
        v.codes = codes;
        v.scales = scales;
        return v;
}

/* The same weights by row or by column, `per_byte` codes in a byte, which count `worths`. */
static struct weight_matrix to_lines(struct maker *k, const struct weight_matrix *w,
                                     enum weight_form form, bool by_row, uint32_t per_byte,
                                     const unsigned *worths) {
        const uint32_t cols = groups_of(w->cols) * GROUP_COLS, line = 64 * per_byte;
        const size_t row_bytes = (size_t)((w->cols - 1) / line + 1) * 64;
        struct weight_matrix v = *w;
        uint8_t *codes = take(k, by_row ? tiles_of(w->rows) * TILE_ROWS * row_bytes
                                        : (size_t)((w->rows - 1) / line + 1) * cols * 64);

        for (uint32_t row = 0; row < tiles_of(w->rows) * TILE_ROWS; row++)
                for (uint32_t col = 0; col < cols; col++) {
                        uint32_t tile = row % line / TILE_ROWS, lane = row % TILE_ROWS, digit;
                        uint8_t *p = codes;

                        if (by_row) {
                                p += row * row_bytes + col / line * 64 + col % 64;
                                digit = col % line / 64;
                        } else {
                                p += ((size_t)(row / line) * cols + col) * 64 + 16 * (lane / 4) +
                                     4 * (tile / per_byte) + lane % 4;
                                digit = tile % per_byte;
                        }
                        *p = (uint8_t)(*p + worths[digit] * code_at(w, row, col));
                }
        v.form = form;
        v.planes = per_byte == 4;
        v.codes = codes;
        return v;
}

static struct weight_matrix float_matrix(struct maker *k, enum weight_form form, uint32_t rows,
                                         uint32_t cols, float size) {
        size_t n = (size_t)tiles_of(rows) * TILE_ROWS * cols;
        struct weight_matrix w = {.form = form, .scale = SCALE_NONE, .rows = rows, .cols = cols};
        const float *values = random_floats(k, n, 0, size);
        uint16_t *halves;

        w.codes = values;
        if (form == WEIGHT_F32)
                return w;
        halves = take(k, n * sizeof(*halves));
        for (size_t i = 0; i < n; i++)
                halves[i] = form == WEIGHT_F16 ? f32_to_f16(values[i])
                                               : (uint16_t)(f32_to_bits(values[i]) >> 16);
        w.codes = halves;
        return w;
}

/* The matrix of a place in the layer; `place` counts q, k, v, o, gate, up, down. */
static struct weight_matrix layer_matrix(struct maker *k, enum random_model_kind kind,
                                         unsigned place, uint32_t rows, uint32_t cols) {
        if (kind == RANDOM_BITNET || kind == RANDOM_BASE3) {
                struct weight_matrix w = quantized_matrix(k, WEIGHT_T2, SCALE_ROW, rows, cols, 1,
                                                          0);

                if (place >= 5 && kind == RANDOM_BASE3)
                        return to_lines(k, &w, place == 5 ? WEIGHT_T5_BY_ROW : WEIGHT_T5_BY_COL,
                                        place == 5, 5, worths_5);
                if (place >= 5)
                        return to_lines(k, &w, place == 5 ? WEIGHT_T2_BY_ROW : WEIGHT_T2_BY_COL,
                                        place == 5, 4, worths_4);
                return kind == RANDOM_BASE3 ? to_base3(k, &w) : w;
        }
        if (kind == RANDOM_PLANES)
                return quantized_matrix(k, WEIGHT_T2, SCALE_MANTISSA, rows, cols, 3, 0);
        if (kind == RANDOM_FLOAT)
                return float_matrix(k, WEIGHT_F32, rows, cols, 1.7F / sqrtf((float)cols));
        switch (place) {
        case 0: return quantized_matrix(k, WEIGHT_T2, SCALE_GROUP, rows, cols, 1, 64);
        case 1: return half_matrix(k, WEIGHT_S4, rows, cols, 4.6F, true);
        case 2: return quantized_matrix(k, WEIGHT_S8, SCALE_ROW, rows, cols, 0, 0);
        case 3: return float_matrix(k, WEIGHT_BF16, rows, cols, 1.7F / sqrtf((float)cols));
        case 4: return quantized_matrix(k, WEIGHT_T2, SCALE_GROUP, rows, cols, 1, 256);
        case 5: return float_matrix(k, WEIGHT_F32, rows, cols, 1.7F / sqrtf((float)cols));
        default: return half_matrix(k, WEIGHT_S6, rows, cols, 18.5F * 74, false);
        }
}

/* The second layer of the mixed model has the forms that the first has no place for. */
static struct weight_matrix layer_matrix_2(struct maker *k, unsigned place, uint32_t rows,
                                           uint32_t cols) {
        if (place == 1)
                return half_matrix(k, WEIGHT_S4, rows, cols, 4.6F, false);
        return half_matrix(k, WEIGHT_S8, rows, cols, 74, false);
}

static void make_layer(struct maker *k, enum random_model_kind kind, const struct hparams *hp,
                       uint32_t index, struct layer *l) {
        uint32_t heads = hp->n_head * hp->head_dim, heads_kv = hp->n_head_kv * hp->head_dim;

        l->attn_norm = random_floats(k, hp->n_embd, 1, 0.3F);
        l->ffn_norm = random_floats(k, hp->n_embd, 1, 0.3F);
        if (hp->sub_norms) {
                l->attn_sub_norm = random_floats(k, heads, 1, 0.3F);
                l->ffn_sub_norm = random_floats(k, hp->n_ff, 1, 0.3F);
        }
        l->q = layer_matrix(k, kind, 0, heads, hp->n_embd);
        l->k = layer_matrix(k, kind, 1, heads_kv, hp->n_embd);
        l->v = layer_matrix(k, kind, 2, heads_kv, hp->n_embd);
        l->o = layer_matrix(k, kind, 3, hp->n_embd, heads);
        l->gate = layer_matrix(k, kind, 4, hp->n_ff, hp->n_embd);
        l->up = layer_matrix(k, kind, 5, hp->n_ff, hp->n_embd);
        l->down = layer_matrix(k, kind, 6, hp->n_embd, hp->n_ff);
        if (kind == RANDOM_MIXED && index == 1) {
                l->k = layer_matrix_2(k, 1, heads_kv, hp->n_embd);
                l->up = layer_matrix_2(k, 5, hp->n_ff, hp->n_embd);
        }
}

static struct hparams shape_of(enum random_model_kind kind) {
        const bool bitnet = kind == RANDOM_BITNET || kind == RANDOM_BASE3;
        struct hparams hp = {
                .arch = bitnet ? ARCH_BITNET_B158 : ARCH_LLAMA,
                .n_layer = 3, .n_embd = 200, .n_ff = 328, .n_head = 6, .n_head_kv = 2,
                .head_dim = 32, .rope_dim = 32, .n_vocab = 331, .n_ctx = 256,
                .rms_eps = 1e-5F, .rope_base = 10000, .rope_neox = bitnet,
                .activation = bitnet ? ACTIVATION_RELU2 : ACTIVATION_SILU,
                .sub_norms = bitnet, .token_quant = bitnet,
        };

        if (kind == RANDOM_MIXED) {
                hp.head_dim = 40;
                hp.rope_dim = 20;
        }
        return hp;
}

struct model *random_model_new(enum random_model_kind kind) {
        struct maker k = {.random = 1 + (uint64_t)(kind == RANDOM_BASE3 ? RANDOM_BITNET : kind)};
        struct model *m = take(&k, sizeof(*m));

        m->hp = shape_of(kind);
        m->layers = take(&k, m->hp.n_layer * sizeof(*m->layers));
        for (uint32_t i = 0; i < m->hp.n_layer; i++)
                make_layer(&k, kind, &m->hp, i, &m->layers[i]);
        if (kind == RANDOM_PLANES)
                m->token_embd = quantized_matrix(&k, WEIGHT_T2, SCALE_MANTISSA, m->hp.n_vocab,
                                                 m->hp.n_embd, 4, 0);
        else
                m->token_embd = float_matrix(&k, WEIGHT_F16, m->hp.n_vocab, m->hp.n_embd, 0.2F);
        m->output = m->token_embd;
        m->tied = kind != RANDOM_MIXED;
        if (kind == RANDOM_MIXED) {
                m->output = quantized_matrix(&k, WEIGHT_S8, SCALE_ROW, m->hp.n_vocab, m->hp.n_embd,
                                             0, 0);
                m->rope_freqs = random_floats(&k, m->hp.rope_dim / 2, 2, 0.9F);
        }
        m->output_norm = random_floats(&k, m->hp.n_embd, 1, 0.3F);
        m->map = k.blocks;
        return m;
}

struct model *random_model_free(struct model *m) {
        struct block *b = m ? (struct block *)m->map : NULL;

        while (b) {
                struct block *next = b->next;

                free(b);
                b = next;
        }
        return NULL;
}
