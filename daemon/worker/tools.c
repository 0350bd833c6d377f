/* Tools: from the request to a grammar and words for the model, and from the text of a call to its
 * parts. The reader relies on the grammar: the name comes first and has no escapes, so the fourth
 * quotation mark ends it, and the first brace after the sixth begins the arguments. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/worker/http.h"
#include "daemon/worker/schema.h"
#include "daemon/worker/tools.h"
#include "engine/base/macro.h"

void tools_done(struct tools *t) {
        secure_buf_done(&t->system);
        *t = (struct tools){};
}

/* --- one function --- */

static int fail_at(struct request_error *e, size_t index, const char *field, const char *detail) {
        char param[REQUEST_PARAM_MAX];

        snprintf(param, sizeof(param), "tools[%zu]%s", index, field);
        return request_fail(e, ERROR_INVALID_INPUT, param, detail);
}

static bool name_valid(const char *s) {
        size_t n = s ? strlen(s) : 0;

        for (size_t i = 0; i < n; i++)
                if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
                      (s[i] >= '0' && s[i] <= '9') || s[i] == '_' || s[i] == '-'))
                        return false;
        return n > 0 && n <= TOOL_NAME_MAX;
}

static const char *name_of(const json_t *tool) {
        return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static int check_tool(const json_t *tool, size_t index, struct request_error *e) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        json_t *function = json_object_get(tool, "function");
        json_t *parameters = json_object_get(function, "parameters");
        json_t *description = json_object_get(function, "description");

        if (!type || strcmp(type, "function") != 0)
                return fail_at(e, index, ".type", "A tool is of the type function.");
        if (!name_valid(name_of(tool)))
                return fail_at(e, index, ".function.name",
                               "A name has 1 to 64 letters, digits, dashes and underscores.");
        if (description && !json_is_null(description) && !json_is_string(description))
                return fail_at(e, index, ".function.description", "The field must be a string.");
        if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
                return fail_at(e, index, ".function.parameters", "The field must be a schema.");
        return 0;
}

/* The schema of the arguments: an object, and with no members that are not listed unless the schema
 * speaks about those (which JSON Schema would allow; functions are seldom glad of them). A new
 * reference. */
static json_t *arguments_schema(const json_t *tool) {
        static const char *const spoken[] = { "additionalProperties", "patternProperties", "$ref",
                                              "anyOf", "oneOf", "allOf" };
        json_t *given = json_object_get(json_object_get(tool, "function"), "parameters");
        json_t *schema = json_is_object(given) ? json_copy(given) : json_object();
        bool silent = true;

        for (size_t i = 0; i < ARRAY_SIZE(spoken); i++)
                silent &= !json_object_get(schema, spoken[i]);
        if (silent)
                json_object_set_new(schema, "additionalProperties", json_false());
        json_object_set_new(schema, "type", json_string("object"));
        return schema;
}

/* A node of exactly this JSON text. */
static int add_word(struct grammar *g, const char *text, uint32_t *ret) {
        _cleanup_(nfa_done) struct nfa n = {};
        struct view view = { .p = (const uint8_t *)text, .n = strlen(text) };
        uint32_t start = nfa_state(&n), end = nfa_state(&n);
        int r = grammar_add_node(g, ret);

        nfa_text(&n, start, view, end);
        return r < 0 ? r : grammar_add_literal(g, *ret, &n, start, end);
}

static int add_property(struct grammar *g, const char *name, uint32_t value) {
        struct view view = { .p = (const uint8_t *)name, .n = strlen(name) };

        return grammar_add_property(g, view, value, true);
}

static int add_call(struct grammar *g, const json_t *tool, size_t index, struct request_error *e) {
        json_t *schema = arguments_schema(tool);
        char quoted[TOOL_NAME_MAX + 3], where[64];
        uint32_t name, arguments;
        int r;

        snprintf(where, sizeof(where), "tools[%zu].function.parameters", index);
        snprintf(quoted, sizeof(quoted), "\"%s\"", name_of(tool));
        r = schema_add(g, schema, where, &arguments, e);
        json_decref(schema);
        if (r >= 0)
                r = add_word(g, quoted, &name);
        if (r >= 0)
                r = add_property(g, "name", name);
        if (r >= 0)
                r = add_property(g, "arguments", arguments);
        return r < 0 ? r : grammar_add_object(g, g->root, (struct object_rule){
                                                                  .n = 2, .max = GRAMMAR_NONE });
}

