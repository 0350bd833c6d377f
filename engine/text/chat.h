/* Chat formats, compiled in: messages to token ids. Roles are structure, never text: the format's
 * own strings become control tokens by table, content is encoded with special parsing off. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/text/vocab.h"

enum chat_format {
        CHAT_RAW,      /* base models: contents joined, no roles */
        CHAT_BITNET,   /* 2B4T: "User: ...<|eot_id|>" */
        CHAT_LLAMA3,
        CHAT_CHATML,
        _CHAT_FORMAT_MAX,
};

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, _CHAT_ROLE_MAX };

struct chat_message {
        enum chat_role role;
        const char *content; /* UTF-8, not owned */
        size_t n;
};

/* Which format a model wants (formats-and-models 3.9): architecture first, then characteristic
 * substrings of the stored template, then CHAT_RAW. A format whose control tokens the vocabulary
 * lacks is not chosen. */
enum chat_format chat_detect(const struct gguf *g, const struct vocab *v);
const char *chat_format_name(enum chat_format f);

/* The system text that the stored template inserts by itself, when it is a known one; or NULL. */
const char *chat_default_system(const struct gguf *g);

/* Append the whole prompt: BOS where the vocabulary wants one, every message, the generation
 * header. ChatML inserts SmolLM2's default system text when the first message is not a system
 * message and the model's stored template does so. Content is trimmed where the format says so.
 * CHAT_RAW joins the contents with nothing in between. Returns as vocab_encode, and -EOPNOTSUPP
 * when the vocabulary lacks a control token of the format, -EINVAL for a role or format that
 * does not exist. On error out is as it was. */
int chat_encode(const struct vocab *v, enum chat_format f, const struct chat_message *messages,
                size_t n, size_t max, struct tokens *out);
