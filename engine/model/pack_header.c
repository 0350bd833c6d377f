/* Problem: a packed file must be understood without the file it was made from, and its size and all
 * offsets be known before the first weight is written. Owns nothing.
 *
 * A packed file is a GGUF v3 file with 4096-byte alignment (each tensor starts on a page; the loss
 * is below one per cent for real models, and a tensor can be advised or locked by itself):
 *   bitnetd.packed.version         u32, PACK_VERSION
 *   bitnetd.packed.head_quantized  bool: a float head became 8-bit rows
 *   bitnetd.packed.matrices        names: token_embd, blk.N.attn_q … ffn_down, output if untied
 *   bitnetd.packed.info            u32 x 7 for each: form, scale, rows, cols, planes, group, and
 *                                  the bits of the factor (weight_matrix.factor)
 * and general.*, tokenizer.* and the architecture's keys as they were; the parts of each matrix
 * (shape.h), all one-dimensional; norms as F32. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/bytes.h"
#include "engine/model/limits.h"
#include "engine/model/pack_header.h"

enum { INFO_WORDS = 7 };

static bool begins(struct view s, const char *prefix) {
        size_t n = strlen(prefix);

        return s.n > n && memcmp(s.p, prefix, n) == 0;
}

/* What the worker needs later, and what lists show. Everything else stays behind. */
static bool carried(const struct pack_plan *p, struct view key) {
        char own[64];

        snprintf(own, sizeof(own), "%s.", p->prefix);
        if (key.n == 17 && memcmp(key.p, "general.alignment", 17) == 0)
                return false;
        return begins(key, "general.") || begins(key, "tokenizer.") || begins(key, own);
}

static int describe_matrices(const struct pack_plan *p, struct gguf_writer *w) {
        struct bytes names = {0}, info = {0};
        int r = 0;

        for (size_t i = 0; i < p->n_matrices && r == 0; i++) {
                const struct plan_matrix *m = &p->matrices[i];
                const uint32_t words[INFO_WORDS] = {
                        m->form.form,   m->form.scale, m->form.rows,
                        m->form.cols,   m->form.planes, m->form.group,
                        bits_of_float(m->form.factor),
                };

                r = bytes_put_string(&names, m->name, strlen(m->name));
                if (r == 0)
                        r = bytes_put(&info, words, sizeof(words));
        }
        if (r == 0) {
                gguf_put_array(w, "bitnetd.packed.matrices", GGUF_STRING, p->n_matrices, names.p,
                               names.n);
                gguf_put_array(w, "bitnetd.packed.info", GGUF_U32, p->n_matrices * INFO_WORDS,
                               info.p, info.n);
        }
        free(names.p);
        free(info.p);
        return r;
}

static void place_matrix(struct plan_matrix *m, struct gguf_writer *w) {
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                const enum matrix_part part = (enum matrix_part)i;
                const uint32_t type = matrix_part_type(&m->form, part);
                const uint64_t size = matrix_part_bytes(&m->form, m->mins, part);
                const uint64_t ne = size / tensor_type(type)->bytes;
                char name[NAME_ROOM + 16];

                if (size == 0)
                        continue;
                snprintf(name, sizeof(name), "%s.%s", m->name, matrix_part_name(part));
                m->offset[i] = gguf_put_tensor(w, name, type, 1, &ne, size);
        }
}

int pack_header(struct pack_plan *p, struct gguf_writer *w, struct bytes *ret) {
        for (size_t i = 0; i < p->g->n_kv; i++)
                if (carried(p, p->g->kv[i].key))
                        gguf_put_kv(w, &p->g->kv[i]);
        if (w->kvs.n > LIMIT_METADATA_BYTES)
                return model_fail(p->err, MODEL_E_STRING_SIZE, 24, w->kvs.n, LIMIT_METADATA_BYTES,
                                  NULL, 0);
        gguf_put_u32(w, "bitnetd.packed.version", PACK_VERSION);
        gguf_put_bool(w, "bitnetd.packed.head_quantized", p->head_quantized);
        if (describe_matrices(p, w) < 0)
                return model_fail(p->err, MODEL_E_MEMORY, 0, p->n_matrices, 0, NULL, 0);

        for (size_t i = 0; i < p->n_matrices; i++)
                place_matrix(&p->matrices[i], w);
        for (size_t i = 0; i < p->n_vectors; i++) {
                struct plan_vector *v = &p->vectors[i];

                v->offset = gguf_put_tensor(w, v->name, TYPE_F32, 1, v->tensor->ne,
                                            v->tensor->ne[0] * sizeof(float));
        }
        if (gguf_writer_finish(w, ret) < 0)
                return model_fail(p->err, MODEL_E_MEMORY, 0, w->data_size, 0, NULL, 0);
        return 0;
}
