/* Command line of bnctl: one table of options for all verbs. */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/error.h"

struct options {
        const char *socket;      /* api.sock in use (owned by the environment or `path`) */
        char path[108];
        const char *model, *system, *file, *type, *length, *format, *context;
        const char *stop[4];
        size_t n_stop;
        const char *max_tokens, *temperature, *top_p, *top_k, *min_p, *repeat_penalty, *seed;
        const char *uid, *slice, *name;
        const char *tone, *instructions, *schema, *labels;
        const char *deadline, *keep;
        const char *receipt;     /* the file to write it to */
        bool json, quiet, verbose, no_stream, raw, all, persistent, once, workers,
                detach, background, diff, lines;
        bool replay;             /* no option: nothing of the answer is printed */
        const struct verb *verbs; /* all there are */
        size_t n_verbs;
        char **args;             /* what is left, NULL-terminated */
        int n_args;
};

struct verb {
        const char *name;
        const char *usage;       /* after "bnctl " */
        const char *summary;
        const char *help;        /* the rest of --help */
        const char *options;     /* names it takes beside those of every verb, spaces between */
        int max_args;            /* -1: any number */
        int (*run)(struct options *o);  /* exit status */
};

/* Seconds as an option gives them, in microseconds; text NULL: 0. 0, or an exit status with the
 * message printed. */
int options_usec(const char *name, const char *text, double min, double max, uint64_t *ret);

/* Is the value of an option absent or one of these words? Otherwise says so. */
bool options_word(const char *name, const char *value, const char *const *words, size_t n);

/* All options, ended by one without a name; which of them a verb takes. */
const struct option *options_table(void);
bool options_takes(const struct verb *verb, const struct option *option);
/* NULL: there is none of this name. */
const struct verb *options_verb(const struct options *o, const char *name);

/* The verb that the command line names, or NULL with *ret_status the exit status (help, version,
 * usage errors are printed here). */
const struct verb *options_parse(struct options *o, const struct verb *verbs, size_t n_verbs,
                                 int argc, char **argv, int *ret_status);
