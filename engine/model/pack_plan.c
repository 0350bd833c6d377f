/* Finding and checking the tensors of a foreign file. Problem: a tensor that is missing, has
 * another shape than the metadata says, or is there without us knowing what it is for, makes
 * either a crash or fluent nonsense. Invariant: when pack_plan_init() succeeds, every source
 * tensor has exactly the size that its rows and columns need, and no tensor that takes part in the
 * forward pass is left over (rules 14 and 16 of formats-and-models 1.3). The plan owns its two
 * lists. */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/hparams.h"
#include "engine/model/limits.h"
#include "engine/model/pack_plan.h"

static int fail_name(const struct pack_plan *p, enum model_error_code code, uint64_t value,
                     uint64_t limit, const char *name) {
        return model_fail(p->err, code, 0, value, limit, name, strlen(name));
}

static int fail_tensor(const struct pack_plan *p, enum model_error_code code, uint64_t value,
                       uint64_t limit, const struct gguf_tensor *t) {
        return model_fail(p->err, code, t->position, value, limit, (const char *)t->name.p,
                          t->name.n);
}

static const struct gguf_tensor *find(const struct pack_plan *p, const char *base,
                                      const char *suffix) {
        char name[NAME_ROOM + 16];

        snprintf(name, sizeof(name), "%s.%s", base, suffix);
        return gguf_tensor(p->g, name);
}

static int need_shape(const struct pack_plan *p, const struct gguf_tensor *t, uint64_t ne0,
                      uint64_t ne1, uint64_t ne2) {
        const uint64_t wanted[4] = {ne0, ne1, ne2, 1};

        for (size_t i = 0; i < 4; i++)
                if (t->ne[i] != wanted[i])
                        return fail_tensor(p, MODEL_E_SHAPE, t->ne[i], wanted[i], t);
        return 0;
}

static int need_tensor(const struct pack_plan *p, const char *base, const char *suffix,
                       const struct gguf_tensor **ret) {
        *ret = find(p, base, suffix);
        return *ret ? 0 : fail_name(p, MODEL_E_TENSOR_MISSING, 0, 0, base);
}

static int need_type(const struct pack_plan *p, const struct gguf_tensor *t, uint32_t type) {
        return t->type == type ? 0 : fail_tensor(p, MODEL_E_TYPE_UNSUPPORTED, t->type, type, t);
}

static bool is_float(uint32_t type) {
        return type == TYPE_F32 || type == TYPE_F16 || type == TYPE_BF16;
}

/* The blocks of I2_S run over the whole tensor. A short last block was written damaged by the usual
 * converter, so it is refused. */
static int check_i2s(const struct pack_plan *p, const struct gguf_tensor *t) {
        const uint64_t n = t->ne[0] * t->ne[1];

        if (p->options->i2s == I2S_1X4)
                return t->ne[1] % 4 == 0 ? 0 : fail_tensor(p, MODEL_E_BLOCK, t->ne[1], 4, t);
        if (p->options->i2s == I2S_64_16)
                return n % 64 == 0 ? 0 : fail_tensor(p, MODEL_E_BLOCK, n, 64, t);
        return n % 128 == 0 ? 0 : fail_tensor(p, MODEL_E_BLOCK, n, 128, t);
}

static int plan_weight(struct pack_plan *p, struct plan_matrix *m, const struct gguf_tensor *t,
                       bool in_layer) {
        struct matrix_source *s = &m->source;
        int e;

        if (!tensor_type(t->type)->weights || (t->type == TYPE_I2_S && !in_layer))
                return fail_tensor(p, MODEL_E_TYPE_UNSUPPORTED, t->type, 0, t);
        e = need_shape(p, t, s->cols, s->rows, 1);
        if (e < 0)
                return e;
        if (find(p, m->name, "mantissa") || find(p, m->name, "row_scale"))
                return fail_tensor(p, MODEL_E_TENSOR_UNKNOWN, 0, 0, t);
        s->type = t->type;
        s->data = p->g->file.p + t->offset;
        s->i2s = p->options->i2s;
        m->file_offset = t->offset;
        return t->type == TYPE_I2_S ? check_i2s(p, t) : 0;
}

