/* The command line of bitnetd. Strings point into argv. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/wire/proto.h"
#include "policy/config.h"

enum { OPTIONS_MAX_MODELS = 32, OPTIONS_MAX_DIRS = 8 };

struct options {
        bool user;
        bool debug;
        const char *models[OPTIONS_MAX_MODELS];
        unsigned n_models;
        const char *model_dirs[OPTIONS_MAX_DIRS];
        unsigned n_model_dirs;
        const char *socket;     /* NULL: the usual place */
        const char *state_dir;  /* NULL: the usual place */
        const char *config;     /* NULL: /etc/bitnetd/bitnetd.conf in system mode, none else */
        uint32_t threads;       /* 0: not given */
        enum cpu_level cpu;
        bool cpu_given;
        enum kv_type kv;
        bool kv_given;
        enum wire_i2s i2s;
        enum wire_packing packing;
        mode_t socket_mode;     /* 0: not given */
        const char *pressure_file; /* NULL: the machine's */
        bool idle_given;
        uint32_t idle_exit;     /* seconds, 0: never */
};

/* Documented outcomes. */
enum { OPTIONS_E_SHOWN = 1, /* --help or --version was printed */
       OPTIONS_E_USAGE = 2 };/* a message was printed */

int options_parse(int argc, char **argv, struct options *ret);
