/* Fuzzing of everything that reads a model file: parse, pack, open, read rows. The input is taken
 * as a file from outside, and as a packed file. Built with -DFUZZ_MAIN it is a plain program:
 * `fuzz-model [--rounds N] FILE…` runs each file as it is and N times with a few random changes to
 * its metadata, always the same ones, and the same again for its packed form. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "engine/model/model.h"
#include "engine/model/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_row(const struct weight_matrix *m, uint32_t row) {
        float *out = malloc(m->cols * sizeof(float));

        if (!out)
                return;
        matrix_row(m, row, out);
        free(out);
}

/* The last row of a matrix is the one that a wrong size would put outside. */
static void read_model(const struct model *m) {
        const struct layer *last = &m->layers[m->hp.n_layer - 1];

        read_row(&m->token_embd, m->hp.n_vocab - 1);
        read_row(&m->output, 0);
        read_row(&last->q, last->q.rows - 1);
        read_row(&last->down, last->down.rows - 1);
}

static void check_open(int fd, bool must) {
        struct model_error err = {0};
        struct model *m = NULL;
        int r = model_open(&m, fd, &err);

        if (r < 0 && must) {
                fprintf(stderr, "packed, but does not open: %s\n", model_error_text(err.code));
                abort();
        }
        if (r < 0)
                return;
        read_model(m);
        model_free(m);
}

static void check_pack(const uint8_t *data, size_t size, enum i2s_layout layout,
                       enum ternary_packing ternary) {
        const struct pack_options options = {.i2s = layout, .ternary = ternary,
                                             .float_head_as_s8 = true};
        _cleanup_close_ int fd = memfd_create("packed", MFD_CLOEXEC);
        struct model_error err = {0};
        uint64_t packed = 0;
        int r;

        if (fd < 0)
                return;
        r = pack_model((struct view){data, size}, fd, &options, &packed, &err);
        if ((r < 0) != (err.code != MODEL_OK))
                abort();
        if (r == 0)
                check_open(fd, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);

        check_pack(data, size, size % 3 == 0 ? I2S_64_16 : I2S_128_32,
                   size > 0 && data[size - 1] % 2 ? TERNARY_BASE_3 : TERNARY_2_BITS);
        if (fd >= 0 && size > 0 && pwrite(fd, data, size, 0) == (ssize_t)size)
                check_open(fd, false);
        return 0;
}

#ifdef FUZZ_MAIN
static uint64_t next(uint64_t *rng) {
        *rng ^= *rng << 13;
        *rng ^= *rng >> 7;
        *rng ^= *rng << 17;
        return *rng;
}

/* Numbers that break careless arithmetic, at random places of the first 16 KiB, where the metadata
 * and the tables are; sometimes a cut. */
static void mutate(uint8_t *data, size_t *size, uint64_t *rng) {
        static const uint64_t values[] = {0, 1, 2, 0x7f, 0xff, 0x7fffffff, 0x80000000, 0xffffffff,
                                          UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX};
        const size_t widths[] = {1, 1, 4, 8};
        unsigned changes = 1 + (unsigned)(next(rng) % 3);

        for (unsigned i = 0; i < changes; i++) {
                uint64_t value = next(rng) % 2 ? next(rng) : values[next(rng) % ARRAY_SIZE(values)];
                size_t width = widths[next(rng) % ARRAY_SIZE(widths)];
                size_t at = (size_t)(next(rng) % MIN(*size, 16384U));

                memcpy(data + at, &value, MIN(width, *size - at));
        }
        if (next(rng) % 16 == 0)
                *size = (size_t)(next(rng) % *size) + 1;
}

static void run_rounds(const uint8_t *data, size_t size, unsigned rounds) {
        uint64_t rng = UINT64_C(88172645463325252);

        for (unsigned i = 0; i < rounds; i++) {
                uint8_t *copy = malloc(size);
                size_t n = size;

                if (!copy)
                        return;
                memcpy(copy, data, size);
                mutate(copy, &n, &rng);
                LLVMFuzzerTestOneInput(copy, n);
                free(copy);
        }
}

/* The opener sees damaged packed files too. */
static void run_packed(const uint8_t *data, size_t size, unsigned rounds) {
        const struct pack_options options = {.i2s = I2S_128_32, .float_head_as_s8 = true};
        _cleanup_close_ int fd = memfd_create("seed", MFD_CLOEXEC);
        uint64_t n = 0;
        uint8_t *packed;

        if (fd < 0 || pack_model((struct view){data, size}, fd, &options, &n, NULL) < 0)
                return;
        packed = malloc((size_t)n);
        if (packed && pread(fd, packed, (size_t)n, 0) == (ssize_t)n)
                run_rounds(packed, (size_t)n, rounds);
        free(packed);
}

static int run_file(const char *path, unsigned rounds) {
        FILE *f = fopen(path, "re");
        struct stat st;
        uint8_t *data;
        size_t size;

        if (!f || fstat(fileno(f), &st) < 0) {
                perror(path);
                return 1;
        }
        size = (size_t)st.st_size;
        data = malloc(MAX(size, 1U));
        if (!data || fread(data, 1, size, f) != size) {
                perror(path);
                return 1;
        }
        fclose(f);
        LLVMFuzzerTestOneInput(data, size);
        if (size > 0)
                run_rounds(data, size, rounds);
        run_packed(data, size, rounds);
        free(data);
        return 0;
}

int main(int argc, char **argv) {
        unsigned rounds = 0;
        int first = 1;

        if (argc > 2 && strcmp(argv[1], "--rounds") == 0) {
                rounds = (unsigned)strtoul(argv[2], NULL, 10);
                first = 3;
        }
        for (int i = first; i < argc; i++)
                if (run_file(argv[i], rounds) != 0)
                        return EXIT_FAILURE;
        printf("%d files, %u rounds each\n", argc - first, rounds);
        return argc > first ? EXIT_SUCCESS : EXIT_FAILURE;
}
#endif
