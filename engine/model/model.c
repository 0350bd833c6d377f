/* Opening a packed file: map it, check every name, shape and size against the hyper-parameters,
 * set pointers. Problem: a packed file is still input; it may be damaged or made by hand.
 * Invariant: a pointer in struct model points to exactly as many bytes inside the mapping as its
 * matrix or vector needs, aligned to 64. Weight bytes are not looked at (any code is harmless to
 * the kernels). Calls lseek, mmap, madvise and munmap only, which the system call filter allows.
 * The model owns the mapping, the layer table and the vocabulary. */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/gguf.h"
#include "engine/model/hparams.h"
#include "engine/model/model.h"
#include "engine/model/pack.h"
#include "engine/model/shape.h"
#include "engine/model/types.h"
#include "engine/text/vocab.h"

enum { INFO_WORDS = 7, POINTER_ALIGNMENT = 64 };

struct opening {
        struct model *m;
        const struct gguf *g;
        struct view names;     /* rest of bitnetd.packed.matrices */
        const uint8_t *info;   /* rest of bitnetd.packed.info */
        size_t matrices_left;
        struct model_error *err;
};

static int fail_named(const struct opening *o, enum model_error_code code, uint64_t value,
                      uint64_t limit, const char *name) {
        return model_fail(o->err, code, 0, value, limit, name, strlen(name));
}

/* A one-dimensional tensor of exactly this type and size. */
static int need_data(const struct opening *o, const char *name, uint32_t type, uint64_t size,
                     const void **ret) {
        const struct gguf_tensor *t = gguf_tensor(o->g, name);

        if (!t)
                return fail_named(o, MODEL_E_TENSOR_MISSING, 0, 0, name);
        if (t->type != type)
                return fail_named(o, MODEL_E_TENSOR_TYPE, t->type, type, name);
        if (t->size != size || t->n_dims != 1)
                return fail_named(o, MODEL_E_TENSOR_SIZE, t->size, size, name);
        if (t->offset % POINTER_ALIGNMENT != 0)
                return fail_named(o, MODEL_E_ALIGNMENT, t->offset, POINTER_ALIGNMENT, name);
        *ret = (const uint8_t *)o->m->map + t->offset;
        return 0;
}

static int open_vector(const struct opening *o, const char *name, uint32_t n, const float **ret) {
        const void *p;
        int e;

        e = need_data(o, name, TYPE_F32, (uint64_t)n * sizeof(float), &p);
        if (e < 0)
                return e;
        *ret = p;
        o->m->n_params += n;
        return 0;
}

static int open_parts(const struct opening *o, const char *name, bool mins,
                      struct weight_matrix *w) {
        const void *parts[MATRIX_PARTS] = {NULL};
        char full[NAME_ROOM + 16];
        int e;

        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                uint64_t size = matrix_part_bytes(w, mins, (enum matrix_part)i);

                if (size == 0)
                        continue;
                snprintf(full, sizeof(full), "%s.%s", name, matrix_part_name((enum matrix_part)i));
                e = need_data(o, full, matrix_part_type(w, (enum matrix_part)i), size, &parts[i]);
                if (e < 0)
                        return e;
        }
        w->codes = parts[PART_CODES];
        w->mantissa = parts[PART_MANTISSA];
        if (matrix_scales_are_halves(w))
                w->halves = parts[PART_SCALES];
        else
                w->scales = parts[PART_SCALES];
        w->mins = parts[PART_MINS];
        return 0;
}

static bool factor_valid(const struct weight_matrix *w) {
        return matrix_scales_are_halves(w) ? isfinite(w->factor) : w->factor == 1.0f;
}

