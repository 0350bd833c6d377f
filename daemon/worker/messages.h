/* The messages of a chat, taken out of JSON: role and content, nothing else. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "daemon/worker/request_error.h"
#include "daemon/worker/secure_buf.h"
#include "engine/text/chat.h"

enum { MESSAGES_MAX = 4096, TEXTS_MAX = 2048 };

struct messages {
        struct chat_message *items; /* contents point into text */
        size_t n;
        struct secure_buf text;
};
void messages_done(struct messages *m);

/* Read root["messages"]. Roles system, developer (as system), user, assistant, and tool (the answer
 * of a function, as words of the user); content a string or an array of text parts. What `system`
 * says (NULL: nothing) comes at the end of the system message. 0, -ENOMEM, or -EBADMSG with *e
 * filled. */
int messages_parse(const json_t *root, const struct secure_buf *system, struct messages *ret,
                   struct request_error *e);

/* One string or an array of 1 to TEXTS_MAX of them, none empty, as messages of the user. Returns as
 * messages_parse; *m is the caller's in any case. */
int messages_parse_texts(const json_t *v, const char *param, struct messages *m,
                         struct request_error *e);

/* What root["dimensions"] wants vectors to have; absent or null: *ret stays. Returns as
 * messages_parse. */
int messages_parse_dimensions(const json_t *root, uint32_t *ret, struct request_error *e);

/* Position of the first byte of p[0..n) that is not UTF-8, or n. */
size_t text_valid_prefix(const char *p, size_t n);
