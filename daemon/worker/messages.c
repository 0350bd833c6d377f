/* Chat messages from JSON. All contents are copied into one wiped buffer in a first pass; the views
 * are set in a second one, because the buffer moves while it grows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker/http.h"
#include "daemon/worker/messages.h"
#include "engine/base/macro.h"
#include "engine/text/utf8.h"

void messages_done(struct messages *m) {
        secure_buf_done(&m->text);
        free(m->items);
        *m = (struct messages){};
}

static int fail_at(struct request_error *e, enum error_code code, size_t index, const char *field,
                   const char *detail) {
        char param[REQUEST_PARAM_MAX];

        snprintf(param, sizeof(param), "messages[%zu]%s", index, field);
        return request_fail(e, code, param, detail);
}

static int parse_role(const json_t *message, size_t index, enum chat_role *ret,
                      struct request_error *e) {
        static const struct {
                const char *name;
                enum chat_role role;
        } roles[] = { { "system", CHAT_SYSTEM },
                      { "developer", CHAT_SYSTEM },
                      { "user", CHAT_USER },
                      { "assistant", CHAT_ASSISTANT },
                      { "tool", CHAT_USER } };
        const char *name = json_string_value(json_object_get(message, "role"));

        for (size_t i = 0; name && i < ARRAY_SIZE(roles); i++)
                if (strcmp(name, roles[i].name) == 0) {
                        *ret = roles[i].role;
                        return 0;
                }
        if (name && strcmp(name, "function") == 0)
                return fail_at(e, ERROR_UNSUPPORTED, index, ".role", NULL);
        return fail_at(e, ERROR_INVALID_INPUT, index, ".role",
                       "The role is system, developer, user, assistant or tool.");
}

static int parse_part(const json_t *part, size_t index, struct secure_buf *text,
                      struct request_error *e) {
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *v = json_object_get(part, "text");

        if (type && strcmp(type, "text") != 0)
                return fail_at(e, ERROR_UNSUPPORTED, index, ".content",
                               "Only text parts can be read.");
        if (!type || !json_is_string(v))
                return fail_at(e, ERROR_INVALID_INPUT, index, ".content",
                               "A part is an object with type and text.");
        secure_buf_append(text, json_string_value(v), json_string_length(v));
        return 0;
}

static int parse_content(const json_t *message, size_t index, struct secure_buf *text,
                         struct request_error *e) {
        json_t *content = json_object_get(message, "content"), *part;
        size_t i;

        if (json_is_string(content)) {
                secure_buf_append(text, json_string_value(content), json_string_length(content));
                return 0;
        }
        if (!json_is_array(content))
                return fail_at(e, ERROR_INVALID_INPUT, index, ".content",
                               "The content is a string or an array of text parts.");
        json_array_foreach(content, i, part) {
                int r = parse_part(part, index, text, e);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- tool calls: chat formats have no place for them, so they become words --- */

static const json_t *function_of(const json_t *call) {
        const json_t *function = json_object_get(call, "function");

        return json_is_string(json_object_get(function, "name")) ? function : NULL;
}

/* What the assistant called, as it would write it. Arguments are a string (OpenAI) or an object
 * (Ollama). */
static int parse_calls(const json_t *message, size_t index, struct secure_buf *text,
                       struct request_error *e) {
        json_t *calls = json_object_get(message, "tool_calls"), *call;
        size_t i;

        if (calls && !json_is_null(calls) && !json_is_array(calls))
                return fail_at(e, ERROR_INVALID_INPUT, index, ".tool_calls",
                               "The field must be an array.");
        json_array_foreach(calls, i, call) {
                const json_t *function = function_of(call);
                json_t *arguments = json_object_get(function, "arguments");

                if (!function || !(json_is_string(arguments) || json_is_object(arguments)))
                        return fail_at(e, ERROR_INVALID_INPUT, index, ".tool_calls",
                                       "A call has a function with name and arguments.");
                secure_buf_puts(text, "{\"name\": ");
                http_json(text, json_object_get(function, "name"));
                secure_buf_puts(text, ", \"arguments\": ");
                if (json_is_string(arguments))
                        secure_buf_append(text, json_string_value(arguments),
                                          json_string_length(arguments));
                else
                        http_json(text, arguments);
                secure_buf_puts(text, "}");
        }
        return 0;
}

/* Remember what was called, by id: the answers come in later messages, and thousands of them may
 * ask. The last call of an id counts. */
