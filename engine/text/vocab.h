/* Tokens and tokenizer of one model: text to ids and ids to bytes.
 *
 * Two kinds: byte-level BPE (tokenizer.ggml.model "gpt2") and SentencePiece-style score merging
 * ("llama"). Special tokens are found by a table, and only when the caller says that the text is
 * not user content (formats-and-models 5.4). Immutable after load, safe from any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/macro.h"
#include "engine/base/model_error.h"

struct gguf;
struct vocab;

enum { TOKEN_NONE = -1 };

/* A growing list of ids; wiped when freed. */
struct tokens {
        int32_t *ids;
        size_t n, room;
};
void tokens_done(struct tokens *t);
int tokens_push(struct tokens *t, int32_t id);
int tokens_append(struct tokens *t, const int32_t *ids, size_t n);

/* Reads tokenizer.ggml.* (and general.architecture for the 2B4T rule). Copies what it needs. */
int vocab_load(struct vocab **ret, const struct gguf *g, struct model_error *err);
struct vocab *vocab_free(struct vocab *v);

uint32_t vocab_size(const struct vocab *v);
int32_t vocab_bos(const struct vocab *v);       /* TOKEN_NONE when there is none */
int32_t vocab_eos(const struct vocab *v);
bool vocab_add_bos(const struct vocab *v);      /* a prompt starts with BOS */
bool vocab_add_eos(const struct vocab *v);      /* a text to be embedded ends with EOS */
bool vocab_is_end(const struct vocab *v, int32_t id);      /* ends a generation */
bool vocab_is_control(const struct vocab *v, int32_t id);  /* types control and unknown */
/* The chat format found at load (chat.h), and SmolLM2's default system text or NULL. */
int vocab_chat_format(const struct vocab *v);
const char *vocab_default_system(const struct vocab *v);
/* Exact text of a special (control, user-defined, unknown) token to its id, or TOKEN_NONE. */
int32_t vocab_special(const struct vocab *v, const char *text);

/* Append the ids of text[0..n). Any bytes are legal. No BOS. parse_special: recognise control
 * tokens in the text; never true for bytes that came from a user (user-defined tokens are always
 * recognised). A byte for which the vocabulary has no token becomes the unknown token, or is left
 * out when there is none (SmolLM2 lacks 21 of the 256: control characters, and bytes that UTF-8
 * hardly or never uses).
 * Returns 0, -ENOMEM, or -E2BIG when out would pass max ids (0: no limit); an error leaves out as
 * it was.
 * Time O(n log n) in the worst case. */
int vocab_encode(const struct vocab *v, const char *text, size_t n, bool parse_special, size_t max,
                 struct tokens *out);

/* The bytes of one token, as they appear in output (control tokens: none). The view lives as long
 * as the vocabulary. `first`: first token of a text (SPM drops the prefix space). */
struct view vocab_bytes(const struct vocab *v, int32_t id, bool first);

/* What the vocabulary calls a token: its bytes, or the name of a control token. */
struct view vocab_name(const struct vocab *v, int32_t id);

/* Streaming UTF-8: bytes in, whole characters out (formats-and-models 5.6). */
struct utf8_stream {
        uint8_t pending[4];
        size_t n;
};
/* Feed n bytes; writes whole characters to out (room for 3 * (n + 4) bytes: a byte that can never
 * become valid turns into U+FFFD) and returns the bytes written. */
size_t utf8_stream_feed(struct utf8_stream *s, const uint8_t *bytes, size_t n, char *out);
/* End of text: what is pending becomes U+FFFD. Room for 4 bytes. */
size_t utf8_stream_end(struct utf8_stream *s, char *out);
