/* The inside of struct vocab, shared by the files of this folder only. */
#pragma once

#include "engine/text/pretokenize.h"
#include "engine/text/special.h"
#include "engine/text/table.h"
#include "engine/text/vocab.h"

enum vocab_kind {
        VOCAB_BPE, /* tokenizer.ggml.model "gpt2" */
        VOCAB_SPM, /* "llama" */
};

/* Token types as the file has them (formats-and-models 5.4), in the low bits of a flag byte. */
enum {
        TOKEN_UNDEFINED,
        TOKEN_NORMAL,
        TOKEN_UNKNOWN,
        TOKEN_CONTROL,
        TOKEN_USER_DEFINED,
        TOKEN_UNUSED,
        TOKEN_BYTE,
        _TOKEN_TYPE_MAX,
        TOKEN_TYPE_MASK = 0x07,
        TOKEN_IS_END = 0x08,      /* ends a generation */
        TOKEN_EATS_SPACE = 0x10,  /* white space after it belongs to it (Phi-3) */
        TOKEN_IS_LITERAL = 0x20,  /* its text has no normal form, so merging never makes it */
};

struct vocab {
        enum vocab_kind kind;
        enum pretokenizer pretokenizer; /* BPE */
        bool add_bos, add_eos;
        bool add_space_prefix;          /* SPM: a text starts with a space */
        int32_t bos, eos, unknown;

        /* Text of every token in the form it has in output: byte map undone, U+2581 a space, byte
         * tokens one byte. Special tokens as written. */
        struct texts texts;
        uint8_t *flags;                 /* one per token */
        struct text_table by_text;      /* normal tokens: what ordinary text can become */
        uint32_t longest;               /* bytes of the longest of them */
        int32_t bytes[256];             /* token of a single byte, TOKEN_NONE where there is none */

        struct merge_table merges;      /* BPE */
        uint32_t *keys;                 /* SPM: score, as a key that orders like a merge rank */

        struct specials specials;       /* control, unknown, user-defined */
        struct specials user_defined;   /* the part that is recognised in user text, too */

        int chat_format;
        const char *default_system;
};

static inline unsigned token_type(const struct vocab *v, int32_t id) {
        return v->flags[id] & TOKEN_TYPE_MASK;
}

/* Where encoding puts ids: at most max of them (0: no limit). Returns 0, -E2BIG, -ENOMEM. */
struct sink {
        struct tokens *out;
        size_t max;
};
int sink_push(struct sink *s, int32_t id);
/* The token of one byte; the unknown token where the vocabulary has none for it, or nothing at all
 * when there is no unknown token either (what the reference tokenizers do). */
int sink_push_byte(struct sink *s, const struct vocab *v, uint8_t byte);

struct gguf;

/* Fill *v (zeroed) from the metadata; on error the caller frees what is there. */
int vocab_read(struct vocab *v, const struct gguf *g, struct model_error *err);

struct merger;

/* Encode a fragment of ordinary text. bpe_encode splits it; spm_encode takes it in normal form. */
int bpe_encode(const struct vocab *v, struct merger *m, struct view text, struct sink *sink);
int spm_encode(const struct vocab *v, struct merger *m, struct view text, bool space_first,
               struct sink *sink);
