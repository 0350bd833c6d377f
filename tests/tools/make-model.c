/* make-model: a model file with random weights of any shape and type (synthetic.h), for
 * measurements and tests. Not installed. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/macro.h"
#include "tests/tools/synthetic_packed.h"

static const char usage[] =
        "usage: make-model [OPTION VALUE]… -o FILE\n"
        "  --shape tiny|2b4t|100b start from a known shape (first option; default tiny)\n"
        "  --arch NAME            bitnet-b1.58, bitnet-25, bitnet or llama\n"
        "  --layers --embd --ff --heads --kv-heads --vocab --ctx NUMBER\n"
        "  --type TYPE            projections: i2_s tq1_0 tq2_0 q8_0 q4_0 q4_1 q6_k f16 bf16 f32\n"
        "                         trits1 … trits4\n"
        "  --head TYPE            embedding and head, the same types but i2_s\n"
        "  --activation NAME      silu or relu2, written into the metadata\n"
        "  --tied | --untied      one matrix for embedding and head (default), or two\n"
        "  --seed NUMBER\n"
        "  --pooling NUMBER       a model for embeddings: 1 mean, 2 first token, 3 last token\n"
        "  --packed 2|1.6         write a packed file at once (i2_s, f16 head, no gate-zeros)\n"
        "  --gate-zeros SHARE     this share (0 to 1) of the gates is not positive, whatever the\n"
        "                         input; i2_s, widths of 128; heads but tq*, trits*, q4_1\n"
        "TQ types and q6_k need widths that are multiples of 256, the other q types of 32.\n";

enum option_id {
        OPT_SHAPE = 256, OPT_ARCH, OPT_LAYERS, OPT_EMBD, OPT_FF, OPT_HEADS, OPT_KV_HEADS, OPT_VOCAB,
        OPT_CTX, OPT_TYPE, OPT_HEAD, OPT_ACTIVATION, OPT_TIED, OPT_UNTIED, OPT_SEED, OPT_PACKED,
        OPT_GATE_ZEROS, OPT_POOLING,
        OPT_HELP,
};

static const struct option options[] = {
        {"shape", required_argument, NULL, OPT_SHAPE},
        {"arch", required_argument, NULL, OPT_ARCH},
        {"layers", required_argument, NULL, OPT_LAYERS},
        {"embd", required_argument, NULL, OPT_EMBD},
        {"ff", required_argument, NULL, OPT_FF},
        {"heads", required_argument, NULL, OPT_HEADS},
        {"kv-heads", required_argument, NULL, OPT_KV_HEADS},
        {"vocab", required_argument, NULL, OPT_VOCAB},
        {"ctx", required_argument, NULL, OPT_CTX},
        {"type", required_argument, NULL, OPT_TYPE},
        {"head", required_argument, NULL, OPT_HEAD},
        {"activation", required_argument, NULL, OPT_ACTIVATION},
        {"tied", no_argument, NULL, OPT_TIED},
        {"untied", no_argument, NULL, OPT_UNTIED},
        {"seed", required_argument, NULL, OPT_SEED},
        {"packed", required_argument, NULL, OPT_PACKED},
        {"gate-zeros", required_argument, NULL, OPT_GATE_ZEROS},
        {"pooling", required_argument, NULL, OPT_POOLING},
        {"help", no_argument, NULL, OPT_HELP},
        {NULL, 0, NULL, 0},
};

static int fail(const char *what, const char *value) {
        fprintf(stderr, "make-model: bad %s \"%s\"\n%s", what, value, usage);
        return -EINVAL;
}

static int parse_number(const char *text, uint32_t *ret) {
        char *end;
        unsigned long v;

        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno != 0 || end == text || *end || v == 0 || v > UINT32_MAX)
                return fail("number", text);
        *ret = (uint32_t)v;
        return 0;
}

static int parse_share(const char *text, float *ret) {
        char *end;

        *ret = strtof(text, &end);
        return end == text || *end || !(*ret >= 0 && *ret <= 1) ? fail("share", text) : 0;
}

static int parse_shape(const char *text, struct synthetic *s) {
        if (strcmp(text, "tiny") == 0)
                *s = synthetic_tiny;
        else if (strcmp(text, "2b4t") == 0)
                *s = synthetic_2b4t;
        else if (strcmp(text, "100b") == 0)
                *s = synthetic_100b;
        else
                return fail("shape", text);
        return 0;
}

static int parse_type(const char *text, struct synthetic_type *ret) {
        return synthetic_type_parse(text, ret) < 0 ? fail("type", text) : 0;
}

struct request {
        struct synthetic shape;
        const char *output;
        bool packed;
        enum ternary_packing ternary;
};

static int parse_packed(const char *text, struct request *q) {
        if (strcmp(text, "2") != 0 && strcmp(text, "1.6") != 0)
                return fail("packing", text);
        q->packed = true;
        q->ternary = strcmp(text, "2") == 0 ? TERNARY_2_BITS : TERNARY_BASE_3;
        return 0;
}

static int parse_option(int c, struct request *q) {
        struct synthetic *s = &q->shape;

        switch (c) {
        case OPT_SHAPE:
                return parse_shape(optarg, s);
        case OPT_ARCH:
                s->arch = optarg;
                /* the plain `bitnet` architecture says nothing about its activation by itself */
                if (strcmp(optarg, "bitnet") == 0 && !s->activation)
                        s->activation = "silu";
                return 0;
        case OPT_LAYERS:
                return parse_number(optarg, &s->layers);
        case OPT_EMBD:
                return parse_number(optarg, &s->embd);
        case OPT_FF:
                return parse_number(optarg, &s->ff);
        case OPT_HEADS:
                return parse_number(optarg, &s->heads);
        case OPT_KV_HEADS:
                return parse_number(optarg, &s->kv_heads);
        case OPT_VOCAB:
                return parse_number(optarg, &s->vocab);
        case OPT_CTX:
                return parse_number(optarg, &s->ctx);
        case OPT_TYPE:
                return parse_type(optarg, &s->type);
        case OPT_HEAD:
                return parse_type(optarg, &s->head);
        case OPT_ACTIVATION:
                s->activation = optarg;
                return 0;
        case OPT_TIED:
        case OPT_UNTIED:
                s->untied = c == OPT_UNTIED;
                return 0;
        case OPT_POOLING:
                return parse_number(optarg, &s->pooling);
        case OPT_SEED:
                s->seed = strtoull(optarg, NULL, 10);
                return 0;
        case OPT_PACKED:
                return parse_packed(optarg, q);
        case OPT_GATE_ZEROS:
                s->set_gates = true;
                return parse_share(optarg, &s->gate_zeros);
        case 'o':
                q->output = optarg;
                return 0;
        default:
                fputs(usage, stderr);
                return -EINVAL;
        }
}

int main(int argc, char **argv) {
        struct request q = {.shape = synthetic_tiny};
        _cleanup_close_ int fd = -1;
        uint64_t size = 0;
        int c, r;

        while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
                if (c == OPT_HELP) {
                        fputs(usage, stdout);
                        return EXIT_SUCCESS;
                }
                if (parse_option(c, &q) < 0)
                        return EXIT_FAILURE;
        }
        if (!q.output || optind < argc) {
                fputs(usage, stderr);
                return EXIT_FAILURE;
        }
        fd = open(q.output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0) {
                fprintf(stderr, "make-model: %s: %s\n", q.output, strerror(errno));
                return EXIT_FAILURE;
        }
        r = q.packed ? synthetic_write_packed(fd, &q.shape, q.ternary, &size)
                     : synthetic_write(fd, &q.shape, &size);
        if (r < 0) {
                fprintf(stderr, "make-model: %s: %s%s\n", q.output, strerror(-r),
                        r == -EINVAL ? " (do the widths suit the types? vocab >= 260?)" : "");
                return EXIT_FAILURE;
        }
        printf("%s: %" PRIu64 " bytes\n", q.output, size);
        return EXIT_SUCCESS;
}