/* --- what the model is told --- */

static void describe(struct secure_buf *to, const json_t *tool) {
        json_t *function = json_object_get(tool, "function");
        json_t *description = json_object_get(function, "description");
        json_t *parameters = json_object_get(function, "parameters");

        secure_buf_printf(to, "\n- %s", name_of(tool));
        if (json_is_string(description)) {
                secure_buf_puts(to, ": ");
                secure_buf_append(to, json_string_value(description),
                                  json_string_length(description));
        }
        if (json_is_object(parameters)) {
                secure_buf_puts(to, "\n  Arguments: ");
                http_json(to, parameters);
        }
}

static void tell(struct secure_buf *to, bool must) {
        secure_buf_puts(to, must ? "\nAnswer with a call of one of them"
                                 : "\nTo call one, answer with nothing but the call");
        secure_buf_puts(to, ", as a JSON object: {\"name\": \"the function\", \"arguments\": {}}");
        if (!must)
                secure_buf_puts(to, "\nIf none of them helps, answer in words.");
}

/* --- the request --- */

/* What tool_choice says. *ret_name: the only function, or NULL. */
static int read_choice(const json_t *root, bool any, bool *ret_none, bool *ret_must,
                       const char **ret_name, struct request_error *e) {
        json_t *v = json_object_get(root, "tool_choice");
        const char *word = json_string_value(v), *type;

        *ret_none = !any;
        *ret_must = false;
        *ret_name = NULL;
        if (!v || json_is_null(v) || (word && strcmp(word, "auto") == 0))
                return 0;
        if (word && strcmp(word, "none") == 0) {
                *ret_none = true;
                return 0;
        }
        *ret_must = true;
        type = json_string_value(json_object_get(v, "type"));
        *ret_name = name_of(v);
        if (!(word && strcmp(word, "required") == 0) &&
            !(type && strcmp(type, "function") == 0 && *ret_name))
                return request_fail(e, ERROR_INVALID_INPUT, "tool_choice",
                                    "The choice is none, auto, required or a function.");
        if (!any)
                return request_fail(e, ERROR_INVALID_INPUT, "tool_choice",
                                    "The request offers no tools.");
        return 0;
}

static int check_tools(const json_t *tools, struct request_error *e) {
        json_t *tool;
        size_t i;
        int r;

        if (tools && !json_is_null(tools) && !json_is_array(tools))
                return request_fail(e, ERROR_INVALID_INPUT, "tools", "The field must be an array.");
        if (json_array_size(tools) > TOOLS_MAX)
                return request_fail_range(e, ERROR_INVALID_INPUT, "tools", "Too many tools.",
                                          json_array_size(tools), TOOLS_MAX);
        json_array_foreach(tools, i, tool)
                if ((r = check_tool(tool, i, e)) < 0)
                        return r;
        return 0;
}

/* Each arm of the root is the call of one function. */
static int check_callable(const struct grammar *g, struct request_error *e) {
        uint32_t arm = g->nodes.p[g->root].first;

        for (uint64_t place = 1; arm != GRAMMAR_NONE; arm = g->arms.p[arm].next, place++)
                if (g->arms.p[arm].height == GRAMMAR_NONE)
                        return request_fail_range(e, ERROR_INVALID_INPUT, "tools",
                                                  "No arguments fit the parameters of a function; "
                                                  "the value is its place, the limit the levels of "
                                                  "arrays and objects.", place, GRAMMAR_DEPTH);
        return 0;
}

