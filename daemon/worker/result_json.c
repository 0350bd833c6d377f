/* The records that end an answer, in the same words on every interface. Pure; owns nothing. */
#include "daemon/worker/result_json.h"

json_t *result_usage(const struct job_result *r) {
        return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t)r->tokens_in,
                         "completion_tokens", (json_int_t)r->tokens_out, "total_tokens",
                         (json_int_t)(r->tokens_in + r->tokens_out), "prompt_tokens_details",
                         "cached_tokens", (json_int_t)r->tokens_cached);
}

json_t *result_coverage(const struct coverage *c) {
        return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "bytes", (json_int_t)c->bytes, "tokens",
                         (json_int_t)c->tokens, "tokens_used", (json_int_t)c->tokens_used,
                         "dropped", (json_int_t)c->dropped, "pieces", (json_int_t)c->pieces,
                         "rounds", (json_int_t)c->rounds);
}

const char *result_finish(const struct job_result *r) {
        return r->length ? "length" : "stop";
}
