/* The packer: plan, header, tensors. Problem: turn a file from anybody into one that can be mapped
 * and computed with at once, while holding never more than a tile row of weights. Invariants: the
 * size and every offset are known before the first byte is written (the caller may limit the file
 * to it); each part of a matrix has its own place in the output and is written front to back; only
 * pwrite64 touches the descriptor. Owns nothing after return.
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

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/gguf_write.h"
#include "engine/model/limits.h"
#include "engine/model/pack.h"
#include "engine/model/pack_plan.h"
#include "engine/model/tile.h"
#include "engine/text/vocab.h"

enum { PACK_ALIGNMENT = 4096, STREAM_ROOM = 256 * 1024, INFO_WORDS = 7 };

/* ---- output ---- */

static int write_at(int fd, const uint8_t *p, uint64_t n, uint64_t at, struct model_error *err) {
        while (n > 0) {
                ssize_t r = pwrite64(fd, p, (size_t)n, (off64_t)at);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return model_fail(err, MODEL_E_IO, at, r < 0 ? (uint64_t)errno : 0, n,
                                          "write", 5);
                p += r;
                n -= (uint64_t)r;
                at += (uint64_t)r;
        }
        return 0;
}

/* One part of a matrix on its way out. */
struct stream {
        int fd;
        uint64_t at;
        size_t n;
        uint8_t *buffer;
};

static int stream_flush(struct stream *s, struct model_error *err) {
        int e = write_at(s->fd, s->buffer, s->n, s->at, err);

        s->at += s->n;
        s->n = 0;
        return e;
}

static int stream_put(struct stream *s, const uint8_t *p, uint64_t n, struct model_error *err) {
        int e = 0;

        if (s->n + n > STREAM_ROOM)
                e = stream_flush(s, err);
        if (e == 0 && n > STREAM_ROOM) {
                e = write_at(s->fd, p, n, s->at, err);
                s->at += n;
        } else if (e == 0) {
                memcpy(s->buffer + s->n, p, n);
                s->n += n;
        }
        return e;
}

/* ---- matrices ---- */

struct matrix_job {
        const struct plan_matrix *m;
        struct tile tile;
        struct row_buffer row;
        struct stream streams[MATRIX_PARTS];
        struct model_error *err;
};

static void matrix_job_done(struct matrix_job *j) {
        tile_done(&j->tile);
        row_buffer_done(&j->row);
        for (unsigned i = 0; i < MATRIX_PARTS; i++)
                free(j->streams[i].buffer);
}

static int matrix_job_init(struct matrix_job *j, const struct plan_matrix *m, int fd,
                           uint64_t blob, struct model_error *err) {
        *j = (struct matrix_job){.m = m, .err = err};
        if (tile_init(&j->tile, &m->form, m->mins) < 0 ||
            row_buffer_init(&j->row, &m->form, m->mins) < 0)
                return -ENOMEM;
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                if (!j->tile.part[i])
                        continue;
                j->streams[i] = (struct stream){.fd = fd, .at = blob + m->offset[i]};
                j->streams[i].buffer = malloc(STREAM_ROOM);
                if (!j->streams[i].buffer)
                        return -ENOMEM;
        }
        return 0;
}

static bool all_finite(const float *v, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (!isfinite(v[i]))
                        return false;
        return true;
}

static bool halves_finite(const uint16_t *v, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (!f16_is_finite(v[i]))
                        return false;
        return true;
}

static bool scales_finite(const struct plan_matrix *m, const struct row_buffer *row) {
        const uint32_t n = matrix_scale_groups(&m->form);

        if (!matrix_scales_are_halves(&m->form))
                return all_finite(row->scales, n);
        return halves_finite(row->halves, n) && (!m->mins || halves_finite(row->mins, n));
}

static int pack_row(struct matrix_job *j, uint32_t row) {
        const struct plan_matrix *m = j->m;
        enum model_error_code code;

        code = row_decode(&m->source, row, &j->row);
        if (code == MODEL_OK && !scales_finite(m, &j->row))
                code = MODEL_E_NOT_FINITE;
        if (code != MODEL_OK)
                return model_fail(j->err, code, m->file_offset, row, m->form.rows, m->name,
                                  strlen(m->name));
        tile_put_row(&j->tile, row % matrix_tile_rows(&m->form), &j->row);
        return 0;
}

