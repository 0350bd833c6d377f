/* getopt_long over one table. Finding the daemon's socket is done here too: --socket, then
 * $BITNETD_SOCKET, then the user's own daemon if it runs, then the system's. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/options.h"
#include "client/term.h"
#include "engine/base/macro.h"
#include "version.h"

enum { EXIT_USAGE = 2 };

enum long_only {
        OPT_SOCKET = 256, OPT_SEED, OPT_TEMPERATURE, OPT_TOP_P, OPT_TOP_K, OPT_MIN_P,
        OPT_REPEAT_PENALTY, OPT_STOP, OPT_NO_STREAM, OPT_RAW, OPT_ALL, OPT_TYPE, OPT_LENGTH,
        OPT_FORMAT, OPT_CONTEXT, OPT_UID, OPT_SLICE, OPT_PERSISTENT, OPT_ONCE, OPT_WORKERS,
        OPT_TONE, OPT_INSTRUCTIONS, OPT_SCHEMA, OPT_LABELS, OPT_DIFF, OPT_LINES,
        OPT_DETACH, OPT_BACKGROUND, OPT_DEADLINE, OPT_KEEP, OPT_NAME, OPT_RECEIPT,
};

static const struct option long_options[] = {
        {"help", no_argument, NULL, 'h'},
        {"socket", required_argument, NULL, OPT_SOCKET},
        {"model", required_argument, NULL, 'm'},
        {"system", required_argument, NULL, 's'},
        {"file", required_argument, NULL, 'f'},
        {"max-tokens", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, OPT_SEED},
        {"temperature", required_argument, NULL, OPT_TEMPERATURE},
        {"top-p", required_argument, NULL, OPT_TOP_P},
        {"top-k", required_argument, NULL, OPT_TOP_K},
        {"min-p", required_argument, NULL, OPT_MIN_P},
        {"repeat-penalty", required_argument, NULL, OPT_REPEAT_PENALTY},
        {"stop", required_argument, NULL, OPT_STOP},
        {"no-stream", no_argument, NULL, OPT_NO_STREAM},
        {"raw", no_argument, NULL, OPT_RAW},
        {"all", no_argument, NULL, OPT_ALL},
        {"type", required_argument, NULL, OPT_TYPE},
        {"length", required_argument, NULL, OPT_LENGTH},
        {"format", required_argument, NULL, OPT_FORMAT},
        {"context", required_argument, NULL, OPT_CONTEXT},
        {"tone", required_argument, NULL, OPT_TONE},
        {"instructions", required_argument, NULL, OPT_INSTRUCTIONS},
        {"schema", required_argument, NULL, OPT_SCHEMA},
        {"labels", required_argument, NULL, OPT_LABELS},
        {"diff", no_argument, NULL, OPT_DIFF},
        {"lines", no_argument, NULL, OPT_LINES},
        {"uid", required_argument, NULL, OPT_UID},
        {"slice", required_argument, NULL, OPT_SLICE},
        {"name", required_argument, NULL, OPT_NAME},
        {"persistent", no_argument, NULL, OPT_PERSISTENT},
        {"once", no_argument, NULL, OPT_ONCE},
        {"workers", no_argument, NULL, OPT_WORKERS},
        {"detach", no_argument, NULL, OPT_DETACH},
        {"background", no_argument, NULL, OPT_BACKGROUND},
        {"deadline", required_argument, NULL, OPT_DEADLINE},
        {"keep", required_argument, NULL, OPT_KEEP},
        {"receipt", required_argument, NULL, OPT_RECEIPT},
        {"json", no_argument, NULL, 'j'},
        {"quiet", no_argument, NULL, 'q'},
        {"verbose", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
};

enum { USAGE_WIDTH = 28 };

static void print_overview(const struct verb *verbs, size_t n) {
        puts("bnctl: ask the local language model of this machine (bitnetd)\n\nUsage:");
        for (size_t i = 0; i < n; i++)
                printf("  bnctl %-*s%s%*s%s\n", USAGE_WIDTH, verbs[i].usage,
                       strlen(verbs[i].usage) > USAGE_WIDTH ? "\n" : "",
                       strlen(verbs[i].usage) > USAGE_WIDTH ? USAGE_WIDTH + 9 : 1, "",
                       verbs[i].summary);
        puts("\nbnctl VERB --help explains a verb and its options.\n\n"
             "Examples:\n"
             "  bnctl ask \"What is the capital of France?\"\n"
             "  git diff | bnctl ask \"Write a commit message for this change\"\n"
             "  bnctl summarize report.txt --type=key-points\n\n"
             "Everything stays on this machine. Exit status: 0 done, 2 usage, 65 bad input,\n"
             "66 cannot open input, 69 daemon or model unavailable, 70 worker failed,\n"
             "75 try again later, 77 not authorised, 78 configuration, 124 deadline passed,\n"
             "130 interrupted.");
}

static void print_help(const struct verb *verb) {
        printf("Usage: bnctl %s\n\n%s.\n\n%s\nEvery verb:\n"
               "  --socket=PATH   the daemon's socket (default: $BITNETD_SOCKET, then yours, then "
               "the system's)\n"
               "  -q, --quiet     no progress and notices on standard error\n",
               verb->usage, verb->summary, verb->help);
}

static bool is_socket(const char *path) {
        struct stat st;
        return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void find_socket(struct options *o) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");

        if (!o->socket)
                o->socket = getenv("BITNETD_SOCKET");
        if (o->socket && *o->socket)
                return;
        o->socket = o->path;
        if (runtime)
                snprintf(o->path, sizeof(o->path), "%s/bitnetd/api.sock", runtime);
        else
                snprintf(o->path, sizeof(o->path), "/tmp/bitnetd-%u/api.sock", geteuid());
        if (!is_socket(o->path))
                snprintf(o->path, sizeof(o->path), "/run/bitnetd/api.sock");
}

static int add_stop(struct options *o, const char *value) {
        if (o->n_stop == ARRAY_SIZE(o->stop)) {
                term_error("at most 4 --stop strings");
                return EXIT_USAGE;
        }
        o->stop[o->n_stop++] = value;
        return 0;
}

/* Options with a value, by their letter or number. */
static const char **value_slot(struct options *o, int c) {
        switch (c) {
        case 'm': return &o->model;
        case 's': return &o->system;
        case 'f': return &o->file;
        case 'n': return &o->max_tokens;
        case OPT_SOCKET: return &o->socket;
        case OPT_SEED: return &o->seed;
        case OPT_TEMPERATURE: return &o->temperature;
        case OPT_TOP_P: return &o->top_p;
        case OPT_TOP_K: return &o->top_k;
        case OPT_MIN_P: return &o->min_p;
        case OPT_REPEAT_PENALTY: return &o->repeat_penalty;
        case OPT_TYPE: return &o->type;
        case OPT_LENGTH: return &o->length;
        case OPT_FORMAT: return &o->format;
        case OPT_UID: return &o->uid;
        case OPT_SLICE: return &o->slice;
        case OPT_DEADLINE: return &o->deadline;
        case OPT_KEEP: return &o->keep;
        case OPT_NAME: return &o->name;
        case OPT_RECEIPT: return &o->receipt;
        case OPT_CONTEXT: return &o->context;
        case OPT_TONE: return &o->tone;
        case OPT_INSTRUCTIONS: return &o->instructions;
        case OPT_SCHEMA: return &o->schema;
        case OPT_LABELS: return &o->labels;
        default: return NULL;
        }
}

