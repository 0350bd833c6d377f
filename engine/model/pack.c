/* The packer: plan, header, tensors. Problem: turn a file from anybody into one that can be mapped
 * and computed with at once, while holding never more than a tile row of weights. Invariants: the
 * size and every offset are known before the first byte is written (the caller may limit the file
 * to it); each part of a matrix has its own place in the output and is written front to back; only
 * pwrite64 touches the descriptor. Owns nothing after return.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/macro.h"
#include "engine/model/bytes.h"
#include "engine/model/gguf_write.h"
#include "engine/model/pack.h"
#include "engine/model/pack_header.h"
#include "engine/model/pack_plan.h"
#include "engine/model/tile.h"
#include "engine/text/vocab.h"

enum { STREAM_ROOM = 256 * 1024 };

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
        e = pack_header(p, &w, &header);
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
