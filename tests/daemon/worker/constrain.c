/* Schemas from a test, one JSON object a line; the answer to each is one line as well:
 *
 *   {"schema": …, "texts": […], "samples": n, "seed": n}
 *   {"refused": param, "message": …}  or  {"accepted": [bool, …], "samples": [text, …]}
 *
 * texts are held against the grammar byte by byte. Samples are what a model without any sense
 * writes: at every step one of the allowed tokens, by chance; after a hundred tokens it prefers
 * what ends something; null when that does not help (a word that a pattern wants will hardly come
 * by chance). At every step the mask is compared with the answer of the automaton for some
 * tokens, so a mask that lies ends the program. */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/schema.h"
#include "engine/base/macro.h"
#include "engine/grammar/constraint.h"
#include "engine/model/gguf.h"

enum { CALM_AFTER = 100, GIVE_UP_AFTER = 400, COMPARED = 64, LINE = 1 << 22 };

static struct vocab *vocab;
static struct token_trie *trie;
static uint64_t random_state;

static uint32_t random_number(uint32_t n) {
        random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
        return (uint32_t)((random_state >> 33) % n);
}

static void load_vocab(const char *path) {
        struct model_error error = {};
        struct gguf *g = NULL;
        FILE *f = fopen(path, "rb");
        uint8_t *data;
        long size;

        if (!f || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) <= 0)
                exit(2);
        rewind(f);
        data = malloc((size_t)size);
        if (!data || fread(data, 1, (size_t)size, f) != (size_t)size ||
            gguf_parse(&g, (struct view){ data, (size_t)size }, &error) < 0 ||
            vocab_load(&vocab, g, &error) < 0 ||
            token_trie_new(&trie, vocab) < 0)
                exit(2);
        fclose(f);
        gguf_free(g);
        free(data);
}

static struct constraint *new_constraint(const json_t *schema, struct request_error *e) {
        struct constraint *c;
        struct grammar *g;

        if (schema_compile(schema, "schema", &g, e) < 0)
                return NULL;
        if (constraint_new(&c, g, trie, vocab_size(vocab)) < 0) {
                fprintf(stderr, "the vocabulary cannot spell a schema\n");
                exit(3);
        }
        return c;
}

static bool accepts(const json_t *schema, const char *text, size_t n) {
        struct request_error e;
        struct constraint *c = new_constraint(schema, &e);
        bool whole = true;

        for (size_t i = 0; i < n && whole; i++)
                whole = constraint_accept_bytes(c, (struct view){ (const uint8_t *)text + i, 1 }) ==
                        0;
        whole = whole && constraint_whole(c);
        constraint_free(c);
        return whole;
}

/* The mask and the automaton must agree on every token that is looked at. */
static void compare_mask(struct constraint *c, const uint64_t *mask, const char *text) {
        for (int i = 0; i < COMPARED; i++) {
                int32_t token = (int32_t)random_number(vocab_size(vocab));
                struct view bytes = vocab_bytes(vocab, token, false);
                int allowed = bytes.n > 0 && !vocab_is_end(vocab, token) &&
                              constraint_allows(c, bytes);

                if (vocab_is_end(vocab, token))
                        allowed = constraint_whole(c);
                if (allowed != mask_has(mask, token)) {
                        fprintf(stderr, "token %d '%.*s' after '%s': mask %d, automaton %d\n",
                                token, (int)bytes.n, (const char *)bytes.p, text,
                                mask_has(mask, token), allowed);
                        exit(4);
                }
        }
}

/* One token that may end something, if one is allowed; else TOKEN_NONE. Inside a string a bracket
 * ends nothing, so chance has to find the right one. */
static int32_t ending(const uint64_t *mask) {
        static const char marks[] = "]}\"";
        uint32_t first = random_number(3);

        for (uint32_t i = 0; i < trie->n_ends; i++)
                if (mask_has(mask, trie->ends[i]))
                        return trie->ends[i];
        for (uint32_t k = 0; k < 3; k++)
                for (uint32_t i = 0; i < vocab_size(vocab); i++) {
                        struct view bytes = vocab_bytes(vocab, (int32_t)i, false);

                        if (bytes.n == 1 && bytes.p[0] == marks[(first + k) % 3] &&
                            mask_has(mask, (int32_t)i))
                                return (int32_t)i;
                }
        return TOKEN_NONE;
}