static bool *flag_slot(struct options *o, int c) {
        switch (c) {
        case 'j': return &o->json;
        case 'q': return &o->quiet;
        case 'v': return &o->verbose;
        case OPT_NO_STREAM: return &o->no_stream;
        case OPT_RAW: return &o->raw;
        case OPT_ALL: return &o->all;
        case OPT_PERSISTENT: return &o->persistent;
        case OPT_ONCE: return &o->once;
        case OPT_WORKERS: return &o->workers;
        case OPT_DETACH: return &o->detach;
        case OPT_BACKGROUND: return &o->background;
        case OPT_DIFF: return &o->diff;
        case OPT_LINES: return &o->lines;
        default: return NULL;
        }
}

int options_usec(const char *name, const char *text, double min, double max, uint64_t *ret) {
        char *end;
        double value = text ? strtod(text, &end) : 0;

        *ret = 0;
        if (!text)
                return 0;
        if (end == text || *end || !(value >= min && value <= max)) {
                fprintf(stderr, "bnctl: --%s must be %g to %g seconds, not \"%s\"\n", name, min,
                        max, text);
                return EXIT_USAGE;
        }
        *ret = (uint64_t)(value * 1e6);
        return 0;
}

bool options_word(const char *name, const char *value, const char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!value || strcmp(value, words[i]) == 0)
                        return true;
        fprintf(stderr, "bnctl: --%s cannot be \"%s\"; it is one of", name, value);
        for (size_t i = 0; i < n; i++)
                fprintf(stderr, " %s", words[i]);
        fputc('\n', stderr);
        return false;
}

