/* The Responses interface in terms of chats, so that one parser judges both. Nothing is kept here
 * between two requests: what names a kept answer, a conversation or a background task is refused,
 * and so is what would shorten the input or bring anything but text. Borrows the request; results
 * are new trees that share its values. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/messages.h"
#include "daemon/worker/responses_request.h"
#include "engine/base/macro.h"

enum {
        METADATA_MAX = 16, METADATA_KEY_MAX = 64, METADATA_VALUE_MAX = 512,
        REPEATED_BYTES_MAX = 256 << 10, /* of a field that comes back with the answer, as JSON */
};

static const char only_text[] = "Only text can be read.";

static json_t *field(const json_t *root, const char *name) {
        json_t *v = json_object_get(root, name);

        return json_is_null(v) ? NULL : v;
}

static bool is_word(const json_t *v, const char *word) {
        const char *s = json_string_value(v);

        return s && strcmp(s, word) == 0;
}

/* --- input --- */

static int fail_at(struct request_error *e, enum error_code code, size_t index, const char *name,
                   const char *detail) {
        char param[REQUEST_PARAM_MAX];

        snprintf(param, sizeof(param), "input[%zu]%s", index, name);
        return request_fail(e, code, param, detail);
}

/* A new reference to the text of a part as chats have it, or NULL. */
static json_t *translate_part(const json_t *part, size_t index, size_t place, const char *name,
                              struct request_error *e) {
        static const char *const types[] = { "input_text", "output_text", "text" };
        json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
        char where[64];
        bool known = false;

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                known |= is_word(type, types[i]);
        if (known && json_is_string(text))
                return json_pack("{s:s,s:O}", "type", "text", "text", text);
        snprintf(where, sizeof(where), "%s[%zu]", name, place);
        if (json_is_string(type) && !known)
                fail_at(e, ERROR_UNSUPPORTED, index, where, only_text);
        else
                fail_at(e, ERROR_INVALID_INPUT, index, where,
                        "A part is an object with type and text.");
        return NULL;
}

/* The content of an item (its field `name`): a string, or parts. A new reference, or NULL. */
static json_t *translate_content(const json_t *item, size_t index, const char *name,
                                 struct request_error *e) {
        json_t *content = json_object_get(item, name + 1), *list, *part;
        size_t i;

        if (json_is_string(content))
                return json_incref(content);
        if (!json_is_array(content)) {
                fail_at(e, ERROR_INVALID_INPUT, index, name,
                        "The field is a string or an array of text parts.");
                return NULL;
        }
        list = json_array();
        json_array_foreach(content, i, part) {
                json_t *one = translate_part(part, index, i, name, e);

                if (!one || json_array_append_new(list, one) < 0) {
                        json_decref(list);
                        return NULL;
                }
        }
        return list;
}

static int add_message(json_t *to, const json_t *item, size_t index, struct request_error *e) {
        static const char *const roles[] = { "user", "assistant", "system", "developer" };
        json_t *role = json_object_get(item, "role"), *content;
        bool known = false;

        for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
                known |= is_word(role, roles[i]);
        if (!known)
                return fail_at(e, ERROR_INVALID_INPUT, index, ".role",
                               "The role is user, assistant, system or developer.");
        content = translate_content(item, index, ".content", e);
        if (!content)
                return e->code == ERROR_NONE ? -ENOMEM : -EBADMSG;
        return json_array_append_new(
                to, json_pack("{s:O,s:o}", "role", role, "content", content));
}

/* A call belongs to what the assistant said just before, if anything. */
static int add_call(json_t *to, const json_t *item, size_t index, struct request_error *e) {
        json_t *last = json_array_get(to, json_array_size(to) - 1), *calls;
        json_t *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name");
        json_t *arguments = json_object_get(item, "arguments");

        if (!json_is_string(id) || !json_is_string(name) || !json_is_string(arguments))
                return fail_at(e, ERROR_INVALID_INPUT, index, "",
                               "A call has the strings call_id, name and arguments.");
        if (json_array_size(to) == 0 || !is_word(json_object_get(last, "role"), "assistant")) {
                last = json_pack("{s:s,s:n}", "role", "assistant", "content");
                if (json_array_append_new(to, last) < 0)
                        return -ENOMEM;
        }
        calls = json_object_get(last, "tool_calls");
        if (!calls) {
                calls = json_array();
                if (json_object_set_new(last, "tool_calls", calls) < 0)
                        return -ENOMEM;
        }
        return json_array_append_new(
                calls, json_pack("{s:O,s:s,s:{s:O,s:O}}", "id", id, "type", "function", "function",
                                 "name", name, "arguments", arguments));
}

