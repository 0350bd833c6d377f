/* Test models. Problem: every rule of the packer needs a file that is right but for one thing. So a
 * valid file is taken apart with the reader and put together again with one edit. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/macro.h"
#include "tests/engine/model/fixture.h"

const struct pack_options fixture_options = {.i2s = I2S_128_32, .float_head_as_s8 = true};

int fixture_fd(struct bytes b) {
        int fd = memfd_create("model", MFD_CLOEXEC);

        assert_true(fd >= 0);
        if (b.n > 0)
                assert_int_equal(pwrite(fd, b.p, b.n, 0), b.n);
        return fd;
}

struct bytes fixture_read(int fd) {
        off_t size = lseek(fd, 0, SEEK_END);
        struct bytes b = {.n = (size_t)size, .room = (size_t)size};

        assert_true(size > 0);
        b.p = malloc(b.n);
        assert_non_null(b.p);
        assert_int_equal(pread(fd, b.p, b.n, 0), b.n);
        return b;
}

struct bytes fixture_model(const struct synthetic *s) {
        int fd = fixture_fd((struct bytes){0});
        struct bytes b;
        uint64_t size;

        assert_int_equal(synthetic_write(fd, s, &size), 0);
        b = fixture_read(fd);
        assert_int_equal(b.n, size);
        close(fd);
        return b;
}

static bool is(struct view v, const char *s) {
        return s && v.n == strlen(s) && memcmp(v.p, s, v.n) == 0;
}

static const struct edit *edit_of(const struct edit *edits, size_t n, struct view name) {
        for (size_t i = 0; i < n; i++)
                if (is(name, edits[i].name))
                        return &edits[i];
        return NULL;
}

static void put_key_edit(struct gguf_writer *w, const struct edit *e) {
        float f;

        memcpy(&f, &e->number, sizeof(f));
        if (e->op == SET_U32)
                gguf_put_u32(w, e->name, e->number);
        else if (e->op == SET_F32)
                gguf_put_f32(w, e->name, f);
        else if (e->op == SET_STRING)
                gguf_put_string(w, e->name, e->text, strlen(e->text));
        else if (e->op == SET_BOOL)
                gguf_put_bool(w, e->name, e->number != 0);
        else if (e->op == SET_U32_ARRAY)
                gguf_put_array(w, e->name, GGUF_U32, 1, &e->number, 4);
}

static void put_kvs(struct gguf_writer *w, const struct gguf *g, const struct edit *edits,
                    size_t n) {
        for (size_t i = 0; i < g->n_kv; i++)
                if (!is(g->kv[i].key, "general.alignment") && !edit_of(edits, n, g->kv[i].key))
                        gguf_put_kv(w, &g->kv[i]);
        for (size_t i = 0; i < n; i++)
                put_key_edit(w, &edits[i]);
}

/* Data of all tensors, collected until the header is known. */
struct pile {
        struct gguf_writer *w;
        struct bytes data;
};

static void pile_put(struct pile *p, const char *name, const struct gguf_tensor *t,
                     const uint8_t *data) {
        static const uint8_t zero;
        uint64_t at = gguf_put_tensor(p->w, name, t->type, t->n_dims, t->ne, t->size);

        while (p->data.n < at)
                assert_int_equal(bytes_put(&p->data, &zero, 1), 0);
        assert_int_equal(bytes_put(&p->data, data, t->size), 0);
}

static void put_tensor(struct pile *p, const struct gguf *g, const struct gguf_tensor *source,
                       const struct edit *e) {
        struct gguf_tensor t = *source;
        char name[64] = "";
        size_t at;

        memcpy(name, t.name.p, t.name.n);
        if (e && e->op == DROP_TENSOR)
                return;
        if (e && e->op == COPY_TENSOR)
                pile_put(p, e->text, &t, g->file.p + t.offset);
        if (e && e->op == RENAME_TENSOR)
                snprintf(name, sizeof(name), "%s", e->text);
        if (e && e->op == SWAP_DIMS)
                t.ne[0] = source->ne[1], t.ne[1] = source->ne[0];
        if (e && e->op == SPLIT_DIMS)
                t.ne[1] /= 2, t.ne[2] = 2, t.n_dims = 3;
        if (e && e->op == RETYPE)
                t.type = e->number;
        pile_put(p, name, &t, g->file.p + t.offset);
        if (e && e->op == POKE) {
                at = (size_t)(e->at < 0 ? (int64_t)t.size + e->at : e->at);
                assert_true(at < t.size);
                p->data.p[p->data.n - t.size + at] = (uint8_t)e->number;
        }
}

static void put_vector(struct pile *p, const struct edit *e) {
        struct gguf_tensor t = {.n_dims = 1, .ne = {e->number, 1, 1, 1}, .type = 0,
                                .size = e->number * 4ULL};
        float *ones = malloc(t.size);

        assert_non_null(ones);
        for (uint32_t i = 0; i < e->number; i++)
                ones[i] = 1.0f;
        pile_put(p, e->name, &t, (const uint8_t *)ones);
        free(ones);
}

struct bytes fixture_edit(struct bytes src, const struct edit *edits, size_t n,
                          uint32_t alignment) {
        struct gguf_writer w;
        struct pile p = {.w = &w};
        struct model_error err;
        struct gguf *g = NULL;
        struct bytes out = {0};

        assert_int_equal(gguf_parse(&g, (struct view){src.p, src.n}, &err), 0);
        gguf_writer_init(&w, alignment);
        put_kvs(&w, g, edits, n);
        for (size_t i = 0; i < g->n_tensors; i++)
                put_tensor(&p, g, &g->tensors[i], edit_of(edits, n, g->tensors[i].name));
        for (size_t i = 0; i < n; i++)
                if (edits[i].op == ADD_F32)
                        put_vector(&p, &edits[i]);
        assert_int_equal(gguf_writer_finish(&w, &out), 0);
        assert_int_equal(bytes_put(&out, p.data.p, p.data.n), 0);
        free(p.data.p);
        gguf_writer_done(&w);
        gguf_free(g);
        return out;
}