/* The next matrix of the description, which must be this one. */
static int open_matrix(struct opening *o, const char *name, uint32_t rows, uint32_t cols,
                       struct weight_matrix *ret) {
        struct weight_matrix w = {0};
        uint32_t words[INFO_WORDS];
        char mins_name[NAME_ROOM + 16];
        struct view said;
        bool mins;

        if (o->matrices_left == 0)
                return fail_named(o, MODEL_E_TENSOR_MISSING, 0, 0, name);
        said = gguf_next_string(&o->names);
        memcpy(words, o->info, sizeof(words));
        o->info += sizeof(words);
        o->matrices_left--;
        if (said.n != strlen(name) || memcmp(said.p, name, said.n) != 0)
                return fail_named(o, MODEL_E_TENSOR_MISSING, 0, 0, name);
        if (words[2] != rows || words[3] != cols)
                return fail_named(o, MODEL_E_SHAPE, words[2] != rows ? words[2] : words[3],
                                  words[2] != rows ? rows : cols, name);
        if (words[0] >= _WEIGHT_FORM_MAX || words[1] >= _SCALE_FORM_MAX)
                return fail_named(o, MODEL_E_NOT_PACKED, words[0], _WEIGHT_FORM_MAX, name);
        w.form = (enum weight_form)words[0];
        w.scale = (enum scale_form)words[1];
        w.rows = rows;
        w.cols = cols;
        w.planes = words[4];
        w.group = words[5];
        w.factor = float_of_bits(words[6]);
        snprintf(mins_name, sizeof(mins_name), "%s.%s", name, matrix_part_name(PART_MINS));
        mins = gguf_tensor(o->g, mins_name) != NULL;
        if (!matrix_form_valid(&w, mins) || !factor_valid(&w))
                return fail_named(o, MODEL_E_NOT_PACKED, w.form, _WEIGHT_FORM_MAX, name);
        o->m->n_params += (uint64_t)rows * cols;
        *ret = w;
        return open_parts(o, name, mins, ret);
}

static int open_layer(struct opening *o, uint32_t index) {
        struct layer *l = &o->m->layers[index];
        char name[NAME_ROOM];
        int e;

        for (unsigned i = 0; i < LAYER_NORMS; i++) {
                uint32_t n = layer_norm_size(&o->m->hp, (enum layer_norm)i);

                if (n == 0)
                        continue;
                snprintf(name, sizeof(name), "blk.%u.%s.weight", index,
                         layer_norm_name((enum layer_norm)i));
                e = open_vector(o, name, n, layer_norm(l, (enum layer_norm)i));
                if (e < 0)
                        return e;
        }
        for (unsigned i = 0; i < LAYER_MATRICES; i++) {
                struct weight_matrix *w = layer_matrix(l, (enum layer_matrix)i);
                uint32_t rows, cols;

                layer_matrix_shape(&o->m->hp, (enum layer_matrix)i, &rows, &cols);
                snprintf(name, sizeof(name), "blk.%u.%s", index,
                         layer_matrix_name((enum layer_matrix)i));
                e = open_matrix(o, name, rows, cols, w);
                if (e < 0)
                        return e;
                if (!matrix_is_ternary(w) || w->scale != SCALE_ROW)
                        continue;
                if (!layer_ternary_valid(&o->m->hp, (enum layer_matrix)i, w->form))
                        return fail_named(o, MODEL_E_NOT_PACKED, w->form, _WEIGHT_FORM_MAX, name);
                /* One scale per row can only be used with one scale per token. */
                o->m->hp.token_quant = true;
        }
        return 0;
}

/* The output head takes activations with group scales, so it cannot be ternary with row scales. */
static int open_head(struct opening *o, const char *name, struct weight_matrix *ret) {
        int e;

        e = open_matrix(o, name, o->m->hp.n_vocab, o->m->hp.n_embd, ret);
        if (e < 0)
                return e;
        if (matrix_is_ternary(ret) && ret->scale == SCALE_ROW)
                return fail_named(o, MODEL_E_NOT_PACKED, ret->scale, SCALE_ROW, name);
        return 0;
}

static int open_tensors(struct opening *o) {
        struct model *m = o->m;
        int e;

        m->layers = calloc(m->hp.n_layer, sizeof(*m->layers));
        if (!m->layers)
                return fail_named(o, MODEL_E_MEMORY, m->hp.n_layer, 0, "");
        e = open_head(o, "token_embd", &m->token_embd);
        if (e < 0)
                return e;
        for (uint32_t i = 0; i < m->hp.n_layer; i++) {
                e = open_layer(o, i);
                if (e < 0)
                        return e;
        }
        e = open_vector(o, "output_norm.weight", m->hp.n_embd, &m->output_norm);
        if (e < 0)
                return e;
        if (gguf_tensor(o->g, "rope_freqs.weight")) {
                e = open_vector(o, "rope_freqs.weight", m->hp.rope_dim / 2, &m->rope_freqs);
                if (e < 0)
                        return e;
        }
        m->tied = o->matrices_left == 0;
        if (m->tied) {
                m->output = m->token_embd;
                return 0;
        }
        e = open_head(o, "output", &m->output);
        if (e < 0)
                return e;
        return o->matrices_left == 0
                       ? 0
                       : fail_named(o, MODEL_E_NOT_PACKED, o->matrices_left, 0, "matrices");
}