static int pack_tile(struct matrix_job *j, uint32_t tile) {
        const uint32_t rows = matrix_tile_rows(&j->m->form), begin = tile * rows;
        const uint32_t end = MIN(begin + rows, j->m->form.rows);
        int e;

        tile_clear(&j->tile);
        for (uint32_t row = begin; row < end; row++) {
                e = pack_row(j, row);
                if (e < 0)
                        return e;
        }
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                if (!j->tile.part[i])
                        continue;
                e = stream_put(&j->streams[i], j->tile.part[i],
                               matrix_tile_bytes(&j->m->form, j->m->mins, (enum matrix_part)i),
                               j->err);
                if (e < 0)
                        return e;
        }
        return 0;
}

static int pack_tiles(struct matrix_job *j) {
        const uint32_t tiles = matrix_tiles(&j->m->form);
        int e;

        for (uint32_t t = 0; t < tiles; t++) {
                e = pack_tile(j, t);
                if (e < 0)
                        return e;
        }
        for (unsigned i = 0; i < MATRIX_PARTS; i++) {
                e = stream_flush(&j->streams[i], j->err);
                if (e < 0)
                        return e;
        }
        return 0;
}

static int pack_matrix(const struct plan_matrix *m, int fd, uint64_t blob,
                       struct model_error *err) {
        struct matrix_job j;
        int e;

        e = matrix_job_init(&j, m, fd, blob, err);
        if (e < 0)
                e = model_fail(err, MODEL_E_MEMORY, m->file_offset, m->form.cols, 0, m->name,
                               strlen(m->name));
        else
                e = pack_tiles(&j);
        matrix_job_done(&j);
        return e;
}

/* ---- vectors ---- */

static float vector_value(const struct gguf_tensor *t, const uint8_t *data, uint64_t i) {
        if (t->type == TYPE_F32)
                return load_f32(data + i * 4);
        if (t->type == TYPE_F16)
                return f16_to_f32(load_u16(data + i * 2));
        return bf16_to_f32(load_u16(data + i * 2));
}

/* Norms may be anything finite; a RoPE divisor must be positive as well. */
static int pack_vector(const struct pack_plan *p, const struct plan_vector *v, int fd,
                       uint64_t blob) {
        const struct gguf_tensor *t = v->tensor;
        const uint8_t *data = p->g->file.p + t->offset;
        const bool divisor = strcmp(v->name, "rope_freqs.weight") == 0;
        _cleanup_free_ float *out = calloc((size_t)t->ne[0], sizeof(float));

        if (!out)
                return model_fail(p->err, MODEL_E_MEMORY, t->offset, t->ne[0], 0, v->name,
                                  strlen(v->name));
        for (uint64_t i = 0; i < t->ne[0]; i++) {
                out[i] = vector_value(t, data, i);
                if (!isfinite(out[i]) || (divisor && out[i] <= 0.0f))
                        return model_fail(p->err, MODEL_E_NOT_FINITE, t->offset, i, t->ne[0],
                                          v->name, strlen(v->name));
        }
        return write_at(fd, (const uint8_t *)out, t->ne[0] * sizeof(float), blob + v->offset,
                        p->err);
}

/* ---- header ---- */

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

static int build_header(struct pack_plan *p, struct gguf_writer *w, struct bytes *ret) {
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

/* ---- all together ---- */

static int write_all(const struct pack_plan *p, int fd, const struct bytes *header) {
        int e;

        e = write_at(fd, header->p, header->n, 0, p->err);
        for (size_t i = 0; i < p->n_matrices && e == 0; i++)
                e = pack_matrix(&p->matrices[i], fd, header->n, p->err);
        for (size_t i = 0; i < p->n_vectors && e == 0; i++)
                e = pack_vector(p, &p->vectors[i], fd, header->n);
        return e;
}

static int check_vocab(const struct gguf *g, struct model_error *err) {
        struct vocab *v = NULL;
        int e;

        e = vocab_load(&v, g, err);
        vocab_free(v);
        return e;
}

static int pack_planned(struct pack_plan *p, int fd, uint64_t *ret_size) {
        struct bytes header = {0};
        struct gguf_writer w;
        int e;

        gguf_writer_init(&w, PACK_ALIGNMENT);
        e = build_header(p, &w, &header);
        if (e == 0)
                e = write_all(p, fd, &header);
        if (e == 0)
                *ret_size = header.n + w.data_size;
        free(header.p);
        gguf_writer_done(&w);
        return e;
}

int pack_model(struct view src, int out_fd, const struct pack_options *options, uint64_t *ret_size,
               struct model_error *err) {
        struct gguf *g = NULL;
        struct pack_plan p;
        int e;

        e = gguf_parse(&g, src, err);
        if (e < 0)
                return e;
        e = pack_plan_init(&p, g, options, err);
        if (e == 0) {
                e = check_vocab(g, err);
                if (e == 0)
                        e = pack_planned(&p, out_fd, ret_size);
                pack_plan_done(&p);
        }
        gguf_free(g);
        return e;
}
