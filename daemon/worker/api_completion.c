/* POST /v1/completions: one prompt string, continued. The prompt is user content: its bytes never
 * become control tokens. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/api.h"
#include "daemon/worker/exchange.h"
#include "daemon/worker/reply.h"
#include "daemon/worker/result_json.h"
#include "engine/base/macro.h"

static json_t *object(const struct exchange *x, json_t *choices, json_t *usage) {
        char id[64];
        json_t *v = json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", exchange_id(x, id, sizeof(id)),
                              "object", "text_completion", "created", (json_int_t)x->created,
                              "model", x->model, "system_fingerprint", "bitnetd-" BITNETD_VERSION,
                              "choices", choices);

        if (usage)
                json_object_set_new(v, "usage", usage);
        return v;
}

/* r: the answer ends here; NULL: not yet. */
static json_t *choice(struct exchange *x, const char *p, size_t n, const struct job_result *r) {
        json_t *odds = logprobs_lists(&x->logprobs, r && !r->stop_string);

        return json_pack("[{s:i,s:s%,s:o,s:o}]", "index", 0, "text", p ? p : "", n, "logprobs",
                         odds ? odds : json_null(), "finish_reason",
                         r ? json_string(result_finish(r)) : json_null());
}

static void text(struct exchange *x, const char *p, size_t n) {
        reply_event(x->conn, NULL,
                    object(x, choice(x, p, n, NULL), x->include_usage ? json_null() : NULL));
}

static void end(struct exchange *x, const struct job_result *r) {
        static const char done[] = "data: [DONE]\n\n";

        reply_event(x->conn, NULL,
                    result_own(object(x, choice(x, "", 0, r),
                                      x->include_usage ? json_null() : NULL), r));
        if (x->include_usage)
                reply_event(x->conn, NULL, object(x, json_array(), result_usage(r)));
        reply_bytes(x->conn, done, strlen(done));
}

static void whole(struct exchange *x, const struct job_result *r) {
        reply_json(x->conn, 200,
                   result_own(object(x, choice(x, x->text.p, x->text.n, r), result_usage(r)), r),
                   job_id(x->job));
}

static const struct exchange_format format = {
        .id_prefix = "cmpl-", .text = text, .end = end, .whole = whole,
};

static int parse_prompt(const json_t *root, struct job_spec *spec, struct request_error *e) {
        json_t *prompt = json_object_get(root, "prompt");

        if (json_array_size(prompt) == 1) /* several would need several answers */
                prompt = json_array_get(prompt, 0);
        if (spec->params.tools.offered)
                return request_fail(e, ERROR_UNSUPPORTED, "tools", "Tools are for chats.");
        if (!json_is_string(prompt) || json_string_length(prompt) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "prompt",
                                    "The field must be a string with at least one character.");
        secure_buf_append(&spec->text, json_string_value(prompt), json_string_length(prompt));
        return spec->text.failed ? -ENOMEM : 0;
}

void api_completion(struct conn *c) {
        _cleanup_(job_spec_done) struct job_spec spec;
        struct request_error e = {};
        json_t *root;
        int r;

        api_defaults(c, &spec, WIRE_VERB_COMPLETE);
        root = api_load(c, &spec);
        if (!root)
                return;
        r = parse_prompt(root, &spec, &e);
        json_decref(root);
        if (r == 0)
                exchange_start(c, &format, &spec, false);
        else
                reply_failure(c, &e);
}
