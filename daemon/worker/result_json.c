/* The records that end an answer, in the same words on every interface. Pure; owns nothing. */
#include "daemon/worker/result_json.h"

json_t *result_usage(const struct job_result *r) {
        return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t)r->tokens_in,
                         "completion_tokens", (json_int_t)r->tokens_out, "total_tokens",
                         (json_int_t)(r->tokens_in + r->tokens_out), "prompt_tokens_details",
                         "cached_tokens", (json_int_t)r->tokens_cached);
}

json_t *result_coverage(uint32_t verb, const struct coverage *c) {
        json_t *v = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "bytes", (json_int_t)c->bytes, "tokens",
                         (json_int_t)c->tokens, "tokens_used", (json_int_t)c->tokens_used,
                         "dropped", (json_int_t)c->dropped, "pieces", (json_int_t)c->pieces,
                         "rounds", (json_int_t)c->rounds);

        if (task_rewrites(verb))
                json_object_set_new(v, "left", json_integer(c->left));
        return v;
}

json_t *result_own(json_t *v, const struct job_result *r) {
        if (r->receipt)
                json_object_set_new(v, "bn", json_pack("{s:O}", "receipt", r->receipt));
        return v;
}

const char *result_finish(const struct job_result *r) {
        return r->length ? "length" : "stop";
}

json_t *result_correction(uint64_t start, uint64_t end, const char *text, size_t n) {
        return json_pack("{s:I,s:I,s:s%}", "start", (json_int_t)start, "end", (json_int_t)end,
                         "correction", text, n);
}

static json_t *label(const struct job_result *r, size_t i) {
        return json_stringn(r->labels->items[i].content, r->labels->items[i].n);
}

json_t *result_scores(const struct job_result *r) {
        json_t *scores = json_array();
        size_t best = 0;

        for (size_t i = 0; i < r->labels->n; i++) {
                json_array_append_new(scores, json_pack("{s:o,s:f,s:f}", "label", label(r, i),
                                                        "score", r->scores[i].score, "logprob",
                                                        r->scores[i].logprob));
                if (r->scores[i].logprob > r->scores[best].logprob)
                        best = i;
        }
        return json_pack("{s:o,s:o}", "label", label(r, best), "scores", scores);
}

void result_numbers(struct secure_buf *to, const float *v, uint32_t n) {
        secure_buf_puts(to, "[");
        for (uint32_t i = 0; i < n; i++)
                secure_buf_printf(to, "%s%.9g", i ? "," : "", (double)v[i]);
        secure_buf_puts(to, "]");
}
