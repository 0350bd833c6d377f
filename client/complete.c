/* Everything comes from the table of verbs: its options, and from its usage and help what stands
 * for a file, a model or a job, which words an option knows, and what things are for. Models and
 * jobs are asked of the daemon; without one there are none. */

#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "client/bus.h"
#include "client/complete.h"
#include "client/http.h"
#include "client/lists.h"
#include "engine/base/macro.h"

struct completion {
        FILE *out;
        struct options *o;
        const char *prefix;  /* stands before each candidate: "--type=", or "" */
        const char *word;    /* what is there of it */
};

static void offer(const struct completion *c, const char *text, size_t n, const char *what) {
        size_t typed = strlen(c->word);

        if (n < typed || strncmp(text, c->word, typed) != 0)
                return;
        fprintf(c->out, "%s%.*s", c->prefix, (int)n, text);
        if (what && *what)
                fprintf(c->out, "\t%.*s", (int)strcspn(what, "\n"), what);
        fputc('\n', c->out);
}

static void offer_word(const struct completion *c, const char *text, const char *what) {
        offer(c, text, strlen(text), what);
}

/* --- what only the daemon knows --- */

static void offer_models(const struct completion *c) {
        struct http_failure failure = {0};
        json_t *list = NULL, *m;
        size_t i;

        if (http_json(c->o->socket, "/v1/models", NULL, &list, &failure) != 0)
                return;
        json_array_foreach(json_object_get(list, "data"), i, m)
                offer_word(c, list_text(m, "id"), json_is_true(json_object_get(m, "default"))
                                                          ? "the default model"
                                                          : "model");
        json_decref(list);
}

static void offer_jobs(const struct completion *c, bool ended) {
        json_t *list = NULL, *job;
        sd_bus *bus = NULL;
        char what[96];
        size_t i;

        if (bus_open(c->o, &bus) != 0)
                return;
        if (list_jobs(bus, 0, &list) == 0)
                json_array_foreach(list, i, job) {
                        snprintf(what, sizeof(what), "%s, %s", list_text(job, "verb"),
                                 list_text(job, "state"));
                        if (ended || !list_ended(job))
                                offer_word(c, list_text(job, "job"), what);
                }
        json_decref(list);
        sd_bus_flush_close_unref(bus);
}

/* --- options --- */

/* A line of help that explains options begins with one. */
static bool explains(const char *help, const char *p) {
        while (p > help && p[-1] != '\n')
                p--;
        return p[strspn(p, " ")] == '-';
}

/* Where help explains an option: after its name, or NULL. */
static const char *help_of(const struct verb *verb, const char *name) {
        size_t n = strlen(name);

        for (const char *p = verb->help; (p = strstr(p, "--")); p += 2)
                if (strncmp(p + 2, name, n) == 0 && !isalnum((unsigned char)p[2 + n]) &&
                    p[2 + n] != '-' && explains(verb->help, p))
                        return p + 2 + n;
        return NULL;
}

/* The description: what follows two spaces in the same line, or "". */
static const char *description(const struct verb *verb, const char *name) {
        const char *p = help_of(verb, name), *gap = p ? strstr(p, "  ") : NULL;

        if (!gap || gap > p + strcspn(p, "\n"))
                return "";
        return gap + strspn(gap, " ");
}

static void offer_options(const struct completion *c, const struct verb *verb) {
        char text[64];

        for (const struct option *o = options_table(); o->name; o++)
                if (options_takes(verb, o)) {
                        snprintf(text, sizeof(text), "--%s%s", o->name, o->has_arg ? "=" : "");
                        offer_word(c, text, description(verb, o->name));
                }
}

/* "tldr (default), teaser, key-points": the words a value can be. False: the text is no such
 * list. */
static bool offer_listed(const struct completion *c, const char *text, bool really) {
        size_t words = 0;

        for (const char *p = text;; words++) {
                size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz-");

                if (n == 0)
                        return false;
                if (really)
                        offer(c, p, n, NULL);
                p += n;
                if (strncmp(p, " (default)", 10) == 0)
                        p += 10;
                if (*p == '\n' || *p == 0)
                        return words > 0;
                if (strncmp(p, ", ", 2) != 0)
                        return false;
                p += 2;
        }
}

static void offer_files(const struct completion *c) {
        fputs(":files\n", c->out);
}