static int add_output(json_t *to, const json_t *item, size_t index, struct request_error *e) {
        json_t *id = json_object_get(item, "call_id"), *output;

        if (!json_is_string(id))
                return fail_at(e, ERROR_INVALID_INPUT, index, ".call_id",
                               "The field must be a string.");
        output = translate_content(item, index, ".output", e);
        if (!output)
                return e->code == ERROR_NONE ? -ENOMEM : -EBADMSG;
        return json_array_append_new(to, json_pack("{s:s,s:O,s:o}", "role", "tool", "tool_call_id",
                                                   id, "content", output));
}

static int add_item(json_t *to, const json_t *item, size_t index, struct request_error *e) {
        json_t *type = field(item, "type");

        if (!json_is_object(item) || (type && !json_is_string(type)))
                return fail_at(e, ERROR_INVALID_INPUT, index, "", "An item is an object.");
        if (!type || is_word(type, "message"))
                return add_message(to, item, index, e);
        if (is_word(type, "function_call"))
                return add_call(to, item, index, e);
        if (is_word(type, "function_call_output"))
                return add_output(to, item, index, e);
        return fail_at(e, ERROR_UNSUPPORTED, index, ".type",
                       "Only messages, function calls and their outputs can be read.");
}

static int copy_input(json_t *to, const json_t *root, struct request_error *e) {
        json_t *input = json_object_get(root, "input"), *said = field(root, "instructions"), *item;
        json_t *messages = json_array();
        size_t i;
        int r = json_object_set_new(to, "messages", messages);

        if (said && !json_is_string(said))
                return request_fail(e, ERROR_INVALID_INPUT, "instructions",
                                    "The field must be a string.");
        if (!json_is_string(input) && json_array_size(input) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "input",
                                    "The field is a string or an array with at least one item.");
        if (json_array_size(input) >= MESSAGES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "input", "Too many items.",
                                          json_array_size(input), MESSAGES_MAX - 1);
        if (said)
                r |= json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "system",
                                                               "content", said));
        if (json_is_string(input))
                r |= json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "user",
                                                               "content", input));
        json_array_foreach(input, i, item)
                if (r == 0)
                        r = add_item(messages, item, i, e);
        return r < 0 && e->code == ERROR_NONE ? -ENOMEM : r;
}

/* --- tools: flat here, with a member "function" in chats --- */

static int fail_tool(struct request_error *e, size_t index) {
        char param[REQUEST_PARAM_MAX];

        snprintf(param, sizeof(param), "tools[%zu].type", index);
        return request_fail(e, ERROR_UNSUPPORTED, param, "A tool is of the type function.");
}

static int copy_tools(json_t *to, const json_t *root, struct request_error *e) {
        static const char *const members[] = { "name", "description", "parameters" };
        json_t *tools = field(root, "tools"), *tool, *list;
        size_t i;
        int r;

        if (!tools)
                return 0;
        if (!json_is_array(tools))
                return request_fail(e, ERROR_INVALID_INPUT, "tools", "The field must be an array.");
        list = json_array();
        r = json_object_set_new(to, "tools", list);
        json_array_foreach(tools, i, tool) {
                json_t *function = json_object();

                if (!is_word(json_object_get(tool, "type"), "function")) {
                        json_decref(function);
                        return fail_tool(e, i);
                }
                for (size_t k = 0; k < ARRAY_SIZE(members); k++)
                        if (field(tool, members[k]))
                                r |= json_object_set(function, members[k], field(tool, members[k]));
                r |= json_array_append_new(list, json_pack("{s:s,s:o}", "type", "function",
                                                           "function", function));
        }
        return r < 0 ? -ENOMEM : 0;
}

static int copy_choice(json_t *to, const json_t *root, struct request_error *e) {
        json_t *choice = field(root, "tool_choice"), *name = json_object_get(choice, "name");

        if (!choice || json_is_string(choice))
                return choice ? json_object_set(to, "tool_choice", choice) : 0;
        if (!is_word(json_object_get(choice, "type"), "function") || !json_is_string(name))
                return request_fail(e, ERROR_UNSUPPORTED, "tool_choice",
                                    "The choice is none, auto, required or a function.");
        return json_object_set_new(to, "tool_choice",
                                   json_pack("{s:s,s:{s:O}}", "type", "function", "function",
                                             "name", name));
}

