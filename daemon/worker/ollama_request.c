/* Ollama's request fields in terms of OpenAI's, so that one parser judges both: what is honoured,
 * ignored and refused is decided in params.c and messages.c alone. Only fields that OpenAI does not
 * have are looked at here. Borrows the request; the result is a new tree that shares its values. */
#include <errno.h>
#include <string.h>

#include "daemon/worker/ollama_request.h"
#include "engine/base/macro.h"

/* Fields that would change the answer and that no model here can follow. */
static const struct {
        const char *name, *detail;
} refused[] = {
        { "images", "No model here reads images." },
        { "suffix", "No model here fills in the middle." },
        { "template", "The chat format belongs to the model and cannot be replaced." },
        { "context", "Conversations are sent as messages, to /api/chat." },
        { "think", "No model here separates thinking from its answer." },
};

static bool is_empty(const json_t *v) {
        return !v || json_is_null(v) || json_is_false(v) ||
               (json_is_string(v) && json_string_length(v) == 0) ||
               (json_is_array(v) && json_array_size(v) == 0);
}

static int check_refused(const json_t *root, struct request_error *e) {
        const json_t *messages = json_object_get(root, "messages");

        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                if (!is_empty(json_object_get(root, refused[i].name)))
                        return request_fail(e, ERROR_UNSUPPORTED, refused[i].name,
                                            refused[i].detail);
        for (size_t i = 0; i < json_array_size(messages); i++)
                if (!is_empty(json_object_get(json_array_get(messages, i), "images")))
                        return request_fail(e, ERROR_UNSUPPORTED, "images", refused[0].detail);
        return 0;
}

static void copy(json_t *to, const char *name, const json_t *from, const char *field) {
        json_t *v = json_object_get(from, field);

        if (v && !json_is_null(v))
                json_object_set(to, name, v);
}

/* "NAME:latest" is how Ollama's clients write NAME. */
static void copy_model(json_t *to, const json_t *root) {
        static const char latest[] = ":latest";
        json_t *v = json_object_get(root, "model");
        const char *s;
        size_t n;

        if (is_empty(v))
                v = json_object_get(root, "name");
        s = json_string_value(v);
        n = s ? strlen(s) : 0;
        if (n > strlen(latest) && strcmp(s + n - strlen(latest), latest) == 0)
                json_object_set_new(to, "model", json_stringn(s, n - strlen(latest)));
        else if (v)
                json_object_set(to, "model", v);
}

/* Negative counts are Ollama's way to say "no limit of mine". num_ctx and what concerns its own
 * machinery (num_gpu, num_thread, …) has no meaning here: the context is the model's. */
static void copy_options(json_t *to, const json_t *options) {
        static const char *const same[] = { "temperature", "top_p", "top_k", "min_p", "seed",
                                            "stop", "presence_penalty", "frequency_penalty",
                                            "repeat_penalty" };
        json_t *predict = json_object_get(options, "num_predict");
        json_t *last = json_object_get(options, "repeat_last_n");

        for (size_t i = 0; i < ARRAY_SIZE(same); i++)
                copy(to, same[i], options, same[i]);
        if (predict && !(json_is_integer(predict) && json_integer_value(predict) < 0))
                json_object_set(to, "max_tokens", predict);
        if (last && !(json_is_integer(last) && json_integer_value(last) < 0))
                json_object_set(to, "repeat_last_n", last);
}

static int copy_format(json_t *to, const json_t *root, struct request_error *e) {
        json_t *format = json_object_get(root, "format");
        const char *s = json_string_value(format);

        if (is_empty(format))
                return 0;
        if (s && strcmp(s, "json") == 0)
                json_object_set_new(to, "response_format", json_pack("{s:s}", "type",
                                                                     "json_object"));
        else if (json_is_object(format))
                json_object_set_new(to, "response_format",
                                    json_pack("{s:s,s:{s:s,s:O}}", "type", "json_schema",
                                              "json_schema", "name", "format", "schema", format));
        else
                return request_fail(e, ERROR_INVALID_INPUT, "format",
                                    "The format is \"json\" or a JSON schema.");
        return 0;
}

json_t *ollama_translate(const json_t *root, struct request_error *e) {
        const json_t *options = json_object_get(root, "options");
        json_t *stream = json_object_get(root, "stream"), *to;

        if (check_refused(root, e) < 0)
                return NULL;
        if (!is_empty(options) && !json_is_object(options)) {
                request_fail(e, ERROR_INVALID_INPUT, "options", "The field must be an object.");
                return NULL;
        }
        to = json_object();
        copy_model(to, root);
        copy_options(to, options);
        copy(to, "messages", root, "messages");
        copy(to, "tools", root, "tools");
        copy(to, "logprobs", root, "logprobs");
        copy(to, "top_logprobs", root, "top_logprobs");
        copy(to, "bn", root, "bn");
        copy(to, "keep_alive", root, "keep_alive");
        if (stream && !json_is_null(stream))
                json_object_set(to, "stream", stream);
        else
                json_object_set_new(to, "stream", json_true());
        if (copy_format(to, root, e) == 0)
                return to;
        json_decref(to);
        return NULL;
}

/* /api/generate: system and prompt as the messages of a chat. */
int ollama_prompt(json_t *to, const json_t *root, bool *ret_raw, struct request_error *e) {
        json_t *prompt = json_object_get(root, "prompt"), *system = json_object_get(root, "system");
        json_t *messages;

        *ret_raw = json_is_true(json_object_get(root, "raw"));
        if (!json_is_string(prompt))
                return request_fail(e, ERROR_INVALID_INPUT, "prompt",
                                    "The field must be a string.");
        if (*ret_raw)
                return 0;
        messages = json_array();
        if (!is_empty(system))
                json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "system", "content",
                                                          system));
        json_array_append_new(messages,
                              json_pack("{s:s,s:O}", "role", "user", "content", prompt));
        return json_object_set_new(to, "messages", messages) < 0 ? -ENOMEM : 0;
}