static void offer_value(const struct completion *c, const struct verb *verb,
                        const struct option *option) {
        const char *help = help_of(verb, option->name);
        const char *words = description(verb, option->name);

        if (strcmp(option->name, "model") == 0)
                offer_models(c);
        else if (strcmp(option->name, "socket") == 0 || (help && strncmp(help, "=FILE", 5) == 0))
                offer_files(c);
        else if (offer_listed(c, words, false))
                offer_listed(c, words, true);
}

/* --- arguments --- */

/* Words in small letters between brackets: "quota [show|explain|set KEY=VALUE...]". */
static void offer_usage_words(const struct completion *c, const char *usage) {
        for (const char *p = usage + strcspn(usage, "["); *p; p++) {
                size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz");

                if (n > 0 && strchr("[|", p[-1]) && strchr("|] ", p[n]))
                        offer(c, p, n, NULL);
                p += n > 0 ? n - 1 : 0;
        }
}

static void offer_arguments(const struct completion *c, const struct verb *verb, int given) {
        const char *usage = verb->usage;

        if (verb->max_args >= 0 && given >= verb->max_args)
                return;
        if (given == 0)
                offer_usage_words(c, usage);
        if (strcmp(verb->name, "completion") == 0 && given == 0) {
                offer_word(c, "bash", NULL);
                offer_word(c, "zsh", NULL);
                offer_word(c, "fish", NULL);
        }
        if (strstr(usage, "JOB"))
                offer_jobs(c, strcmp(verb->name, "cancel") != 0);
        if (strstr(usage, "MODEL"))
                offer_models(c);
        if (strstr(usage, "FILE") || strstr(usage, "RECEIPT"))
                offer_files(c);
}

/* --- the command line --- */

static const struct option *find_option(const char *word, size_t n) {
        for (const struct option *o = options_table(); o->name; o++)
                if ((n == 2 && word[1] != '-' && o->val == word[1]) ||
                    (n > 2 && strlen(o->name) == n - 2 && strncmp(o->name, word + 2, n - 2) == 0))
                        return o;
        return NULL;
}

/* The option that a word names and that wants the next one as its value, or NULL. */
static const struct option *wants_value(const char *word) {
        const struct option *o = word[0] == '-' && !strchr(word, '=')
                                         ? find_option(word, strlen(word))
                                         : NULL;

        return o && o->has_arg ? o : NULL;
}

/* The last word belongs to this option, or to none (NULL). Counts the arguments before it. */
static const struct option *walk(struct options *o, char **words, int n, int *ret_given) {
        const struct option *option = NULL;

        *ret_given = 0;
        for (int i = 0; i < n - 1; i++) {
                const char *word = words[i];

                if (option && strcmp(word, "=") == 0)
                        continue;
                if (option) {
                        if (strcmp(option->name, "socket") == 0)
                                o->socket = word;
                        option = NULL;
                        continue;
                }
                option = wants_value(word);
                if (strncmp(word, "--socket=", 9) == 0)
                        o->socket = word + 9;
                *ret_given += word[0] != '-';
        }
        return option;
}

static void complete_verb(const struct completion *c, const struct options *o) {
        for (size_t i = 0; i < o->n_verbs; i++)
                offer_word(c, o->verbs[i].name, o->verbs[i].summary);
        if (c->word[0] == '-') {
                offer_word(c, "--help", "what there is");
                offer_word(c, "--version", NULL);
        }
}

void complete(FILE *out, struct options *o, char **words, int n, bool split) {
        struct completion c = {.out = out, .o = o, .prefix = "", .word = words[n - 1]};
        char *equals = c.word[0] == '-' ? strchr(c.word, '=') : NULL;
        const struct option *option;
        const struct verb *verb;
        char prefix[64];
        int given;

        if (n == 1) {
                complete_verb(&c, o);
                return;
        }
        verb = options_verb(o, words[0]);
        if (!verb)
                return;
        option = walk(o, words + 1, n - 1, &given);
        if (option && split && strcmp(c.word, "=") == 0)
                c.word = "";
        if (!option && equals) {
                option = find_option(c.word, (size_t)(equals - c.word));
                snprintf(prefix, sizeof(prefix), "%.*s", (int)(equals + 1 - c.word), c.word);
                c.prefix = split ? "" : prefix;
                c.word = equals + 1;
        }
        if (option && options_takes(verb, option))
                offer_value(&c, verb, option);
        else if (!option && c.word[0] == '-')
                offer_options(&c, verb);
        else if (!option && !equals)
                offer_arguments(&c, verb, given);
}