static int plan_trits(struct pack_plan *p, struct plan_matrix *m, const struct gguf_tensor *t) {
        const struct gguf_tensor *mantissa, *row_scale;
        struct matrix_source *s = &m->source;
        uint32_t group = 0;
        int e;

        e = gguf_u32(p->g, "trit.group_size", &group, p->err);
        if (e < 0)
                return e;
        if (e == GGUF_ABSENT)
                return fail_name(p, MODEL_E_META_MISSING, 0, 0, "trit.group_size");
        if (group != GROUP_COLS)
                return fail_name(p, MODEL_E_FEATURE, group, GROUP_COLS, "trit.group_size");
        if (s->cols % GROUP_COLS != 0)
                return fail_tensor(p, MODEL_E_BLOCK, s->cols, GROUP_COLS, t);
        if (t->ne[2] > MAX_PLANES)
                return fail_tensor(p, MODEL_E_SHAPE, t->ne[2], MAX_PLANES, t);
        s->planes = (uint32_t)t->ne[2];
        if ((e = need_tensor(p, m->name, "mantissa", &mantissa)) < 0 ||
            (e = need_tensor(p, m->name, "row_scale", &row_scale)) < 0 ||
            (e = need_type(p, t, TYPE_I8)) < 0 || (e = need_type(p, mantissa, TYPE_I8)) < 0 ||
            (e = need_type(p, row_scale, TYPE_F32)) < 0 ||
            (e = need_shape(p, t, (s->cols + 4) / 5, s->rows, s->planes)) < 0 ||
            (e = need_shape(p, mantissa, s->cols / GROUP_COLS, s->rows, s->planes)) < 0 ||
            (e = need_shape(p, row_scale, s->rows, 1, 1)) < 0)
                return e;
        s->type = TYPE_I8;
        s->data = p->g->file.p + t->offset;
        s->mantissa = p->g->file.p + mantissa->offset;
        s->row_scale = p->g->file.p + row_scale->offset;
        m->file_offset = t->offset;
        return 0;
}

/* A projection may have one more factor in a tensor of its own; it goes into the scales. */
static int plan_factor(struct pack_plan *p, struct plan_matrix *m) {
        const struct gguf_tensor *t = find(p, m->name, "scale");
        int e;

        m->source.factor = 1.0f;
        if (!t)
                return 0;
        if ((e = need_type(p, t, TYPE_F32)) < 0 || (e = need_shape(p, t, 1, 1, 1)) < 0)
                return e;
        if (is_float(m->source.type))
                return fail_tensor(p, MODEL_E_FEATURE, m->source.type, 0, t);
        m->source.factor = load_f32(p->g->file.p + t->offset);
        if (!isfinite(m->source.factor))
                return fail_tensor(p, MODEL_E_NOT_FINITE, 0, 0, t);
        return 0;
}

/* m->name is set. */
static int plan_matrix(struct pack_plan *p, struct plan_matrix *m, uint32_t rows, uint32_t cols,
                       bool in_layer) {
        const struct gguf_tensor *weight = find(p, m->name, "weight");
        const struct gguf_tensor *trits = find(p, m->name, "trits");
        int e;

        m->source.rows = rows;
        m->source.cols = cols;
        if (weight && trits)
                return fail_tensor(p, MODEL_E_TENSOR_DUPLICATE, 2, 1, trits);
        if (!weight && !trits)
                return fail_name(p, MODEL_E_TENSOR_MISSING, 0, 0, m->name);
        e = weight ? plan_weight(p, m, weight, in_layer) : plan_trits(p, m, trits);
        if (e < 0)
                return e;
        return plan_factor(p, m);
}

/* name is complete. size 0: any length was checked by the caller. */
static int plan_vector(struct pack_plan *p, const char *name, uint32_t size) {
        struct plan_vector *v = &p->vectors[p->n_vectors];
        int e;

        v->tensor = gguf_tensor(p->g, name);
        if (!v->tensor)
                return fail_name(p, MODEL_E_TENSOR_MISSING, 0, 0, name);
        if (!is_float(v->tensor->type))
                return fail_tensor(p, MODEL_E_TYPE_UNSUPPORTED, v->tensor->type, TYPE_F32,
                                   v->tensor);
        e = need_shape(p, v->tensor, size, 1, 1);
        if (e < 0)
                return e;
        snprintf(v->name, sizeof(v->name), "%s", name);
        p->n_vectors++;
        return 0;
}