static int32_t choose(const uint64_t *mask, unsigned step) {
        int32_t token = step > CALM_AFTER ? ending(mask) : TOKEN_NONE;
        uint32_t n = 0, pick;

        if (token != TOKEN_NONE)
                return token;
        for (uint32_t i = 0; i < vocab_size(vocab); i++)
                n += mask_has(mask, (int32_t)i);
        if (n == 0)
                return TOKEN_NONE;
        pick = random_number(n);
        for (uint32_t i = 0; i < vocab_size(vocab); i++)
                if (mask_has(mask, (int32_t)i) && pick-- == 0)
                        return (int32_t)i;
        return TOKEN_NONE;
}

static json_t *sample(const json_t *schema) {
        struct request_error e;
        struct constraint *c = new_constraint(schema, &e);
        char *text = calloc(1, LINE);
        size_t n = 0;
        json_t *v;

        for (unsigned step = 0; !constraint_over(c); step++) {
                const uint64_t *mask;
                int32_t token;
                struct view bytes;

                if (constraint_mask(c, &mask) < 0 || !mask)
                        exit(5);
                compare_mask(c, mask, text);
                token = choose(mask, step);
                if (token == TOKEN_NONE) {
                        fprintf(stderr, "dead end after %zu bytes: %.200s\n", n, text);
                        exit(6);
                }
                if (step > GIVE_UP_AFTER) {
                        constraint_free(c);
                        free(text);
                        return json_null();
                }
                if (constraint_accept(c, token) < 0) {
                        fprintf(stderr, "token %d of the mask is refused after %s\n", token, text);
                        exit(7);
                }
                if (vocab_is_end(vocab, token))
                        break;
                bytes = vocab_bytes(vocab, token, false);
                memcpy(text + n, bytes.p, bytes.n);
                n += bytes.n;
        }
        constraint_free(c);
        v = json_stringn(text, n);
        free(text);
        if (!v)
                exit(8); /* not UTF-8 */
        return v;
}

static json_t *answer(const json_t *request) {
        json_t *schema = json_object_get(request, "schema"), *text;
        json_t *accepted, *samples;
        struct request_error e = {};
        struct constraint *c = new_constraint(schema, &e);
        size_t i;

        if (!c)
                return json_pack("{s:s,s:s,s:I,s:I}", "refused", e.param, "message",
                                 e.detail ? e.detail : "", "value", (json_int_t)e.value, "limit",
                                 (json_int_t)e.limit);
        constraint_free(c);
        accepted = json_array();
        samples = json_array();
        json_array_foreach(json_object_get(request, "texts"), i, text)
                json_array_append_new(accepted,
                                      json_boolean(accepts(schema, json_string_value(text),
                                                           json_string_length(text))));
        random_state = (uint64_t)json_integer_value(json_object_get(request, "seed"));
        for (i = 0; (json_int_t)i < json_integer_value(json_object_get(request, "samples")); i++)
                json_array_append_new(samples, sample(schema));
        return json_pack("{s:o,s:o}", "accepted", accepted, "samples", samples);
}

int main(int argc, char **argv) {
        char *line = malloc(LINE);

        if (argc != 2 || !line)
                return 2;
        load_vocab(argv[1]);
        while (fgets(line, LINE, stdin)) {
                json_t *request = json_loads(line, 0, NULL);
                json_t *reply = request ? answer(request)
                                        : json_pack("{s:s,s:s}", "refused", "", "message",
                                                    "not JSON that jansson can hold");

                json_dumpf(reply, stdout, JSON_COMPACT);
                putchar('\n');
                fflush(stdout);
                json_decref(reply);
                json_decref(request);
        }
        free(line);
        token_trie_free(trie);
        vocab_free(vocab);
        return 0;
}
