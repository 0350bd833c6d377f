/* Texts to vectors: POST /v1/embeddings, and Ollama's /api/embed and (one text, older)
 * /api/embeddings. Vectors have length 1. Thousands of numbers as JSON values would take thirty
 * times their memory, so bodies are written as text. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/embed.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/http.h"
#include "daemon/worker/ollama_request.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

/* The bytes of the numbers, each with its lowest first, in base 64 (RFC 4648). */
static void put_base64(struct secure_buf *to, const float *v, uint32_t n) {
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const uint8_t *p = (const uint8_t *)v; /* hosts are little-endian, as model files are */
        size_t size = n * sizeof(*v);

        secure_buf_puts(to, "\"");
        for (size_t i = 0; i < size; i += 3) {
                size_t left = size - i;
                uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                                (left > 2 ? p[i + 2] : 0);
                const char four[] = { digits[bits >> 18], digits[bits >> 12 & 63],
                                      left > 1 ? digits[bits >> 6 & 63] : '=',
                                      left > 2 ? digits[bits & 63] : '=' };

                secure_buf_append(to, four, sizeof(four));
        }
        secure_buf_puts(to, "\"");
}

static void put_string(struct secure_buf *to, const char *s) {
        json_t *v = json_string(s);

        http_json(to, v);
        json_decref(v);
}

static void openai(struct exchange *x, const struct job_result *r, bool base64) {
        _cleanup_(secure_buf_done) struct secure_buf body = {};

        secure_buf_puts(&body, "{\"object\":\"list\",\"data\":[");
        for (size_t i = 0; i < r->n_vectors; i++) {
                secure_buf_printf(&body, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
                                  i ? "," : "", i);
                (base64 ? put_base64 : result_numbers)(&body, r->vectors + i * r->n_embd,
                                                      r->n_embd);
                secure_buf_puts(&body, "}");
        }
        secure_buf_puts(&body, "],\"model\":");
        put_string(&body, x->model);
        secure_buf_printf(&body, ",\"usage\":{\"prompt_tokens\":%" PRIu64, r->tokens_in);
        secure_buf_printf(&body, ",\"total_tokens\":%" PRIu64 "}}", r->tokens_in);
        reply_json_text(x->conn, &body, job_id(x->job));
}

static void openai_numbers(struct exchange *x, const struct job_result *r) {
        openai(x, r, false);
}

static void openai_base64(struct exchange *x, const struct job_result *r) {
        openai(x, r, true);
}

static void ollama(struct exchange *x, const struct job_result *r) {
        _cleanup_(secure_buf_done) struct secure_buf body = {};

        secure_buf_puts(&body, "{\"model\":");
        put_string(&body, x->model);
        secure_buf_puts(&body, ",\"embeddings\":[");
        for (size_t i = 0; i < r->n_vectors; i++) {
                secure_buf_puts(&body, i ? "," : "");
                result_numbers(&body, r->vectors + i * r->n_embd, r->n_embd);
        }
        secure_buf_printf(&body,
                          "],\"total_duration\":%" PRIu64 ",\"load_duration\":%" PRIu64
                          ",\"prompt_eval_count\":%" PRIu64 "}",
                          (x->conn->w->now - x->started) * 1000, (x->admitted - x->started) * 1000,
                          r->tokens_in);
        reply_json_text(x->conn, &body, job_id(x->job));
}

static void ollama_one(struct exchange *x, const struct job_result *r) {
        _cleanup_(secure_buf_done) struct secure_buf body = {};

        secure_buf_puts(&body, "{\"embedding\":");
        result_numbers(&body, r->vectors, r->n_embd);
        secure_buf_puts(&body, "}");
        reply_json_text(x->conn, &body, job_id(x->job));
}

static const struct exchange_format numbers = { .id_prefix = "", .whole = openai_numbers },
                                    base64 = { .id_prefix = "", .whole = openai_base64 },
                                    many = { .id_prefix = "", .whole = ollama },
                                    one = { .id_prefix = "", .whole = ollama_one };

/* --- the request --- */

static int parse_encoding(const json_t *root, bool *ret_base64, struct request_error *e) {
        json_t *v = json_object_get(root, "encoding_format");
        const char *s = json_string_value(v);

        *ret_base64 = s && strcmp(s, "base64") == 0;
        if (!v || json_is_null(v) || *ret_base64 || (s && strcmp(s, "float") == 0))
                return 0;
        return request_fail(e, ERROR_INVALID_INPUT, "encoding_format",
                            "The format is float or base64.");
}

static void start(struct conn *c, int r, const struct exchange_format *format,
                  struct job_spec *spec, const struct request_error *e) {
        spec->params.stream = false;
        if (r == 0)
                exchange_start(c, format, spec, false);
        else
                reply_failure(c, e);
}

void api_embeddings(struct conn *c) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        bool coded = false;
        json_t *root;
        int r;

        api_defaults(c, &spec, WIRE_VERB_EMBED);
        root = api_load(c, &spec);
        if (!root)
                return;
        r = messages_parse_texts(json_object_get(root, "input"), "input", &spec.messages, &e);
        if (r == 0)
                r = messages_parse_dimensions(root, &spec.dimensions, &e);
        if (r == 0)
                r = parse_encoding(root, &coded, &e);
        json_decref(root);
        start(c, r, coded ? &base64 : &numbers, &spec, &e);
}

static void serve_ollama(struct conn *c, const char *field, const struct exchange_format *format) {
        const struct secure_buf *body = &c->request.body;
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        json_t *root, *to;
        int r = -EBADMSG;

        api_defaults(c, &spec, WIRE_VERB_EMBED);
        root = params_load(body->p ? body->p : "", body->n, &e);
        to = root ? ollama_translate(root, &e) : NULL;
        if (to && params_model(to, spec.model, &e) == 0)
                r = params_parse(to, &spec.params, &e);
        if (r == 0 && format == &one && !json_is_string(json_object_get(root, field)))
                r = request_fail(&e, ERROR_INVALID_INPUT, field, "The field must be a string.");
        if (r == 0)
                r = messages_parse_texts(json_object_get(root, field), field, &spec.messages,
                                         &e);
        if (r == 0)
                r = messages_parse_dimensions(root, &spec.dimensions, &e);
        json_decref(to);
        json_decref(root);
        start(c, r, format, &spec, &e);
}

void api_ollama_embed(struct conn *c) {
        serve_ollama(c, "input", &many);
}

void api_ollama_embeddings(struct conn *c) {
        serve_ollama(c, "prompt", &one);
}
