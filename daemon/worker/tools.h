/* Tool calls: functions that a request offers, and an answer that calls one.
 *
 * A call is {"name": NAME, "arguments": {…}}, and by its grammar it cannot be malformed. The rule
 * for tool_choice "auto": an answer that begins with a brace is a call, any other is text; text
 * cannot begin with a brace. One answer makes one call. The functions are described to the model in
 * words, at the end of the system message. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "daemon/worker/request_error.h"
#include "daemon/worker/secure_buf.h"
#include "engine/grammar/grammar.h"

enum { TOOLS_MAX = 128, TOOL_NAME_MAX = 64 };

struct tools {
        bool offered;               /* the answer may be a call */
        struct secure_buf system;   /* what the model is told */
};
void tools_done(struct tools *t);

/* Read root["tools"] and root["tool_choice"]; *grammar is set when the answer may be a call. It is
 * set too when it must not be one while root["messages"] hold calls, which a model likes to repeat:
 * such an answer begins with no brace. 0, -ENOMEM, or -EBADMSG with *e. */
int tools_parse(const json_t *root, struct tools *ret, struct grammar **grammar,
                struct request_error *e);

/* A call in an answer, as it arrives. */
enum tool_step { TOOL_START, TOOL_TEXT, TOOL_HEAD, TOOL_ARGUMENTS, TOOL_WHOLE };

struct tool_reader {
        enum tool_step step;
        struct secure_buf head;     /* up to the arguments */
        char name[TOOL_NAME_MAX + 1]; /* known from TOOL_ARGUMENTS on */
        unsigned depth;
        bool in_string, escaped;
};
/* Feed text. What is text of the answer (TOOL_TEXT) or of the arguments is appended to out. */
void tool_reader_feed(struct tool_reader *r, const char *p, size_t n, struct secure_buf *out);
void tool_reader_done(struct tool_reader *r);
static inline bool tool_reader_calls(const struct tool_reader *r) {
        return r->step >= TOOL_ARGUMENTS;
}