/* The two arrays that describe the matrices, and the rows of the first one (the embedding). */
static int open_description(struct opening *o, uint32_t *ret_embd_rows) {
        static const char names_key[] = "bitnetd.packed.matrices";
        static const char info_key[] = "bitnetd.packed.info";
        const struct gguf_kv *names = gguf_find(o->g, names_key);
        const struct gguf_kv *info = gguf_find(o->g, info_key);
        uint32_t version;
        int e;

        e = gguf_u32(o->g, "bitnetd.packed.version", &version, o->err);
        if (e < 0)
                return e;
        if (e == GGUF_ABSENT)
                return fail_named(o, MODEL_E_NOT_PACKED, 0, PACK_VERSION, "bitnetd.packed.version");
        if (version != PACK_VERSION)
                return fail_named(o, MODEL_E_PACK_VERSION, version, PACK_VERSION,
                                  "bitnetd.packed.version");
        if (!names || names->type != GGUF_ARRAY || names->element != GGUF_STRING ||
            names->count == 0)
                return fail_named(o, MODEL_E_NOT_PACKED, 0, 0, names_key);
        if (!info || info->type != GGUF_ARRAY || info->element != GGUF_U32 ||
            info->count != names->count * INFO_WORDS)
                return fail_named(o, MODEL_E_NOT_PACKED, 0, 0, info_key);
        o->names = names->value;
        o->info = info->value.p;
        o->matrices_left = (size_t)names->count;
        *ret_embd_rows = load_u32(o->info + 2 * sizeof(uint32_t));
        return 0;
}

static int open_mapped(struct model *m, struct model_error *err) {
        struct opening o = {.m = m, .err = err};
        struct gguf *g = NULL;
        uint32_t embd_rows = 0;
        int e;

        e = gguf_parse(&g, (struct view){m->map, m->map_size}, err);
        if (e < 0)
                return e;
        o.g = g;
        e = open_description(&o, &embd_rows);
        if (e == 0)
                e = hparams_read(&m->hp, g, embd_rows, err);
        if (e == 0)
                e = open_tensors(&o);
        if (e == 0)
                e = vocab_load(&m->vocab, g, err);
        gguf_free(g);
        return e;
}

int model_open(struct model **ret, int fd, struct model_error *err) {
        struct model *m;
        off_t size;
        void *map;
        int e;

        size = lseek(fd, 0, SEEK_END);
        if (size < 0)
                return model_fail(err, MODEL_E_IO, 0, (uint64_t)errno, 0, "lseek", 5);
        if (size == 0)
                return model_fail(err, MODEL_E_TRUNCATED, 0, 4, 0, NULL, 0);
        m = calloc(1, sizeof(*m));
        if (!m)
                return model_fail(err, MODEL_E_MEMORY, 0, sizeof(*m), 0, NULL, 0);
        map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
                free(m);
                return model_fail(err, MODEL_E_IO, 0, (uint64_t)errno, (uint64_t)size, "mmap", 4);
        }
        m->map = map;
        m->map_size = (size_t)size;
        /* Advice only: with large folios in the page cache decoding is a tenth faster. */
        (void)madvise(map, (size_t)size, MADV_HUGEPAGE);
        e = open_mapped(m, err);
        if (e < 0) {
                model_free(m);
                return e;
        }
        *ret = m;
        return 0;
}

struct model *model_free(struct model *m) {
        if (!m)
                return NULL;
        vocab_free(m->vocab);
        free(m->layers);
        munmap((void *)(uintptr_t)m->map, m->map_size);
        free(m);
        return NULL;
}
