/* bench-guessing MODEL [--threads N] [--show] < TASKS: what guessing repeated text is worth. Tasks
 * are lines of JSON: {"kind", "user": the message, "max_tokens"}. Each is answered with guesses and
 * without, in turns, greedily with the daemon's penalty against loops; the answers must be the
 * same. Prints decoded tokens per second by kind: all tokens after the first of an answer. */
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/scheduler_internal.h"
#include "engine/base/macro.h"
#include "engine/text/chat.h"
#include "kernels/cpu.h"
#include "tests/tools/open_model.h"

enum { MAX_KINDS = 16, LEASE_USEC = 1000000 };

struct answer {
        struct secure_buf text;
        struct generation_usage usage;
        uint64_t first, last; /* microseconds: of the first token, of the end */
        bool ended;
};

/* Sums of all tasks of a kind, without guessing and with. */
struct kind {
        char *name;
        unsigned tasks;
        double usec[2];
        uint64_t tokens, guessed, right;
};

static void on_text(void *userdata, const char *text, size_t n) {
        struct answer *a = userdata;

        secure_buf_append(&a->text, text, n);
}

static void on_progress(void *userdata, uint32_t tokens_read, uint32_t tokens_out) {
        struct answer *a = userdata;

        (void)tokens_read;
        if (tokens_out > 0 && a->first == 0)
                a->first = scheduler_now();
}

static void on_end(void *userdata, enum finish finish, const struct generation_usage *usage) {
        struct answer *a = userdata;

        (void)finish;
        a->usage = *usage;
        a->last = scheduler_now();
        a->ended = true;
}

static bool run(struct scheduler *s, const struct model *m, json_t *task, enum guessing guessing,
                struct answer *a) {
        struct chat_message message = {.role = CHAT_USER};
        struct generation_request r = {
                .model = m, .sampling = SAMPLING_GREEDY, .text = on_text, .end = on_end,
                .progress = on_progress, .userdata = a,
        };
        struct generation *g;

        message.content = json_string_value(json_object_get(task, "user"));
        message.n = json_string_length(json_object_get(task, "user"));
        r.max_tokens = (uint32_t)json_integer_value(json_object_get(task, "max_tokens"));
        r.sampling.dry_multiplier = 0.8f;
        r.sampling.dry_base = 1.75f;
        r.sampling.dry_allowed_length = 4;
        scheduler_set_guessing(s, guessing);
        if (!message.content ||
            chat_encode(m->vocab, (enum chat_format)vocab_chat_format(m->vocab), &message, 1,
                        m->hp.n_ctx, &r.prompt) < 0 || scheduler_submit(s, &r, &g) < 0)
                return false;
        while (!a->ended) {
                struct pollfd p = {.fd = scheduler_fd(s), .events = POLLIN};

                scheduler_grant(s, scheduler_now() + LEASE_USEC);
                poll(&p, 1, 100);
                scheduler_dispatch(s);
        }
        return true;
}

static struct kind *find_kind(struct kind *kinds, json_t *task) {
        const char *name = json_string_value(json_object_get(task, "kind"));
        size_t i = 0;

        while (i + 1 < MAX_KINDS && kinds[i].name && strcmp(kinds[i].name, name ? name : "") != 0)
                i++;
        if (!kinds[i].name)
                kinds[i].name = strdup(name ? name : "");
        return &kinds[i];
}

/* False: the task could not be run, or guessing changed the answer. */
static bool compare(struct scheduler *s, const struct model *m, json_t *task, struct kind *k,
                    bool show) {
        struct answer a[2] = {0};
        int first = (int)(k->tasks++ % 2);
        bool same;

        if (!run(s, m, task, first ? GUESSING_WHERE_IT_PAYS : GUESSING_NEVER, &a[first]) ||
            !run(s, m, task, first ? GUESSING_NEVER : GUESSING_WHERE_IT_PAYS, &a[!first]))
                return false;
        same = a[0].text.n == a[1].text.n && a[0].usage.out == a[1].usage.out &&
               memcmp(a[0].text.p ? a[0].text.p : "", a[1].text.p ? a[1].text.p : "",
                      a[0].text.n) == 0;
        for (int i = 0; i < 2; i++)
                k->usec[i] += (double)(a[i].last - a[i].first);
        k->tokens += a[1].usage.out > 0 ? a[1].usage.out - 1 : 0;
        k->guessed += a[1].usage.guessed;
        k->right += a[1].usage.right;
        if (show)
                printf("%s: %u tokens, %.2fx\n%.*s\n", k->name, a[1].usage.out,
                       (double)(a[0].last - a[0].first) / (double)(a[1].last - a[1].first),
                       (int)a[1].text.n, a[1].text.p ? a[1].text.p : "");
        for (int i = 0; i < 2; i++)
                secure_buf_done(&a[i].text);
        return same;
}

static void report(const struct kind *kinds) {
        for (const struct kind *k = kinds; k->name; k++)
                printf("%-14s %3u tasks, %6llu tokens: without %7.1f tok/s, with %7.1f (%.2fx); "
                       "%llu guessed, %llu right\n", k->name, k->tasks,
                       (unsigned long long)k->tokens, (double)k->tokens / k->usec[0] * 1e6,
                       (double)k->tokens / k->usec[1] * 1e6, k->usec[0] / k->usec[1],
                       (unsigned long long)k->guessed, (unsigned long long)k->right);
}

static int run_all(struct scheduler *s, const struct model *m, bool show) {
        struct kind kinds[MAX_KINDS + 1] = {0};
        char *line = NULL;
        size_t room = 0;
        int failed = 0;

        while (!failed && getline(&line, &room, stdin) > 0) {
                json_t *task = json_loads(line, 0, NULL);

                failed = !task || !compare(s, m, task, find_kind(kinds, task), show);
                json_decref(task);
        }
        free(line);
        report(kinds);
        if (failed)
                fputs("bench-guessing: a task failed, or its answers differ\n", stderr);
        for (struct kind *k = kinds; k->name; k++)
                free(k->name);
        return failed;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"threads", required_argument, NULL, 't'}, {"show", no_argument, NULL, 's'}, {0}};
        unsigned threads = 2;
        struct scheduler *s;
        struct model *m;
        bool show = false;
        size_t kv;
        int r;

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
                if (c == 't')
                        threads = (unsigned)strtoul(optarg, NULL, 10);
                else if (c == 's')
                        show = true;
                else
                        return 64;
        }
        if (optind + 1 != argc || open_model(&m, argv[optind]) < 0)
                return 64;
        kv = kv_bytes_of(&m->hp, KV_S16, m->hp.n_ctx);
        if (scheduler_new(&s, threads, cpu_flags(CPU_ALL), 4) < 0 ||
            scheduler_add_model(s, m, kv) < 0)
                return 1;
        r = run_all(s, m, show);
        scheduler_free(s);
        model_free(m);
        return r;
}
