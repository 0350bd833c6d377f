/* Chat messages from JSON. All contents are copied into one wiped buffer in a first pass; the views
 * are set in a second one, because the buffer moves while it grows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                      { "assistant", CHAT_ASSISTANT } };
        const char *name = json_string_value(json_object_get(message, "role"));

        for (size_t i = 0; name && i < ARRAY_SIZE(roles); i++)
                if (strcmp(name, roles[i].name) == 0) {
                        *ret = roles[i].role;
                        return 0;
                }
        if (name && (strcmp(name, "tool") == 0 || strcmp(name, "function") == 0))
                return fail_at(e, ERROR_UNSUPPORTED, index, ".role", NULL);
        return fail_at(e, ERROR_INVALID_INPUT, index, ".role",
                       "The role is system, developer, user or assistant.");
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

static int parse_message(const json_t *message, size_t index, struct messages *m,
                         struct request_error *e) {
        struct chat_message *out = &m->items[index];
        size_t before = m->text.n;
        int r;

        if (!json_is_object(message))
                return fail_at(e, ERROR_INVALID_INPUT, index, "", "A message is an object.");
        if (json_array_size(json_object_get(message, "tool_calls")) > 0)
                return fail_at(e, ERROR_UNSUPPORTED, index, ".tool_calls", NULL);
        if ((r = parse_role(message, index, &out->role, e)) < 0 ||
            (r = parse_content(message, index, &m->text, e)) < 0)
                return r;
        out->n = m->text.n - before;
        return 0;
}

int messages_parse(const json_t *root, struct messages *ret, struct request_error *e) {
        _cleanup_(messages_done) struct messages m = {};
        json_t *list = json_object_get(root, "messages"), *message;
        size_t i, at = 0;

        if (!json_is_array(list) || json_array_size(list) == 0)
                return request_fail(e, ERROR_INVALID_INPUT, "messages",
                                    "The field must be an array with at least one message.");
        if (json_array_size(list) > MESSAGES_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "messages", "Too many messages.",
                                          json_array_size(list), MESSAGES_MAX);
        m.items = calloc(json_array_size(list), sizeof(*m.items));
        if (!m.items)
                return -ENOMEM;
        json_array_foreach(list, i, message) {
                int r = parse_message(message, i, &m, e);

                if (r < 0)
                        return r;
                m.n++;
        }
        if (m.text.failed)
                return -ENOMEM;
        for (i = 0; i < m.n; at += m.items[i++].n)
                m.items[i].content = m.text.p ? m.text.p + at : "";
        *ret = m;
        m = (struct messages){};
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