static int add_tools(const json_t *tools, const char *only, bool must, struct tools *t,
                     struct grammar *g, struct request_error *e) {
        bool any = false;
        json_t *tool;
        size_t i;
        int r = grammar_add_node(g, &g->root);

        secure_buf_puts(&t->system, "You can call these functions:");
        json_array_foreach(tools, i, tool) {
                if (r < 0 || (only && strcmp(only, name_of(tool)) != 0))
                        continue;
                any = true;
                describe(&t->system, tool);
                r = add_call(g, tool, i, e);
        }
        if (r >= 0 && !any)
                return request_fail(e, ERROR_INVALID_INPUT, "tool_choice",
                                    "The function is none of the tools.");
        if (r >= 0)
                r = schema_settle(g, "tools", e);
        if (r >= 0)
                r = check_callable(g, e);
        if (r >= 0 && !must)
                r = grammar_add_arm(g, g->root, ARM_TEXT, 0);
        tell(&t->system, must);
        if (r == -E2BIG)
                return request_fail_range(e, ERROR_INVALID_INPUT, "tools",
                                          "The tools have too many different parts.",
                                          g->nodes.n + 1, GRAMMAR_NODES_MAX);
        return r < 0 || !t->system.failed ? r : -ENOMEM;
}

static bool has_calls(const json_t *messages) {
        json_t *message;
        size_t i;

        json_array_foreach(messages, i, message)
                if (json_array_size(json_object_get(message, "tool_calls")) > 0)
                        return true;
        return false;
}

/* Anything but a call. */
static int only_text(struct grammar *g, struct request_error *e) {
        int r = grammar_add_node(g, &g->root);

        if (r >= 0)
                r = grammar_add_arm(g, g->root, ARM_TEXT, 0);
        return r < 0 ? r : schema_settle(g, "messages", e);
}

int tools_parse(const json_t *root, struct tools *ret, struct grammar **grammar,
                struct request_error *e) {
        json_t *tools = json_object_get(root, "tools");
        bool none, must;
        const char *only;
        struct grammar *g;
        int r = check_tools(tools, e);

        if (r >= 0)
                r = read_choice(root, json_array_size(tools) > 0, &none, &must, &only, e);
        if (r < 0 || (none && !has_calls(json_object_get(root, "messages"))))
                return r;
        r = grammar_new(&g);
        if (r < 0)
                return r;
        r = none ? only_text(g, e) : add_tools(tools, only, must, ret, g, e);
        if (r < 0) {
                grammar_free(g);
                return r;
        }
        ret->offered = !none;
        *grammar = g;
        return 0;
}

/* --- reading a call --- */

static void read_head(struct tool_reader *r, char c) {
        const char *quote[5], *p;
        unsigned quotes = 0;

        secure_buf_append(&r->head, &c, 1);
        if (c != '{' || r->head.failed)
                return;
        p = r->head.p;
        for (size_t i = 0; i < r->head.n; i++)
                if (p[i] == '"' && quotes++ < ARRAY_SIZE(quote))
                        quote[quotes - 1] = p + i;
        if (quotes < 6)
                return;
        snprintf(r->name, sizeof(r->name), "%.*s", (int)(quote[3] - quote[2] - 1), quote[2] + 1);
        secure_buf_done(&r->head);
        r->step = TOOL_ARGUMENTS;
}

static void read_arguments(struct tool_reader *r, char c) {
        if (r->escaped)
                r->escaped = false;
        else if (r->in_string && c == '\\')
                r->escaped = true;
        else if (c == '"')
                r->in_string = !r->in_string;
        else if (!r->in_string && (c == '{' || c == '['))
                r->depth++;
        else if (!r->in_string && (c == '}' || c == ']') && --r->depth == 0)
                r->step = TOOL_WHOLE;
}

void tool_reader_feed(struct tool_reader *r, const char *p, size_t n, struct secure_buf *out) {
        for (size_t i = 0; i < n; i++) {
                if (r->step == TOOL_START)
                        r->step = p[i] == '{' ? TOOL_HEAD : TOOL_TEXT;
                if (r->step == TOOL_TEXT) {
                        secure_buf_append(out, p + i, n - i);
                        return;
                }
                if (r->step == TOOL_HEAD)
                        read_head(r, p[i]);
                if (r->step == TOOL_ARGUMENTS) {
                        secure_buf_append(out, p + i, 1);
                        read_arguments(r, p[i]);
                }
        }
        if (r->head.failed)
                out->failed = true;
}

void tool_reader_done(struct tool_reader *r) {
        secure_buf_done(&r->head);
        *r = (struct tool_reader){};
}