static int plan_layer(struct pack_plan *p, uint32_t layer) {
        char name[NAME_ROOM];
        int e;

        for (unsigned i = 0; i < LAYER_NORMS; i++) {
                uint32_t size = layer_norm_size(&p->hp, (enum layer_norm)i);

                if (size == 0)
                        continue;
                snprintf(name, sizeof(name), "blk.%u.%s.weight", layer,
                         layer_norm_name((enum layer_norm)i));
                e = plan_vector(p, name, size);
                if (e < 0)
                        return e;
        }
        for (unsigned i = 0; i < LAYER_MATRICES; i++) {
                struct plan_matrix *m = &p->matrices[p->n_matrices];
                uint32_t rows, cols;

                layer_matrix_shape(&p->hp, (enum layer_matrix)i, &rows, &cols);
                snprintf(m->name, sizeof(m->name), "blk.%u.%s", layer,
                         layer_matrix_name((enum layer_matrix)i));
                e = plan_matrix(p, m, rows, cols, true);
                if (e < 0)
                        return e;
                m->ternary = layer_ternary_form(&p->hp, (enum layer_matrix)i);
                p->n_matrices++;
        }
        return 0;
}

static int plan_named(struct pack_plan *p, const char *name) {
        struct plan_matrix *m = &p->matrices[p->n_matrices];
        int e;

        snprintf(m->name, sizeof(m->name), "%s", name);
        e = plan_matrix(p, m, p->hp.n_vocab, p->hp.n_embd, false);
        if (e < 0)
                return e;
        p->n_matrices++;
        return 0;
}

static bool has_suffix_of_matrix(const char *suffix, bool in_layer) {
        return strcmp(suffix, "weight") == 0 || strcmp(suffix, "trits") == 0 ||
               strcmp(suffix, "mantissa") == 0 || strcmp(suffix, "row_scale") == 0 ||
               (in_layer && strcmp(suffix, "scale") == 0);
}

/* rest: what follows "blk.N." */
static bool known_in_layer(const struct hparams *hp, const char *rest) {
        const char *dot = strchr(rest, '.');
        size_t n;

        if (!dot)
                return false;
        n = (size_t)(dot - rest);
        for (unsigned i = 0; i < LAYER_MATRICES; i++) {
                const char *name = layer_matrix_name((enum layer_matrix)i);

                if (strlen(name) == n && memcmp(rest, name, n) == 0)
                        return has_suffix_of_matrix(dot + 1, true);
        }
        for (unsigned i = 0; i < LAYER_NORMS; i++) {
                const char *name = layer_norm_name((enum layer_norm)i);

                if (strlen(name) == n && memcmp(rest, name, n) == 0)
                        return layer_norm_size(hp, (enum layer_norm)i) > 0 &&
                               strcmp(dot, ".weight") == 0;
        }
        return false;
}

static bool known_layer_tensor(const struct hparams *hp, const char *name) {
        char *end;
        unsigned long layer;

        if (name[4] < '0' || name[4] > '9' || (name[4] == '0' && name[5] != '.'))
                return false;
        layer = strtoul(name + 4, &end, 10);
        return layer < hp->n_layer && *end == '.' && known_in_layer(hp, end + 1);
}

/* Names that begin like a part of the forward pass must be known; others may be notes. */
static bool tensor_acceptable(const struct hparams *hp, const char *name) {
        static const char *const parts[] = {"blk.", "output", "token_", "position_", "rope"};
        static const char *const heads[] = {"token_embd.", "output."};

        if (strncmp(name, "blk.", 4) == 0)
                return known_layer_tensor(hp, name);
        for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
                if (strncmp(name, heads[i], strlen(heads[i])) == 0)
                        return has_suffix_of_matrix(name + strlen(heads[i]), false);
        if (strcmp(name, "output_norm.weight") == 0 || strcmp(name, "rope_freqs.weight") == 0)
                return true;
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (strncmp(name, parts[i], strlen(parts[i])) == 0)
                        return false;
        return true;
}