/* --- the rest --- */

/* text.format has the schema beside its type, response_format inside of json_schema. */
static int copy_format(json_t *to, const json_t *root, struct request_error *e) {
        json_t *text = field(root, "text"), *format = field(text, "format");

        if (text && !json_is_object(text))
                return request_fail(e, ERROR_INVALID_INPUT, "text", "The field must be an object.");
        if (!format)
                return 0;
        if (!is_word(json_object_get(format, "type"), "json_schema"))
                return json_object_set(to, "response_format", format);
        return json_object_set_new(to, "response_format",
                                   json_pack("{s:s,s:O}", "type", "json_schema", "json_schema",
                                             format));
}

/* Of the extras only the odds of tokens exist here; the others are parts of items that this server
 * never makes. */
static int copy_odds(json_t *to, const json_t *root, struct request_error *e) {
        json_t *include = field(root, "include"), *top = field(root, "top_logprobs"), *one;
        bool wanted = top && json_integer_value(top) != 0;
        size_t i;

        if (include && !json_is_array(include))
                return request_fail(e, ERROR_INVALID_INPUT, "include",
                                    "The field must be an array of strings.");
        json_array_foreach(include, i, one)
                wanted |= is_word(one, "message.output_text.logprobs");
        if (wanted && json_object_set_new(to, "logprobs", json_true()) < 0)
                return -ENOMEM;
        return top ? json_object_set(to, "top_logprobs", top) : 0;
}

static bool is_true(const json_t *v) { return !json_is_false(v); }
static bool is_anything(const json_t *v) { return v != NULL; }
static bool is_not_disabled(const json_t *v) { return !is_word(v, "disabled"); }

/* What OpenAI's interface has not is refused where its loss would change the answer: chats do it
 * for what has the same name there, and the names of chats for something else are below. */
static const struct {
        const char *name, *detail;
        bool (*refused)(const json_t *v);
} refusals[] = {
        { "previous_response_id", "No answer is kept; send the conversation as input.",
          is_anything },
        { "conversation", "No conversation is kept; send it as input.", is_anything },
        { "prompt", "There are no stored prompts.", is_anything },
        { "background", "An answer exists only on the connection that asked for it.", is_true },
        { "truncation", "What is too long is always an error.", is_not_disabled },
        { "response_format", "The field is text.format here.", is_anything },
        { "max_tokens", "The field is max_output_tokens here.", is_anything },
        { "max_completion_tokens", "The field is max_output_tokens here.", is_anything },
        { "logprobs", "The field is top_logprobs here.", is_true },
};

static int check_refusals(const json_t *root, struct request_error *e) {
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
                json_t *v = field(root, refusals[i].name);

                if (v && refusals[i].refused(v))
                        return request_fail(e, ERROR_UNSUPPORTED, refusals[i].name,
                                            refusals[i].detail);
        }
        return 0;
}

/* It comes back with the answer, and is bounded as OpenAI does. */
static int check_metadata(const json_t *root, struct request_error *e) {
        json_t *metadata = field(root, "metadata"), *v;
        const char *key;

        if (metadata && !json_is_object(metadata))
                return request_fail(e, ERROR_INVALID_INPUT, "metadata",
                                    "The field must be an object.");
        if (json_object_size(metadata) > METADATA_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "metadata", "Too many members.",
                                          json_object_size(metadata), METADATA_MAX);
        json_object_foreach(metadata, key, v)
                if (strlen(key) > METADATA_KEY_MAX || !json_is_string(v) ||
                    json_string_length(v) > METADATA_VALUE_MAX)
                        return request_fail(e, ERROR_INVALID_INPUT, "metadata",
                                            "Its names have up to 64 bytes, its values are "
                                            "strings of up to 512.");
        return 0;
}

/* Each event with the whole response has these again, before anybody could see that the client does
 * not read. What they hold need not be part of the prompt, whose length is limited. */
