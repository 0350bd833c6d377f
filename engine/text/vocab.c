/* The vocabulary object: what callers may ask about tokens. Loading is in vocab-load.c, encoding in
 * encode.c. The object owns copies of everything it needs; the model file may go away. */

#include <stdlib.h>
#include <string.h>

#include "engine/text/chat.h"
#include "engine/text/vocab-internal.h"

int vocab_load(struct vocab **ret, const struct gguf *g, struct model_error *err) {
        struct vocab *v = calloc(1, sizeof(*v));
        if (!v)
                return model_fail(err, MODEL_E_MEMORY, 0, sizeof(*v), 0, NULL, 0);
        int r = vocab_read(v, g, err);
        if (r < 0) {
                vocab_free(v);
                return r;
        }
        v->chat_format = (int)chat_detect(g, v);
        v->default_system = chat_default_system(g);
        *ret = v;
        return 0;
}

struct vocab *vocab_free(struct vocab *v) {
        if (!v)
                return NULL;
        specials_done(&v->specials);
        specials_done(&v->user_defined);
        merge_table_done(&v->merges);
        text_table_done(&v->by_text);
        free(v->texts.bytes);
        free(v->texts.offsets);
        free(v->flags);
        free(v->keys);
        free(v);
        return NULL;
}

static bool is_token(const struct vocab *v, int32_t id) {
        return id >= 0 && (uint32_t)id < v->texts.n;
}

uint32_t vocab_size(const struct vocab *v) {
        return v->texts.n;
}

int32_t vocab_bos(const struct vocab *v) {
        return v->bos;
}

int32_t vocab_eos(const struct vocab *v) {
        return v->eos;
}

bool vocab_add_bos(const struct vocab *v) {
        return v->add_bos;
}

bool vocab_add_eos(const struct vocab *v) {
        return v->add_eos;
}

bool vocab_is_end(const struct vocab *v, int32_t id) {
        return is_token(v, id) && v->flags[id] & TOKEN_IS_END;
}

bool vocab_is_control(const struct vocab *v, int32_t id) {
        return is_token(v, id) &&
               (token_type(v, id) == TOKEN_CONTROL || token_type(v, id) == TOKEN_UNKNOWN);
}

int vocab_chat_format(const struct vocab *v) {
        return v->chat_format;
}

const char *vocab_default_system(const struct vocab *v) {
        return v->default_system;
}

int32_t vocab_special(const struct vocab *v, const char *text) {
        return specials_exact(&v->specials,
                              (struct view){.p = (const uint8_t *)text, .n = strlen(text)});
}

struct view vocab_bytes(const struct vocab *v, int32_t id, bool first) {
        struct view none = {0};
        if (!is_token(v, id))
                return none;
        unsigned type = token_type(v, id);
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_UNUSED)
                return none;
        struct view text = texts_at(&v->texts, (uint32_t)id);
        bool prefixed = first && v->kind == VOCAB_SPM && v->add_space_prefix;
        if (prefixed && type != TOKEN_USER_DEFINED && text.n > 0 && text.p[0] == ' ')
                return (struct view){.p = text.p + 1, .n = text.n - 1};
        return text;
}

struct view vocab_name(const struct vocab *v, int32_t id) {
        return is_token(v, id) ? texts_at(&v->texts, (uint32_t)id) : (struct view){0};
}