static int refuse_unknown(const struct pack_plan *p) {
        for (size_t i = 0; i < p->g->n_tensors; i++) {
                const struct gguf_tensor *t = &p->g->tensors[i];
                char name[NAME_ROOM] = "";

                memcpy(name, t->name.p, t->name.n); /* at most 63 bytes, by the reader */
                if (!tensor_acceptable(&p->hp, name))
                        return fail_tensor(p, MODEL_E_TENSOR_UNKNOWN, 0, 0, t);
        }
        return 0;
}

static int plan_rope_freqs(struct pack_plan *p) {
        const struct gguf_tensor *t = gguf_tensor(p->g, "rope_freqs.weight");

        if (!t)
                return 0;
        return plan_vector(p, "rope_freqs.weight", p->hp.rope_dim / 2);
}

/* A float head is read as a whole for every token: above the limit, 8 bits a weight. An embedding
 * that is no head is read one row a token and stays as it is. */
static void choose_head(struct pack_plan *p, struct plan_matrix *head) {
        const uint64_t weights = (uint64_t)head->source.rows * head->source.cols;

        if (!p->options->float_head_as_s8 || !is_float(head->source.type) ||
            weights <= LIMIT_FLOAT_HEAD)
                return;
        head->source.to_s8 = true;
        p->head_quantized = true;
}

/* What may be skipped lies by row or by column, whatever the packing of the rest. */
static void choose_packing(const struct pack_plan *p, struct plan_matrix *m) {
        if (m->form.form != WEIGHT_T2 || m->form.scale != SCALE_ROW)
                return;
        m->form.form = m->ternary;
        if (p->options->ternary != TERNARY_BASE_3)
                return;
        m->form.form = ternary_in_base_3(m->ternary);
        m->form.planes = 0;
}

static int plan_tensors(struct pack_plan *p) {
        bool tied = !gguf_tensor(p->g, "output.weight") && !gguf_tensor(p->g, "output.trits");
        int e;

        p->matrices = calloc((size_t)p->hp.n_layer * LAYER_MATRICES + 2, sizeof(*p->matrices));
        p->vectors = calloc((size_t)p->hp.n_layer * LAYER_NORMS + 2, sizeof(*p->vectors));
        if (!p->matrices || !p->vectors)
                return fail_name(p, MODEL_E_MEMORY, p->hp.n_layer, 0, "");
        e = plan_named(p, "token_embd");
        if (e < 0)
                return e;
        for (uint32_t i = 0; i < p->hp.n_layer; i++) {
                e = plan_layer(p, i);
                if (e < 0)
                        return e;
        }
        if ((e = plan_vector(p, "output_norm.weight", p->hp.n_embd)) < 0 ||
            (e = plan_rope_freqs(p)) < 0)
                return e;
        if (!tied) {
                e = plan_named(p, "output");
                if (e < 0)
                        return e;
        }
        choose_head(p, tied ? &p->matrices[0] : &p->matrices[p->n_matrices - 1]);
        for (size_t i = 0; i < p->n_matrices; i++) {
                struct plan_matrix *m = &p->matrices[i];

                matrix_source_form(&m->source, &m->form, &m->mins);
                choose_packing(p, m);
        }
        return 0;
}

static int plan_all(struct pack_plan *p) {
        const struct gguf_tensor *embd = find(p, "token_embd", "weight");
        enum model_arch arch;
        int e;

        if (gguf_find(p->g, "bitnetd.packed.version"))
                return fail_name(p, MODEL_E_FEATURE, 0, 0, "bitnetd.packed.version");
        if (!embd)
                embd = find(p, "token_embd", "trits");
        if (!embd)
                return fail_name(p, MODEL_E_TENSOR_MISSING, 0, 0, "token_embd");
        if ((e = hparams_arch(p->g, &arch, &p->prefix, p->err)) < 0 ||
            (e = hparams_read(&p->hp, p->g, embd->ne[1], p->err)) < 0 ||
            (e = refuse_unknown(p)) < 0)
                return e;
        return plan_tensors(p);
}

int pack_plan_init(struct pack_plan *p, const struct gguf *g, const struct pack_options *options,
                   struct model_error *err) {
        int e;

        *p = (struct pack_plan){.g = g, .options = options, .err = err};
        e = plan_all(p);
        if (e < 0)
                pack_plan_done(p);
        return e;
}

void pack_plan_done(struct pack_plan *p) {
        free(p->matrices);
        free(p->vectors);
        p->matrices = NULL;
        p->vectors = NULL;
}