static int note_calls(json_t *called, const json_t *message) {
        json_t *calls = json_object_get(message, "tool_calls"), *call;
        size_t i;

        json_array_foreach(calls, i, call) {
                const char *id = json_string_value(json_object_get(call, "id"));

                if (id && json_object_set(called, id,
                                          json_object_get(function_of(call), "name")) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* What stands before the answer of a function, which the model sees as said by the user. */
static void introduce_answer(const json_t *called, const json_t *message, struct secure_buf *text) {
        const char *id = json_string_value(json_object_get(message, "tool_call_id"));
        const json_t *name = id ? json_object_get(called, id) : NULL;

        if (!json_is_string(name))
                name = json_object_get(message, "tool_name");
        if (!json_is_string(name))
                name = json_object_get(message, "name");
        secure_buf_puts(text, json_is_string(name) ? "The function " : "A function");
        if (json_is_string(name))
                secure_buf_append(text, json_string_value(name), json_string_length(name));
        secure_buf_puts(text, " returned: ");
}

static bool is_role(const json_t *message, const char *role) {
        const char *name = json_string_value(json_object_get(message, "role"));

        return name && strcmp(name, role) == 0;
}

/* Only a message that calls something may be without content. */
static bool needs_content(const json_t *message) {
        json_t *content = json_object_get(message, "content");

        return (content && !json_is_null(content)) ||
               json_array_size(json_object_get(message, "tool_calls")) == 0;
}

/* called: functions by the ids of their calls in the messages before. */
static int parse_message(const json_t *list, size_t index, json_t *called, struct messages *m,
                         struct request_error *e) {
        const json_t *message = json_array_get(list, index);
        struct chat_message *out = &m->items[m->n];
        size_t before = m->text.n;
        int r;

        if (!json_is_object(message))
                return fail_at(e, ERROR_INVALID_INPUT, index, "", "A message is an object.");
        if (is_role(message, "tool"))
                introduce_answer(called, message, &m->text);
        if ((r = parse_role(message, index, &out->role, e)) < 0 ||
            (needs_content(message) && (r = parse_content(message, index, &m->text, e)) < 0) ||
            (r = parse_calls(message, index, &m->text, e)) < 0 ||
            (r = note_calls(called, message)) < 0)
                return r;
        out->n = m->text.n - before;
        return 0;
}

/* Words of ours: the end of the first message if that is the system's, else a message before it. */
static void add_system(struct messages *m, const struct secure_buf *system) {
        struct chat_message *first = &m->items[0];
        size_t before = m->text.n;

        if (m->n == 1 && first->role == CHAT_SYSTEM && first->n > 0)
                secure_buf_puts(&m->text, "\n\n");
        secure_buf_append(&m->text, system->p, system->n);
        first->role = CHAT_SYSTEM;
        first->n += m->text.n - before;
        m->n = 1;
}

int messages_parse(const json_t *root, const struct secure_buf *system, struct messages *ret,
                   struct request_error *e) {
        _cleanup_(messages_done) struct messages m = {};
        _cleanup_(json_decrefp) json_t *called = json_object();
        json_t *list = json_object_get(root, "messages");
        bool more = system && system->n > 0;
        size_t i, at = 0;

        if (!json_is_array(list) || json_array_size(list) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "messages",
                                    "The field must be an array with at least one message.");
        if (json_array_size(list) > MESSAGES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "messages", "Too many messages.",
                                          json_array_size(list), MESSAGES_MAX);
        m.items = calloc(json_array_size(list) + 1, sizeof(*m.items));
        if (!m.items || !called)
                return -ENOMEM;
        if (more && !is_role(json_array_get(list, 0), "system") &&
            !is_role(json_array_get(list, 0), "developer"))
                add_system(&m, system);
        for (i = 0; i < json_array_size(list); i++) {
                int r = parse_message(list, i, called, &m, e);

                if (r < 0)
                        return r;
                m.n++;
                if (more && i == 0 && m.n == 1)
                        add_system(&m, system);
        }
        if (m.text.failed)
                return -ENOMEM;
        for (i = 0; i < m.n; at += m.items[i++].n)
                m.items[i].content = m.text.p ? m.text.p + at : "";
        *ret = m;
        m = (struct messages){};
        return 0;
}

static int add_text(struct messages *m, const json_t *v, const char *param,
                    struct request_error *e) {
        if (!json_is_string(v) || json_string_length(v) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, param,
                                    "A text is a string with at least one character.");
        secure_buf_append(&m->text, json_string_value(v), json_string_length(v));
        m->items[m->n++] = (struct chat_message){ .role = CHAT_USER, .n = json_string_length(v) };
        return 0;
}

int messages_parse_texts(const json_t *v, const char *param, struct messages *m,
                         struct request_error *e) {
        size_t n = json_is_array(v) ? json_array_size(v) : 1, at = 0;
        int r = 0;

        if (n == 0 || n > TEXTS_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, param,
                                          "There must be 1 to 2048 texts.", n, TEXTS_MAX);
        m->items = calloc(n, sizeof(*m->items));
        if (!m->items)
                return -ENOMEM;
        for (size_t i = 0; i < n && r == 0; i++)
                r = add_text(m, json_is_array(v) ? json_array_get(v, i) : v, param, e);
        if (r < 0 || m->text.failed)
                return r < 0 ? r : -ENOMEM;
        for (size_t i = 0; i < n; at += m->items[i++].n)
                m->items[i].content = m->text.p + at;
        return 0;
}

int messages_parse_dimensions(const json_t *root, uint32_t *ret, struct request_error *e) {
        json_t *v = json_object_get(root, "dimensions");

        if (!v || json_is_null(v))
                return 0;
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX)
                return request_fail(e, ERROR_INVALID_INPUT, "dimensions",
                                    "The field must be a whole number of at least 1.");
        *ret = (uint32_t)json_integer_value(v);
        return 0;
}

size_t text_valid_prefix(const char *p, size_t n) {
        size_t at = 0;
        uint32_t cp;

        while (at < n) {
                size_t length = utf8_decode((const uint8_t *)p + at, n - at, &cp);

                if (cp == UTF8_BAD)
                        return at;
                at += length;
        }
        return n;
}