const struct verb *options_verb(const struct options *o, const char *name) {
        for (size_t i = 0; i < o->n_verbs; i++)
                if (strcmp(o->verbs[i].name, name) == 0)
                        return &o->verbs[i];
        return NULL;
}

static bool has_word(const char *words, const char *word) {
        size_t n = strlen(word);

        for (const char *p = words; (p = strstr(p, word)); p += n)
                if ((p == words || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0))
                        return true;
        return false;
}

const struct option *options_table(void) {
        return long_options;
}

bool options_takes(const struct verb *verb, const struct option *option) {
        return has_word("help socket quiet", option->name) ||
               has_word(verb->options, option->name);
}

/* An option that the verb would not honour is refused: nothing that was asked for is ignored. */
static bool takes(const struct verb *verb, int c) {
        const struct option *o = long_options;

        while (o->name && o->val != c)
                o++;
        if (!o->name) /* getopt_long has said why */
                return false;
        if (options_takes(verb, o))
                return true;
        fprintf(stderr, "bnctl: %s does not take --%s (bnctl %s --help)\n", verb->name, o->name,
                verb->name);
        return false;
}

/* 0: go on; otherwise *ret_status is set and the program ends. */
static int take_options(struct options *o, const struct verb *verb, int argc, char **argv,
                        int *ret_status) {
        char name[48];
        int c;

        snprintf(name, sizeof(name), "bnctl %s", verb->name);
        argv[0] = name; /* for getopt_long's own messages */
        while ((c = getopt_long(argc, argv, "hm:s:f:n:jqv", long_options, NULL)) != -1) {
                const char **value = value_slot(o, c);
                bool *flag = flag_slot(o, c);

                *ret_status = 0;
                if (!takes(verb, c))
                        *ret_status = EXIT_USAGE;
                else if (value)
                        *value = optarg;
                else if (flag)
                        *flag = true;
                else if (c == OPT_STOP)
                        *ret_status = add_stop(o, optarg);
                else if (c == 'h')
                        return print_help(verb), 1;
                if (*ret_status)
                        return 1;
        }
        return 0;
}

const struct verb *options_parse(struct options *o, const struct verb *verbs, size_t n_verbs,
                                 int argc, char **argv, int *ret_status) {
        const struct verb *verb;

        *ret_status = 0;
        o->verbs = verbs;
        o->n_verbs = n_verbs;
        if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
            strcmp(argv[1], "help") == 0) {
                print_overview(verbs, n_verbs);
                *ret_status = argc < 2 ? EXIT_USAGE : 0;
                return NULL;
        }
        if (strcmp(argv[1], "--version") == 0) {
                puts("bnctl " BITNETD_VERSION);
                return NULL;
        }
        verb = options_verb(o, argv[1]);
        if (!verb) {
                fprintf(stderr, "bnctl: there is no verb \"%s\"; bnctl --help lists them\n",
                        argv[1]);
                *ret_status = EXIT_USAGE;
                return NULL;
        }
        if (take_options(o, verb, argc - 1, argv + 1, ret_status) != 0)
                return NULL;
        o->args = argv + 1 + optind;
        o->n_args = argc - 1 - optind;
        if (verb->max_args >= 0 && o->n_args > verb->max_args) {
                fprintf(stderr, "bnctl: usage: bnctl %s\n", verb->usage);
                *ret_status = EXIT_USAGE;
                return NULL;
        }
        find_socket(o);
        return verb;
}
