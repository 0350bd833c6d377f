/* getopt_long and range checks; no decision is made here. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/broker/options.h"
#include "daemon/wire/proto.h"

enum { OPT_USER = 256, OPT_DEBUG, OPT_MODEL, OPT_MODEL_DIR, OPT_SOCKET, OPT_STATE_DIR, OPT_CONFIG,
       OPT_THREADS, OPT_CPU, OPT_I2S, OPT_PACKING, OPT_SOCKET_MODE, OPT_IDLE_EXIT,
       OPT_PRESSURE_FILE, OPT_KV, OPT_VERSION, OPT_HELP };

static const struct option table[] = {
        { "user", no_argument, NULL, OPT_USER },
        { "debug", no_argument, NULL, OPT_DEBUG },
        { "model", required_argument, NULL, OPT_MODEL },
        { "model-dir", required_argument, NULL, OPT_MODEL_DIR },
        { "socket", required_argument, NULL, OPT_SOCKET },
        { "state-dir", required_argument, NULL, OPT_STATE_DIR },
        { "config", required_argument, NULL, OPT_CONFIG },
        { "threads", required_argument, NULL, OPT_THREADS },
        { "cpu", required_argument, NULL, OPT_CPU },
        { "kv", required_argument, NULL, OPT_KV },
        { "i2s-layout", required_argument, NULL, OPT_I2S },
        { "packing", required_argument, NULL, OPT_PACKING },
        { "socket-mode", required_argument, NULL, OPT_SOCKET_MODE },
        { "idle-exit", required_argument, NULL, OPT_IDLE_EXIT },
        { "pressure-file", required_argument, NULL, OPT_PRESSURE_FILE },
        { "version", no_argument, NULL, OPT_VERSION },
        { "help", no_argument, NULL, OPT_HELP },
        {},
};

static void help(void) {
        puts("Usage: bitnetd [OPTION]...\n"
             "Serve language models to the users of this machine.\n\n"
             "  --user              for one user: no systemd, workers are child processes\n"
             "  --model FILE        serve this GGUF file (repeatable; the first is the default)\n"
             "  --model-dir DIR     serve the *.gguf files of DIR (repeatable)\n"
             "  --socket PATH       listen here; bus.sock lies beside it\n"
             "  --socket-mode MODE  octal access mode of the sockets in user mode (0600)\n"
             "  --state-dir DIR     where packed models are kept\n"
             "  --config FILE       configuration file\n"
             "  --threads N         threads of a worker (default: one per CPU)\n"
             "  --cpu LEVEL         c, avx2, avxvnni, avx512vl, avx512vnni, avx512vbmi or\n"
             "                      all\n"
             "  --kv TYPE           keys and values as s16 (default), f16 (slower) or s8: half\n"
             "                      the memory, faster with a long context, a little less exact\n"
             "  --i2s-layout L      how I2_S weights lie in their file: 128/32 (default),\n"
             "                      64/16 (made on ARM since 2025-11), 1x4\n"
             "  --packing P         bits of a ternary weight: 2, 1.6, or auto (measured when a\n"
             "                      model is packed; default)\n"
             "  --idle-exit SECONDS end when nobody was there for so long (0: never; default:\n"
             "                      1800 when systemd holds the sockets, else 0)\n"
             "  --pressure-file F   memory pressure in the kernel's PSI format (default:\n"
             "                      /proc/pressure/memory or the root cgroup's; \"\": do\n"
             "                      not watch)\n"
             "  --debug             workers keep standard error\n"
             "  --version, --help");
}

static int usage(const char *problem) {
        fprintf(stderr, "bitnetd: %s (see --help)\n", problem);
        return OPTIONS_E_USAGE;
}

static bool parse_unsigned(const char *s, int base, unsigned long max, uint32_t *ret) {
        unsigned long v;
        char *end;

        if (*s < '0' || *s > '9')
                return false;
        errno = 0;
        v = strtoul(s, &end, base);
        if (errno || *end || v > max)
                return false;
        *ret = (uint32_t)v;
        return true;
}

static int parse_i2s(const char *name, enum wire_i2s *ret) {
        static const char *const names[_WIRE_I2S_MAX] = { "128/32", "64/16", "1x4" };

        for (unsigned i = 0; i < _WIRE_I2S_MAX; i++) {
                if (strcmp(name, names[i]) == 0) {
                        *ret = (enum wire_i2s)i;
                        return 0;
                }
        }
        return usage("--i2s-layout is 128/32, 64/16 or 1x4");
}

static int parse_packing(const char *name, enum wire_packing *ret) {
        static const char *const names[_WIRE_PACKING_MAX] = { "auto", "2", "1.6" };

        for (unsigned i = 0; i < _WIRE_PACKING_MAX; i++) {
                if (strcmp(name, names[i]) == 0) {
                        *ret = (enum wire_packing)i;
                        return 0;
                }
        }
        return usage("--packing is auto, 2 or 1.6");
}

static int parse_one(int c, struct options *o) {
        uint32_t mode;

        switch (c) {
        case OPT_USER:
                o->user = true;
                return 0;
        case OPT_DEBUG:
                o->debug = true;
                return 0;
        case OPT_MODEL:
                if (o->n_models == OPTIONS_MAX_MODELS)
                        return usage("too many --model options");
                o->models[o->n_models++] = optarg;
                return 0;
        case OPT_MODEL_DIR:
                if (o->n_model_dirs == OPTIONS_MAX_DIRS)
                        return usage("too many --model-dir options");
                o->model_dirs[o->n_model_dirs++] = optarg;
                return 0;
        case OPT_SOCKET:
                o->socket = optarg;
                return 0;
        case OPT_STATE_DIR:
                o->state_dir = optarg;
                return 0;
        case OPT_CONFIG:
                o->config = optarg;
                return 0;
        case OPT_THREADS:
                if (!parse_unsigned(optarg, 10, WIRE_MAX_THREADS, &o->threads) || !o->threads)
                        return usage("--threads takes a number from 1 to 64");
                return 0;
        case OPT_CPU:
                o->cpu_given = true;
                if (config_cpu_level(optarg, &o->cpu) < 0)
                        return usage("unknown --cpu level");
                return 0;
        case OPT_KV:
                o->kv_given = true;
                if (config_kv_type(optarg, &o->kv) < 0)
                        return usage("--kv is s16, f16 or s8");
                return 0;
        case OPT_I2S:
                return parse_i2s(optarg, &o->i2s);
        case OPT_PACKING:
                return parse_packing(optarg, &o->packing);
        case OPT_SOCKET_MODE:
                if (!parse_unsigned(optarg, 8, 0777, &mode) || !mode)
                        return usage("--socket-mode takes an octal mode such as 0666");
                o->socket_mode = (mode_t)mode;
                return 0;
        case OPT_IDLE_EXIT:
                o->idle_given = true;
                if (!parse_unsigned(optarg, 10, CONFIG_IDLE_EXIT_MAX, &o->idle_exit))
                        return usage("--idle-exit takes a number of seconds");
                return 0;
        case OPT_PRESSURE_FILE:
                o->pressure_file = optarg;
                return 0;
        case OPT_VERSION:
                puts("bitnetd " BITNETD_VERSION);
                return OPTIONS_E_SHOWN;
        case OPT_HELP:
                help();
                return OPTIONS_E_SHOWN;
        }
        return OPTIONS_E_USAGE; /* getopt_long said why */
}

int options_parse(int argc, char **argv, struct options *ret) {
        struct options o = {};
        int c, r;

        while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
                r = parse_one(c, &o);
                if (r != 0)
                        return r;
        }
        if (optind < argc)
                return usage("unexpected argument");
        if (o.state_dir && !o.state_dir[0])
                return usage("--state-dir takes the path of a folder");
        if (o.socket && (o.socket[0] != '/' || strlen(o.socket) > 90))
                return usage("--socket takes an absolute path of at most 90 bytes");
        *ret = o;
        return 0;
}
