/* Fuzzing of what a client's bytes meet first: the HTTP request parser, and behind it JSON, query
 * and UTF-8. The input is the byte stream of a connection. It is fed whole and byte by byte: both
 * must find the same requests with the same bodies, within the limits; then every body is read as a
 * request of each kind.
 *
 * A libFuzzer target, or with -DFUZZ_MAIN a program: [--rounds N] FILE… */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/wire/proto.h"
#include "daemon/worker/http.h"
#include "daemon/worker/messages.h"
#include "daemon/worker/params.h"
#include "daemon/worker/request.h"
#include "daemon/worker/responses_request.h"
#include "daemon/worker/task_options.h"
#include "engine/base/macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 4096, TARGET_MAX = 256 };

static void require(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "fuzz-http: %s\n", what);
        abort();
}

static void check_target(const struct request *r) {
        static const char *const names[] = { "type", "length", "context", "" };
        char path[TARGET_MAX], value[TARGET_MAX];
        const char *name;
        size_t at = 0, n;

        if (request_path(r, path, sizeof(path)) == 0)
                require(strlen(path) < sizeof(path), "path too long");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (request_query(r, names[i], value, sizeof(value)) == 1)
                        require(strlen(value) < sizeof(value), "value too long");
        while (request_query_name(r, &at, &name, &n))
                require(memchr(name, '&', n) == NULL, "two names in one");
        request_accepts_first(r, "text/plain");
}

static void check_error(const struct request_error *e) {
        struct secure_buf text = {};
        json_t *v = http_error_json(e);

        require(e->code != ERROR_NONE, "a refusal without a reason");
        http_json(&text, v);
        require(!text.failed && text.n > 0, "an error that cannot be told");
        json_decref(v);
        secure_buf_done(&text);
}

/* The same as what goes with a text, for each verb. */
static void check_task(const json_t *root) {
        for (uint32_t verb = WIRE_VERB_CHAT; verb < _WIRE_VERB_MAX; verb++) {
                struct gen_params params = { .sampling = SAMPLING_GREEDY };
                struct task_options options = {};
                struct request_error e = {};

                if (!task_verb(verb))
                        continue;
                if (task_options_parse(root, verb, &options, &params, &e) < 0)
                        check_error(&e);
                else if (verb == WIRE_VERB_EXTRACT)
                        require(params.grammar && options.schema, "an extract without a schema");
                else if (verb == WIRE_VERB_CLASSIFY)
                        require(options.labels.n >= 2 && options.labels.n <= LABELS_MAX,
                                "labels out of range");
                task_options_done(&options);
                params_done(&params);
        }
}

/* The same as a response: what was translated is a chat, whose refusals have names, too. */
static void check_response(const json_t *root) {
        struct gen_params params = { .sampling = SAMPLING_GREEDY };
        struct request_error e = {};
        struct messages messages = {};
        json_t *to = responses_translate(root, &e), *echo = NULL;

        if (!to) {
                check_error(&e);
                return;
        }
        if (params_parse(to, &params, &e) < 0) {
                responses_rename(&e);
                check_error(&e);
        }
        require(messages_parse(to, NULL, &messages, &e) == 0, "an input that is no conversation");
        echo = responses_echo(root, &params);
        require(json_is_object(echo), "a request without an echo");
        json_decref(echo);
        messages_done(&messages);
        params_done(&params);
        json_decref(to);
}

static void check_body(const char *p, size_t n) {
        struct gen_params params = { .sampling = SAMPLING_GREEDY };
        struct request_error e = {};
        struct messages messages = {};
        char model[WIRE_NAME_MAX];
        json_t *root;

        require(text_valid_prefix(p, n) <= n, "valid prefix too long");
        root = params_load(p, n, &e);
        if (!root) {
                check_error(&e);
                return;
        }
        if (params_model(root, model, &e) < 0)
                check_error(&e);
        if (params_parse(root, &params, &e) < 0)
                check_error(&e);
        if (messages_parse(root, NULL, &messages, &e) < 0)
                check_error(&e);
        for (size_t i = 0; i < messages.n; i++)
                require(text_valid_prefix(messages.items[i].content, messages.items[i].n) ==
                                messages.items[i].n,
                        "a message that is not UTF-8");
        messages_done(&messages);
        params_done(&params);
        check_task(root);
        check_response(root);
        json_decref(root);
}

/* The requests of a stream fed in steps, as a digest of what was found. */
static uint64_t run(const char *p, size_t n, size_t step, bool look) {
        uint64_t digest = 1469598103934665603U; /* FNV-1a */
        struct request r;
        size_t at = 0;

        request_init(&r, BODY_MAX);
        while (at < n) {
                size_t take = MIN(step, n - at), used = request_feed(&r, p + at, take);

                require(used <= take, "more used than given");
                require(r.body.n <= BODY_MAX, "body over the limit");
                require(r.url.n <= REQUEST_HEADER_MAX, "header over the limit");
                at += used;
                if (r.status != 0)
                        break;
                require(r.complete || used == take, "bytes left without a reason");
                if (!r.complete)
                        continue;
                for (size_t i = 0; i < r.body.n; i++)
                        digest = (digest ^ (uint8_t)r.body.p[i]) * 1099511628211U;
                digest = (digest ^ at) * 1099511628211U;
                if (look) {
                        check_target(&r);
                        check_body(r.body.p ? r.body.p : "", r.body.n);
                }
                request_done(&r);
                request_init(&r, BODY_MAX);
        }
        digest = (digest ^ (r.status != 0)) * 1099511628211U;
        request_done(&r);
        return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t whole = run((const char *)data, size, SIZE_MAX, true);

        require(run((const char *)data, size, 1, false) == whole,
                "the result depends on the pieces");
        check_body((const char *)data, size);
        return 0;
}

#ifdef FUZZ_MAIN
/* Some bytes replaced, removed or doubled; the same seed gives the same copy. */
static size_t damage(uint8_t *to, const uint8_t *from, size_t n, uint32_t seed) {
        size_t out = 0;

        for (size_t i = 0; i < n; i++) {
                uint32_t x;

                seed = seed * 1664525U + 1013904223U;
                x = seed >> 16;
                if (x % 97 == 0)
                        to[out++] = (uint8_t)(x >> 8);
                else if (x % 97 == 2)
                        to[out++] = from[x % n];
                if (x % 97 != 0 && x % 97 != 1)
                        to[out++] = from[i];
        }
        return out;
}

static int run_file(const char *path, uint32_t rounds) {
        static uint8_t data[65536], copy[2 * sizeof(data)];
        FILE *f = fopen(path, "re");
        size_t n;

        if (!f) {
                perror(path);
                return 1;
        }
        n = fread(data, 1, sizeof(data), f);
        fclose(f);
        LLVMFuzzerTestOneInput(data, n);
        for (uint32_t i = 1; i <= rounds; i++)
                LLVMFuzzerTestOneInput(copy, damage(copy, data, n, i));
        return 0;
}

int main(int argc, char **argv) {
        uint32_t rounds = 0;
        int first = 1;

        if (argc > 2 && strcmp(argv[1], "--rounds") == 0) {
                rounds = (uint32_t)strtoul(argv[2], NULL, 10);
                first = 3;
        }
        for (int i = first; i < argc; i++)
                if (run_file(argv[i], rounds) != 0)
                        return EXIT_FAILURE;
        printf("%d files, %u rounds each\n", argc - first, rounds);
        return argc > first ? EXIT_SUCCESS : EXIT_FAILURE;
}
#endif
