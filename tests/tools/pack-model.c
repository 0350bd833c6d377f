/* pack-model GGUF OUT [2|1.6]: the packed file that the daemon would map, for measurements that
 * must not include packing; ternary weights at so many bits. Not installed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "engine/model/pack.h"

static int fail(const char *path, int r, const struct model_error *err) {
        char buf[256];

        fprintf(stderr, "pack-model: %s: %s\n", path,
                err && err->code != MODEL_OK ? model_error_format(err, buf, sizeof(buf))
                                             : strerror(-r));
        return EXIT_FAILURE;
}

int main(int argc, char **argv) {
        struct pack_options options = {.i2s = I2S_128_32, .float_head_as_s8 = true};
        _cleanup_close_ int in = -1, out = -1;
        struct model_error err = {0};
        struct stat st;
        uint64_t size;
        void *map;
        int r;

        if (argc < 3 || argc > 4 ||
            (argc == 4 && strcmp(argv[3], "2") != 0 && strcmp(argv[3], "1.6") != 0)) {
                fprintf(stderr, "usage: pack-model GGUF OUT [2|1.6]\n");
                return 64;
        }
        if (argc == 4 && strcmp(argv[3], "1.6") == 0)
                options.ternary = TERNARY_BASE_3;
        in = open(argv[1], O_RDONLY | O_CLOEXEC);
        if (in < 0 || fstat(in, &st) < 0)
                return fail(argv[1], -errno, NULL);
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, in, 0);
        if (map == MAP_FAILED)
                return fail(argv[1], -errno, NULL);
        out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (out < 0)
                return fail(argv[2], -errno, NULL);
        r = pack_model((struct view){map, (size_t)st.st_size}, out, &options, &size, &err);
        return r < 0 ? fail(argv[1], r, &err) : EXIT_SUCCESS;
}