static int check_repeated(const json_t *root, struct request_error *e) {
        const struct {
                const char *name;
                const json_t *v;
        } fields[] = {
                { "text.format", field(field(root, "text"), "format") },
                { "tools", field(root, "tools") },
                { "tool_choice", field(root, "tool_choice") },
        };

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                size_t n = fields[i].v ? json_dumpb(fields[i].v, NULL, 0,
                                                    JSON_COMPACT | JSON_ENCODE_ANY) : 0;

                if (n > REPEATED_BYTES_MAX)
                        return request_fail_range(e, ERROR_INVALID_INPUT, fields[i].name,
                                                  "The field has too many bytes.", n,
                                                  REPEATED_BYTES_MAX);
        }
        return 0;
}

/* Fields that chats have, too, and those that OpenAI has not. */
static int copy_same(json_t *to, const json_t *root) {
        static const char *const same[] = {
                "model", "stream", "temperature", "top_p", "seed", "stop", "top_k", "min_p",
                "frequency_penalty", "presence_penalty", "repeat_penalty", "repeat_last_n",
                "dry_multiplier", "dry_base", "dry_allowed_length", "keep_alive", "bn", "n",
                "best_of", "logit_bias", "grammar", "functions", "function_call", "modalities",
                "audio", "echo", "suffix", "json_schema", "json-schema",
        };
        json_t *limit = field(root, "max_output_tokens");
        int r = limit ? json_object_set(to, "max_tokens", limit) : 0;

        for (size_t i = 0; i < ARRAY_SIZE(same); i++)
                if (field(root, same[i]))
                        r |= json_object_set(to, same[i], field(root, same[i]));
        return r < 0 ? -ENOMEM : 0;
}

json_t *responses_translate(const json_t *root, struct request_error *e) {
        json_t *to = json_object();

        if (to && check_refusals(root, e) == 0 && check_metadata(root, e) == 0 &&
            check_repeated(root, e) == 0 && copy_same(to, root) == 0 &&
            copy_input(to, root, e) == 0 && copy_tools(to, root, e) == 0 &&
            copy_choice(to, root, e) == 0 &&
            copy_format(to, root, e) == 0 && copy_odds(to, root, e) == 0)
                return to;
        json_decref(to);
        return NULL;
}

void responses_rename(struct request_error *e) {
        static const struct {
                const char *from, *to;
        } names[] = {
                { "response_format.json_schema", "text.format" },
                { "response_format", "text.format" },
                { "max_tokens", "max_output_tokens" },
                { "messages", "input" },
        };
        char *inner = strstr(e->param, ".function"), copy[REQUEST_PARAM_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                size_t n = strlen(names[i].from);

                if (strncmp(e->param, names[i].from, n) != 0)
                        continue;
                memcpy(copy, e->param, sizeof(copy));
                snprintf(e->param, sizeof(e->param), "%s%.*s", names[i].to,
                         (int)(sizeof(e->param) - strlen(names[i].to) - 1), copy + n);
                return;
        }
        if (inner && strncmp(e->param, "tools[", strlen("tools[")) == 0)
                memmove(inner, inner + strlen(".function"),
                        strlen(inner + strlen(".function")) + 1);
}

json_t *responses_echo(const json_t *root, const struct gen_params *p) {
        static const struct {
                const char *name, *otherwise;
        } repeated[] = {
                { "instructions", "null" }, { "max_output_tokens", "null" },
                { "metadata", "{}" }, { "tool_choice", "\"auto\"" }, { "tools", "[]" },
        };
        json_t *format = field(field(root, "text"), "format");
        json_t *v = json_pack("{s:b,s:n,s:b,s:n,s:{s:n,s:n},s:s,s:b,s:s}", "background", 0,
                              "max_tool_calls", "parallel_tool_calls", 0, "previous_response_id",
                              "reasoning", "effort", "summary", "service_tier", "default", "store",
                              0, "truncation", "disabled");

        for (size_t i = 0; i < ARRAY_SIZE(repeated); i++) {
                json_t *given = field(root, repeated[i].name);

                json_object_set_new(v, repeated[i].name,
                                    given ? json_incref(given)
                                          : json_loads(repeated[i].otherwise, JSON_DECODE_ANY,
                                                       NULL));
        }
        json_object_set_new(v, "text", json_pack("{s:o}", "format",
                                                 format ? json_incref(format)
                                                        : json_pack("{s:s}", "type", "text")));
        json_object_set_new(v, "temperature", json_real((double)p->sampling.temperature));
        json_object_set_new(v, "top_p", json_real((double)p->sampling.top_p));
        json_object_set_new(v, "top_logprobs", json_integer(p->top_logprobs));
        return v;
}
