/* Random packed files. Problem: a hundred billion weights take minutes to generate and to pack. So
 * the packer plans a file that has a header and a hole, and its plan is filled from a pool of
 * random bytes of the right kind, at a new place of the pool for each piece. Every byte is written,
 * nothing is a hole. Owns nothing beyond a call. */
#include "tests/tools/synthetic_packed.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "engine/model/pack_header.h"

enum { POOL_BYTES = 9 << 20, PIECE = 1 << 20 };

struct filler {
        int fd;
        uint64_t blob;
        uint64_t random;
        uint8_t *pool[_WEIGHT_FORM_MAX]; /* [POOL_BYTES], made when needed */
};

static uint32_t draw(struct filler *f) {
        f->random = f->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(f->random >> 33);
}

/* A byte of codes. f16: the lower byte is any, the upper makes numbers of 2^-6 or so. */
static uint8_t code_byte(enum weight_form form, uint32_t random, size_t at) {
        switch (form) {
        case WEIGHT_T2:
        case WEIGHT_T2_BY_ROW:
        case WEIGHT_T2_BY_COL:
                return (uint8_t)((random & ~(random >> 1) & 0x55) | (random & 0xaa));
        case WEIGHT_T5:
        case WEIGHT_T5_BY_ROW:
        case WEIGHT_T5_BY_COL:
                return (uint8_t)(random % 9 * 28 + (random >> 8) % 27);
        case WEIGHT_F16:
                return (uint8_t)(at % 2 ? (random & 0x83) | 0x24 : random);
        default:
                return (uint8_t)random;
        }
}

static const uint8_t *pool_of(struct filler *f, enum weight_form form) {
        if (!f->pool[form]) {
                f->pool[form] = malloc(POOL_BYTES);
                for (size_t i = 0; f->pool[form] && i < POOL_BYTES; i++)
                        f->pool[form][i] = code_byte(form, draw(f), i);
        }
        return f->pool[form];
}

static int put(const struct filler *f, const void *p, size_t n, uint64_t at) {
        ssize_t r = pwrite(f->fd, p, n, (off_t)(f->blob + at));

        return r < 0 ? -errno : (size_t)r == n ? 0 : -EIO;
}

static int put_codes(struct filler *f, const struct plan_matrix *m) {
        const uint64_t size = matrix_part_bytes(&m->form, m->mins, PART_CODES);
        const uint8_t *pool = pool_of(f, m->form.form);
        int r = pool ? 0 : -ENOMEM;

        for (uint64_t at = 0; r == 0 && at < size; at += PIECE)
                r = put(f, pool + draw(f) % ((POOL_BYTES - PIECE) / 64) * 64,
                        MIN(size - at, (uint64_t)PIECE), m->offset[PART_CODES] + at);
        return r;
}

static int put_floats(const struct filler *f, uint64_t at, size_t n, float value) {
        _cleanup_free_ float *v = malloc(n * sizeof(*v));

        if (!v)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                v[i] = value;
        return put(f, v, n * sizeof(*v), at);
}

/* A product with a normalised input has variance near one, as in synthetic.c. */
static int put_matrix(struct filler *f, const struct plan_matrix *m) {
        const uint64_t scales = matrix_part_bytes(&m->form, m->mins, PART_SCALES);
        float unit = 1.2f / sqrtf((float)m->form.cols);
        int r = put_codes(f, m);

        if (m->form.form == WEIGHT_S8)
                unit /= 64;
        if (r == 0 && scales > 0)
                r = put_floats(f, m->offset[PART_SCALES], scales / sizeof(float), unit);
        return r;
}

static int fill(struct filler *f, const struct pack_plan *p) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < p->n_matrices; i++)
                r = put_matrix(f, &p->matrices[i]);
        for (size_t i = 0; r == 0 && i < p->n_vectors; i++)
                r = put_floats(f, p->vectors[i].offset, p->vectors[i].tensor->ne[0], 1);
        return r;
}

static int write_planned(int fd, struct pack_plan *p, uint64_t seed, uint64_t *ret_size) {
        struct filler f = {.fd = fd, .random = seed};
        struct bytes header = {0};
        struct gguf_writer w;
        int r;

        gguf_writer_init(&w, PACK_ALIGNMENT);
        r = pack_header(p, &w, &header);
        if (r == 0)
                r = put(&f, header.p, header.n, 0);
        f.blob = header.n;
        if (r == 0)
                r = fill(&f, p);
        *ret_size = header.n + w.data_size;
        for (size_t i = 0; i < ARRAY_SIZE(f.pool); i++)
                free(f.pool[i]);
        free(header.p);
        gguf_writer_done(&w);
        return r;
}

static int write_like(int fd, struct view outline, const struct synthetic *s,
                      const struct pack_options *options, uint64_t *ret_size) {
        struct model_error err = {0};
        struct gguf *g = NULL;
        struct pack_plan p;
        char text[256];
        int r;

        r = gguf_parse(&g, outline, &err);
        if (r == 0)
                r = pack_plan_init(&p, g, options, &err);
        if (r == 0) {
                r = write_planned(fd, &p, s->seed, ret_size);
                pack_plan_done(&p);
        }
        if (err.code != MODEL_OK)
                fprintf(stderr, "%s\n", model_error_format(&err, text, sizeof(text)));
        gguf_free(g);
        return r;
}

int synthetic_write_packed(int fd, const struct synthetic *s, enum ternary_packing ternary,
                           uint64_t *ret_size) {
        const struct pack_options options = {.ternary = ternary, .float_head_as_s8 = true};
        _cleanup_close_ int outline = memfd_create("outline", MFD_CLOEXEC);
        uint64_t size;
        void *map;
        int r;

        if (s->type.id != TYPE_I2_S || s->head.id != TYPE_F16 || s->set_gates)
                return -EINVAL;
        if (outline < 0)
                return -errno;
        r = synthetic_outline(outline, s, &size);
        if (r < 0)
                return r;
        map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, outline, 0);
        if (map == MAP_FAILED)
                return -errno;
        r = write_like(fd, (struct view){map, size}, s, &options, ret_size);
        munmap(map, size);
        return r;
}
