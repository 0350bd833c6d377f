/* A digest of a text is BLAKE2b of it, and then BLAKE2b of that with the user's key, which comes
 * only with the admission. What the answer depends on and is no number is in the digest of the
 * input: messages or document, stop strings, schema and tools, each with its length before it, so
 * that no two inputs are the same bytes. The packed file holds weights, tokenizer and chat format;
 * its digest stands for all of them. */
#include <errno.h>
#include <sodium.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/receipt.h"
#include "daemon/worker/result_json.h"
#include "daemon/worker/summary_options.h"
#include "policy/quota_key.h"

enum { DIGEST_SIZE = 32, HEX_SIZE = 2 * DIGEST_SIZE + 1, RECEIPT_VERSION = 1 };

struct receipt {
        crypto_generichash_state text; /* first: it is aligned to a cache line */
        uint8_t input[DIGEST_SIZE];
        uint8_t key[DIGEST_SIZE], model[DIGEST_SIZE];
};
static_assert(sizeof(((struct wire_admitted *)NULL)->receipt_key) == DIGEST_SIZE, "receipt");

static void start(crypto_generichash_state *h) {
        crypto_generichash_init(h, NULL, 0, DIGEST_SIZE);
}

static void add(crypto_generichash_state *h, const void *p, size_t n) {
        if (n > 0)
                crypto_generichash_update(h, p, n);
}

static void add_counted(crypto_generichash_state *h, const void *p, size_t n) {
        uint64_t count = n;

        add(h, &count, sizeof(count));
        add(h, p, n);
}

static void add_input(crypto_generichash_state *h, const struct job_spec *spec) {
        const struct stop_list *stops = &spec->params.stops;
        uint64_t numbers[] = { spec->verb, spec->messages.n, stops->n };

        add(h, numbers, sizeof(numbers));
        for (size_t i = 0; i < spec->messages.n; i++) {
                uint32_t role = (uint32_t)spec->messages.items[i].role;

                add(h, &role, sizeof(role));
                add_counted(h, spec->messages.items[i].content, spec->messages.items[i].n);
        }
        for (size_t i = 0; i < stops->n; i++)
                add_counted(h, stops->strings[i], strlen(stops->strings[i]));
        add_counted(h, spec->text.p, spec->text.n);
        add_counted(h, spec->context, spec->context ? strlen(spec->context) : 0);
        add_counted(h, spec->params.shape.p, spec->params.shape.n);
}

bool receipt_possible(uint32_t verb) {
        return verb == WIRE_VERB_CHAT || verb == WIRE_VERB_COMPLETE || verb == WIRE_VERB_SUMMARIZE;
}

int receipt_new(struct receipt **ret, const struct job_spec *spec) {
        struct receipt *r = NULL;

        if (posix_memalign((void **)&r, alignof(crypto_generichash_state), sizeof(*r)) != 0)
                return -ENOMEM;
        memset(r, 0, sizeof(*r));
        start(&r->text);
        add_input(&r->text, spec);
        crypto_generichash_final(&r->text, r->input, DIGEST_SIZE);
        start(&r->text);
        *ret = r;
        return 0;
}

struct receipt *receipt_free(struct receipt *r) {
        if (r)
                explicit_bzero(r, sizeof(*r)); /* its state holds the last bytes of the text */
        free(r);
        return NULL;
}

void receipt_admitted(struct receipt *r, const struct wire_admitted *m) {
        memcpy(r->key, m->receipt_key, sizeof(r->key));
        memcpy(r->model, m->model_digest, sizeof(r->model));
}

void receipt_text(struct receipt *r, const char *text, size_t n) {
        add(&r->text, text, n);
}

static const char *hex(const uint8_t digest[DIGEST_SIZE], char text[HEX_SIZE]) {
        return sodium_bin2hex(text, HEX_SIZE, digest, DIGEST_SIZE);
}

static const char *keyed_hex(const struct receipt *r, const uint8_t digest[DIGEST_SIZE],
                             char text[HEX_SIZE]) {
        uint8_t keyed[DIGEST_SIZE];

        crypto_generichash(keyed, sizeof(keyed), digest, DIGEST_SIZE, r->key, sizeof(r->key));
        return hex(keyed, text);
}

static json_t *numbers(const struct sampling *s, uint64_t max_tokens) {
        return json_pack("{s:I,s:I,s:f,s:f,s:f,s:I,s:f,s:I,s:f,s:f,s:f,s:f,s:I}", "seed",
                         (json_int_t)s->seed, "max_tokens", (json_int_t)max_tokens, "temperature",
                         (double)s->temperature, "top_p", (double)s->top_p, "min_p",
                         (double)s->min_p, "top_k", (json_int_t)s->top_k, "repeat_penalty",
                         (double)s->repeat_penalty, "repeat_last_n", (json_int_t)s->repeat_last,
                         "frequency_penalty", (double)s->frequency_penalty, "presence_penalty",
                         (double)s->presence_penalty, "dry_multiplier", (double)s->dry_multiplier,
                         "dry_base", (double)s->dry_base, "dry_allowed_length",
                         (json_int_t)s->dry_allowed_length);
}

/* By the names of the request that would ask for the same. */
static json_t *parameters(const struct job_spec *spec, uint64_t max_tokens) {
        json_t *v = numbers(&spec->params.sampling, max_tokens), *words;

        if (spec->verb != WIRE_VERB_SUMMARIZE)
                return v;
        words = json_pack("{s:s,s:s,s:s}", "type", summary_type_name(spec->type), "length",
                          summary_length_name(spec->length), "format",
                          summary_format_name(spec->format));
        json_object_update(v, words);
        json_decref(words);
        return v;
}

json_t *receipt_json(struct receipt *r, const struct worker *w, const struct job_spec *spec,
                     const char *model, uint64_t max_tokens, const struct job_result *result) {
        char input[HEX_SIZE], output[HEX_SIZE], weights[HEX_SIZE];
        uint8_t text[DIGEST_SIZE];

        crypto_generichash_final(&r->text, text, sizeof(text));
        return json_pack("{s:i,s:s,s:{s:s,s:s},s:{s:s,s:s,s:s},s:o,s:s,s:s,s:s,s:{s:I,s:I}}",
                         "version", RECEIPT_VERSION, "verb", quota_verbs[spec->verb - 1], "model",
                         "name", model, "digest", hex(r->model, weights), "engine", "version",
                         BITNETD_VERSION, "isa", w->isa, "kv", w->kv,
                         "parameters", parameters(spec, max_tokens), "input",
                         keyed_hex(r, r->input, input), "output", keyed_hex(r, text, output),
                         "finish_reason", result_finish(result), "usage", "tokens_in",
                         (json_int_t)result->tokens_in, "tokens_out",
                         (json_int_t)result->tokens_out);
}
