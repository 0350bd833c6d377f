/* What every developer program and model test begins with: a model from a path, an engine on it,
 * and the two things one does with logits, look at them all or sum their surprise. Nothing here
 * ships; messages go to stderr. A runner owns its model, threads and engine. */
#include "tests/tools/open_model.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "kernels/cpu.h"

static int complain(const char *path, int r, const struct model_error *err) {
        char buf[256];

        if (err && err->code != MODEL_OK)
                fprintf(stderr, "%s: %s\n", path, model_error_format(err, buf, sizeof(buf)));
        else
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
        return r;
}

static int pack_into_memory(int fd, const char *path, enum ternary_packing ternary) {
        struct pack_options options = {.i2s = I2S_128_32, .ternary = ternary,
                                       .float_head_as_s8 = true};
        _cleanup_close_ int out = memfd_create("packed-model", MFD_CLOEXEC);
        struct model_error err = {0};
        struct view src;
        struct stat st;
        uint64_t size;
        void *map;
        int r;

        if (out < 0 || fstat(fd, &st) < 0)
                return complain(path, -errno, NULL);
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
                return complain(path, -errno, NULL);
        src = (struct view){map, (size_t)st.st_size};
        r = pack_model(src, out, &options, &size, &err);
        munmap(map, src.n);
        if (r < 0)
                return complain(path, r, &err);
        return TAKE_FD(out);
}

int open_model_as(struct model **ret, const char *path, enum ternary_packing ternary) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC), packed = -1;
        struct model_error err = {0};
        int r;

        if (fd < 0)
                return complain(path, -errno, NULL);
        r = model_open(ret, fd, &err);
        if (r >= 0 || err.code != MODEL_E_NOT_PACKED)
                return r < 0 ? complain(path, r, &err) : 0;
        packed = pack_into_memory(fd, path, ternary);
        if (packed < 0)
                return packed;
        r = model_open(ret, packed, &err);
        return r < 0 ? complain(path, r, &err) : 0;
}

int open_model(struct model **ret, const char *path) {
        return open_model_as(ret, path, TERNARY_2_BITS);
}

int runner_start(struct runner *r, struct model *model, unsigned threads, const char *cpu,
                 enum kv_form form, size_t kv_tokens) {
        size_t pages = kv_tokens / KV_PAGE + 1;
        unsigned mask;
        int k;

        *r = (struct runner){.model = model};
        k = cpu_mask_parse(cpu, &mask);
        if (k >= 0) {
                kernel_ops_init(&r->ops, cpu_flags(mask));
                k = pool_new(&r->pool, threads);
        }
        if (k >= 0)
                k = engine_new(&r->engine, model, &r->ops, r->pool, form,
                               kv_bytes_of(&model->hp, form, pages * KV_PAGE));
        if (k < 0) {
                fprintf(stderr, "cannot start an engine: %s\n", strerror(-k));
                runner_done(r);
        }
        return k;
}

int runner_open_kv(struct runner *r, const char *path, unsigned threads, const char *cpu,
                   enum kv_form form, size_t kv_tokens) {
        struct model *model;
        int k;

        k = open_model(&model, path);
        return k < 0 ? k : runner_start(r, model, threads, cpu, form, kv_tokens);
}

int runner_open(struct runner *r, const char *path, unsigned threads, const char *cpu,
                size_t kv_tokens) {
        return runner_open_kv(r, path, threads, cpu, KV_S16, kv_tokens);
}

void runner_done(struct runner *r) {
        engine_free(r->engine);
        pool_free(r->pool);
        model_free(r->model);
        *r = (struct runner){0};
}

int runner_logits(struct runner *r, const int32_t *ids, size_t n, size_t chunk,
                  void (*fn)(void *ctx, size_t position, const float *logits), void *ctx) {
        struct engine_row rows[ENGINE_MAX_ROWS];
        const float *logits[ENGINE_MAX_ROWS];
        struct sequence *seq = NULL;
        int k;

        k = sequence_new(&seq, r->engine, n);
        for (size_t at = 0; k >= 0 && at < n;) {
                size_t m = MIN(MIN(n - at, chunk), (size_t)ENGINE_MAX_ROWS);

                for (size_t i = 0; i < m; i++)
                        rows[i] = (struct engine_row){seq, ids[at + i], true};
                k = engine_step(r->engine, rows, m, logits, NULL);
                for (size_t i = 0; k >= 0 && i < m; i++)
                        fn(ctx, at + i, logits[i]);
                at += m;
        }
        sequence_free(seq);
        return k;
}

struct score {
        const int32_t *ids;
        size_t n, n_vocab;
        double nll;
};

/* -ln softmax(logits)[the token that follows] */
static void add_surprise(void *ctx, size_t position, const float *logits) {
        struct score *s = ctx;
        double max = -INFINITY, sum = 0;

        if (position + 1 >= s->n)
                return;
        for (size_t i = 0; i < s->n_vocab; i++)
                max = fmax(max, (double)logits[i]);
        for (size_t i = 0; i < s->n_vocab; i++)
                sum += exp((double)logits[i] - max);
        s->nll += max + log(sum) - (double)logits[s->ids[position + 1]];
}

int runner_score(struct runner *r, const int32_t *ids, size_t n, double *nll, size_t *count) {
        struct score s = {.ids = ids, .n = n, .n_vocab = r->model->hp.n_vocab};
        int k;

        k = runner_logits(r, ids, n, ENGINE_MAX_ROWS, add_surprise, &s);
        if (k < 0)
                return k;
        *nll += s.nll;
        *count += n - 1;
        return 0;
}

int read_file(const char *path, uint8_t **ret, size_t *ret_size) {
        FILE *f = fopen(path, "rbe");
        uint8_t *p = NULL;
        size_t n = 0, room = 0;

        if (!f)
                return complain(path, -errno, NULL);
        for (size_t got = 1; got > 0; n += got) {
                if (room - n < 2) {
                        uint8_t *bigger = realloc(p, room = 2 * room + 65536);

                        if (!bigger) {
                                free(p);
                                fclose(f);
                                return complain(path, -ENOMEM, NULL);
                        }
                        p = bigger;
                }
                got = fread(p + n, 1, room - n - 1, f);
        }
        fclose(f);
        p[n] = 0;
        *ret = p;
        *ret_size = n;
        return 0;
}
